"""Everything that only a GPU can tell, in one run under ten minutes: tests, attention, training, data.

    python benchmarks/gpu.py build/gpu                         # writes build/gpu.json and build/gpu.png
    python benchmarks/gpu.py build/gpu --device cpu --quick    # tries the program itself, where there is no GPU

It runs the tests that are marked `gpu`; compares attention of 64² to 512² positions with the release's formulation,
the N×N matrix in plain torch; times training steps of the paper's network, and the loading of batches from made-up
images of DIV2K's size. What fails, as a matrix that does not fit, is a row that says so. Times are medians after a
warm-up; memory is the peak above what was held before. Errors are relative, against float64 in blocks of rows, for the
same inputs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import cv2
import matplotlib as mpl
import numpy as np
import torch
from data import options
from inference import EMBED, all_pairs_attention, released_formulation
from torch import Tensor
from torch.utils.data import DataLoader
from train import model_of

from rnan_plugin.archs import attention
from rnan_plugin.archs.attention import SoftmaxOver, non_local_attention
from rnan_plugin.data.image_sources import collect_images
from rnan_plugin.data.lmdb_writer import Layout, pack
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.device import PeakMemory, choose, is_out_of_memory
from rnan_plugin.errors import UserError

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Row = dict[str, Any]
Run = Callable[[], object]
Inputs = tuple[Tensor, Tensor, Tensor]  # query, key, value

ROOT = Path(__file__).resolve().parents[1]
WAYS = {"ours": non_local_attention, "release": all_pairs_attention}
STEPS = ("released", "plain", "bfloat16")


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    sides: tuple[int, ...] = (64, 128, 256, 512)
    network: str = "full"
    batch: int = 16
    patch: int = 48
    image: tuple[int, int] = (1356, 2040)  # DIV2K's
    batches: int = 50
    seconds: float = 1.0  # of each time


QUICK = Size((8, 16), "1+1", 2, 16, (128, 160), 2, 0.0)


def gpu_tests() -> Row:
    """Run the tests that need a GPU."""
    files = [str(file) for file in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in file.read_text("utf-8")]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"passed": done.returncode == 0, "summary": lines[-1] if lines else "", "failed": failed}


def median_seconds(run: Run, device: torch.device, least: float) -> float:
    """Median of at least three calls after one, over at least the given time."""
    times: list[float] = []
    run()
    while len(times) < 3 or sum(times) < least:
        _synchronise(device)
        start = time.perf_counter()
        run()
        _synchronise(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def cost(run: Run, device: torch.device, least: float) -> Row:
    """Seconds and peak memory of a call, or why there are none."""
    result: Row
    try:
        with PeakMemory(device) as memory:
            run()
        result = {"seconds": median_seconds(run, device, least), "bytes": memory.bytes}
    except (RuntimeError, MemoryError) as error:
        result = {"failed": "out of memory" if is_out_of_memory(error) else str(error).splitlines()[0]}
    # Outside the handler, whose traceback keeps the failed call's tensors alive.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return result


def attention_rows(device: torch.device, size: Size) -> list[Row]:
    """Cost and error of attention, forward alone and with its gradients."""
    rows = []
    for side in size.sides:
        torch.manual_seed(0)
        # Values of bfloat16, which all types hold.
        query, key, value = torch.randn(3, 1, side**2, EMBED).bfloat16().to(device)
        inputs = (query, key, value)
        for over in get_args(SoftmaxOver):
            exact = in_float64(inputs, over)
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                for way in WAYS:
                    row = {"side": side, "over": over, "dtype": str(dtype).removeprefix("torch."), "way": way}
                    rows.append(row | attention_row(way, as_type(inputs, dtype), over, exact, size))
                    print(told(rows[-1]), flush=True)
    return rows


@torch.no_grad()
def in_float64(inputs: Inputs, over: SoftmaxOver) -> Tensor:
    """What the attention should be, by plain products in blocks of rows."""
    query, key, value = as_type(inputs, torch.float64)
    return attention.gather(query, key, value) if over == "keys" else attention.scatter(key, query, value)


def as_type(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """Copies in a type, without their graph."""
    query, key, value = (tensor.detach().to(dtype, copy=True) for tensor in inputs)
    return query, key, value


def attention_row(way: str, inputs: Inputs, over: SoftmaxOver, exact: Tensor, size: Size) -> Row:
    """Measure one way of attending."""
    device, attend = inputs[0].device, WAYS[way]
    leaves = as_type(inputs, inputs[0].dtype)
    for tensor in leaves:
        tensor.requires_grad_()

    @torch.no_grad()
    def forward() -> Tensor:
        return attend(*inputs, over)

    def step() -> object:
        out = attend(*leaves, over)
        return torch.autograd.grad(out, leaves, torch.ones_like(out))

    row: Row = {"forward": cost(forward, device, size.seconds), "step": cost(step, device, size.seconds)}
    if "seconds" in row["forward"]:
        row["error"] = float((forward().double() - exact).norm() / exact.norm())
    return row


def told(row: Row) -> str:
    """A row of the attention's table."""
    costs = [f"{name} {told_cost(row[name])}" for name in ("forward", "step")]
    error = f"error {row['error']:.1e}" if "error" in row else ""
    return f"{row['side']:4}² over {row['over']:7} {row['dtype']:8} {row['way']:7}  {'  '.join(costs)}  {error}"


def told_cost(cost: Row) -> str:
    """Time and memory, or why there are none."""
    if "failed" in cost:
        return str(cost["failed"])
    memory = "" if cost["bytes"] is None else f" {cost['bytes'] / 2**20:8.1f} MiB"
    return f"{1e3 * cost['seconds']:9.3f} ms{memory}"


def training_rows(device: torch.device, size: Size) -> dict[str, Row]:
    """Cost of a step of forward, loss, backward, and Adam."""
    rows = {}
    for way in STEPS:
        model = model_of(size.network, way, str(device))
        data = {name: torch.rand(size.batch, 3, size.patch, size.patch) for name in ("lq", "gt")}

        def step(model: Any = model, data: dict[str, Tensor] = data) -> None:
            model.feed_data(data)
            model.optimize_parameters(1)

        with released_formulation() if way == "released" else nullcontext():
            rows[way] = cost(step, device, size.seconds)
        print(f"training step, {way}: {told_cost(rows[way])}", flush=True)
    return rows


def data_rows(size: Size) -> dict[str, float]:
    """Samples a second that data workers bring, by their number."""
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_images(work / "images", size)
        pack(collect_images([work / "images"]), work / "raw.lmdb", Layout(codec="raw"))
        dataset = RestorationDataset(options("colordn", work / "raw.lmdb", "raw"))
        for workers in sorted({1, os.cpu_count() or 1}):
            rows[f"{workers} worker(s)"] = samples_per_second(dataset, workers, size)
            print(f"data, {workers} worker(s): {rows[f'{workers} worker(s)']:.0f} samples a second", flush=True)
    return rows


def make_images(folder: Path, size: Size) -> None:
    """Smooth images with noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    height, width = size.image
    for index in range(8):
        smooth = cv2.resize(rng.integers(0, 256, (9, 12, 3)).astype(np.float32), (width, height))
        img = np.clip(smooth + 5 * rng.standard_normal((height, width, 3), np.float32), 0, 255)
        cv2.imwrite(str(folder / f"{index}.png"), img.astype(np.uint8))


def samples_per_second(dataset: RestorationDataset, workers: int, size: Size) -> float:
    """Speed of batches after the first."""
    count = (size.batches + 1) * size.batch
    indices = [index % len(dataset) for index in range(count)]
    batches = iter(DataLoader(dataset, size.batch, sampler=indices, num_workers=workers))
    next(batches)
    start = time.perf_counter()
    for _ in batches:
        pass
    return size.batches * size.batch / (time.perf_counter() - start)


def plot(rows: list[Row], target: Path) -> None:
    """Time and memory of forward and backward over the queries against positions."""
    figure, panels = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    draw(panels[0], rows, "time of attention and its gradients / ms", lambda cost: 1e3 * cost["seconds"])
    draw(panels[1], rows, "peak memory / MiB", lambda cost: max(cost["bytes"] or 0, 1) / 2**20)
    figure.savefig(target, dpi=110)
    plt.close(figure)


def draw(axes: Axes, rows: list[Row], label: str, value: Callable[[Row], float]) -> None:
    """A line for each way and type, named at its end."""
    for way, style in (("ours", "o-"), ("release", "s--")):
        for dtype, color in (("float32", "tab:blue"), ("bfloat16", "tab:orange")):
            kept = [row for row in rows if (row["way"], row["dtype"], row["over"]) == (way, dtype, "queries")]
            points = [(row["side"] ** 2, value(row["step"])) for row in kept if "seconds" in row["step"]]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=color, ms=4)
                behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
                name = axes.annotate(f"{way}, {dtype}", points[-1], (6, 0), textcoords="offset points", color=color)
                name.set(va="center", bbox=behind)
    sides = sorted({row["side"] for row in rows})
    axes.set(xlabel="positions", ylabel=label, xscale="log", yscale="log")
    axes.set_xlim(0.8 * sides[0] ** 2, 6 * sides[-1] ** 2)  # room for names
    axes.set_xticks([side**2 for side in sides], [f"{side}²" for side in sides])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def machine(device: torch.device) -> Row:
    """What it was measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "date": time.strftime("%Y-%m-%d")}


def main() -> int:
    """Run the command line; return the exit status, 1 where a test failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("target", type=Path, help="file to write, without its ending: .json and .png are added")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu with --quick (default: cuda)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, whose numbers say nothing")
    args = parser.parse_args()
    try:
        device = choose(args.device)
    except UserError as error:
        parser.error(f"{error}; `--device cpu --quick` tries the program itself")
    if device.type != "cuda" and not args.quick:
        parser.error(f"--device {args.device} measures nothing of a GPU; add --quick to try the program itself")
    size = QUICK if args.quick else Size()
    args.target.parent.mkdir(parents=True, exist_ok=True)
    results: Row = {"machine": machine(device), "quick": args.quick, "tests": gpu_tests()}
    print(results["tests"]["summary"], *results["tests"]["failed"], sep="\n", flush=True)
    results["attention"] = attention_rows(device, size)
    results["training"] = training_rows(device, size)
    results["data"] = data_rows(size)
    Path(f"{args.target}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    plot(results["attention"], Path(f"{args.target}.png"))
    return 0 if results["tests"]["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
