"""Samples a second and core of the data set against the toolbox's own, from the same images, in one run.

    python benchmarks/data.py FOLDER                # some photographs; a few minutes
    python benchmarks/data.py FOLDER --json FILE    # {"samples_ratio": {task: {codec: ratio}}, ...}

The toolbox reads ready-made LQ and GT (PNG in LMDB by its own tool, sub-images of 480, step 240), crops and flips.
Ours reads the ground truth alone and degrades it: raw (whole images) and PNG (the same sub-images). One process, one
thread, inputs of 48×48. Ratios are medians of runs measured in turn; the floor is what no pipeline can avoid: copying
the crop out of memory and the noise generator, JPEG codec, or filter alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from rnan_plugin.data.dataset_options import build_chain
from rnan_plugin.data.image_sources import collect_images
from rnan_plugin.data.image_store import FolderStore
from rnan_plugin.data.lmdb_writer import Layout, pack, sub_images
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.images.codec import encode_png
from rnan_plugin.images.color import convert_channels
from rnan_plugin.images.degradations import degrade
from rnan_plugin.images.levels import fixed
from rnan_plugin.options.inputs import inputs_of
from rnan_plugin.toolbox.api import PairedImageDataset, make_lmdb_from_imgs

Image = NDArray[np.uint8]
Draw = Callable[[int], object]

LQ_SIZE = 48
SUB_SIZE, SUB_STEP = 480, 240  # the toolbox's convention for DIV2K
LEVELS = {"colordn": 30, "graydn": 30, "demosaic": None, "car": 10, "sr": 2}
TASKS: dict[str, dict[str, Any]] = {
    name: {"channels": given.channels, "degradation": given.drawn(), "scale": given.scale}
    for name, level in LEVELS.items()
    for given in [inputs_of(name, level)]
}
IMAGE_SIZES = ((480, 480), (1024, 1024), (1356, 2040))


def options(task: str, root: Path, codec: str = "png") -> dict[str, Any]:
    """Options of our data set for a task."""
    scale = TASKS[task]["scale"]
    keys = {"name": codec, "type": "RestorationDataset", "phase": "train", "gt_size": LQ_SIZE * scale}
    return {**keys, **TASKS[task], "dataroot_gt": str(root), "io_backend": {"type": "lmdb"}}


def toolbox_options(task: str, gt: Path, lq: Path) -> dict[str, Any]:
    """Options of the toolbox's data set for the same inputs, ready-made."""
    scale = TASKS[task]["scale"]
    roots = {"dataroot_gt": str(gt), "dataroot_lq": str(lq), "io_backend": {"type": "lmdb"}}
    keys = {"name": "toolbox", "phase": "train", "scale": scale, "gt_size": LQ_SIZE * scale}
    return {**roots, **keys, "use_hflip": True, "use_rot": True}


def toolbox_lmdb(images: Iterator[tuple[str, Image]], target: Path) -> None:
    """Cut images into sub-images and let the toolbox's own tool pack them."""
    files = target.with_suffix(".files")
    files.mkdir()
    names = []
    for name, img in images:
        (files / f"{name}.png").write_bytes(encode_png(img))
        names.append(name)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        make_lmdb_from_imgs(str(files), str(target), [f"{name}.png" for name in names], names)


def ground_truth(folder: Path) -> Iterator[tuple[str, Image]]:
    """Sub-images of a folder's images."""
    store = FolderStore(str(folder))
    for name in store.names:
        for key, img in sub_images(store.read(name), name, SUB_SIZE, SUB_STEP):
            yield key, np.ascontiguousarray(img)


def degraded(folder: Path, task: str) -> Iterator[tuple[str, Image]]:
    """The same sub-images, degraded for a task."""
    rng = np.random.default_rng(0)
    chain = fixed(build_chain(TASKS[task]["degradation"], task), rng)
    for key, img in ground_truth(folder):
        yield key, np.asarray(degrade(convert_channels(img, TASKS[task]["channels"], key), chain, rng), np.uint8)


def samples_per_second(draw: Draw, length: int, seconds: float = 1.0) -> float:
    """Samples a second of `draw(index)`, over about the given time."""
    rng = np.random.default_rng(0)
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        draw(int(rng.integers(length)))
        count += 1
    return count / elapsed


def floor_draw(task: str, img: Image) -> Draw:
    """Copy the crops out of memory and run the degradation's own generator, codec or filter; nothing else."""
    num_channel = 3 if TASKS[task]["channels"] == "rgb" else 1
    scale = TASKS[task]["scale"]
    crop = np.ascontiguousarray(img[: LQ_SIZE * scale, : LQ_SIZE * scale, :num_channel])
    rng = np.random.default_rng(0)
    chain = fixed(build_chain(TASKS[task]["degradation"], task), rng)
    work: dict[str, Callable[[], object]] = {
        "awgn": lambda: rng.standard_normal(crop.shape, dtype=np.float32),
        "jpeg": lambda: chain[0](crop, rng),
    }
    run = work.get(TASKS[task]["degradation"]["type"], lambda: degrade(crop, chain, rng))

    def draw(_: int) -> None:
        crop.astype(np.float32)
        crop.astype(np.float32)
        run()

    return draw


def measure_task(task: str, folder: Path, work: Path) -> dict[str, float]:
    """Samples a second of the toolbox, of both codecs, and of the floor; medians of runs in turn."""
    toolbox_lmdb(degraded(folder, task), work / f"lq_{task}.lmdb")
    toolbox = PairedImageDataset(toolbox_options(task, work / "toolbox.lmdb", work / f"lq_{task}.lmdb"))
    ours = {codec: RestorationDataset(options(task, work / root, codec)) for codec, root in ROOTS.items()}
    rows: dict[str, list[float]] = {name: [] for name in ("toolbox", *ours, "floor")}
    floor = floor_draw(task, ours["raw"].gt_store.read(ours["raw"].gt_store.names[0]))
    for _ in range(5):
        rows["toolbox"].append(samples_per_second(toolbox.__getitem__, len(toolbox)))
        for codec, dataset in ours.items():
            rows[codec].append(samples_per_second(dataset.__getitem__, len(dataset)))
        rows["floor"].append(samples_per_second(floor, 1, 0.3))
    ratios = {codec: [a / b for a, b in zip(rows[codec], rows["toolbox"], strict=True)] for codec in ours}
    return {
        **{name: statistics.median(values) for name, values in rows.items()},
        **{f"{codec} ratio": statistics.median(values) for codec, values in ratios.items()},
    }


ROOTS = {"raw": "raw.lmdb", "png": "sub.lmdb"}


def cost_by_size(folder: Path, work: Path) -> dict[str, float]:
    """Microseconds of a raw sample by the size of the images it is cut from."""
    store = FolderStore(str(folder))
    tile = np.concatenate([store.read(name)[:256, :256] for name in store.names[:4]], axis=1)
    result = {}
    for height, width in IMAGE_SIZES:
        name = f"{width}x{height}"
        source = work / name
        source.mkdir()
        img = np.tile(tile, (height // 256 + 1, width // 1024 + 1, 1))[:height, :width]
        for index in range(8):
            cv2.imwrite(str(source / f"{index}.png"), np.roll(img, 17 * index, axis=1)[..., ::-1])
        pack(collect_images([source]), work / f"{name}.lmdb", Layout(codec="raw"))
        dataset = RestorationDataset(options("colordn", work / f"{name}.lmdb", "raw"))
        result[name] = 1e6 / statistics.median(samples_per_second(dataset.__getitem__, 8) for _ in range(3))
    return result


def resident() -> dict[str, float]:
    """This process's own and mapped resident memory in MiB (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return {name: int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) / 1024 for name in ("RssAnon", "RssFile")}


def growth(work: Path, count: int) -> dict[str, float]:
    """Growth of resident memory in MiB from the 1000th sample to the last of `count`."""
    dataset = RestorationDataset(options("colordn", work / "raw.lmdb", "raw"))
    before = resident()
    for index in range(count):
        if index == 1000:
            before = resident()
        dataset[index % len(dataset)]
    after = resident()
    return {name: after[name] - before[name] for name in before}


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="folder of photographs, each at least 480×480 to be cut as DIV2K is")
    parser.add_argument("--json", type=Path, help="write the ratios to this file")
    parser.add_argument("--samples", type=int, default=100_000, help="of the memory measurement (default: 100000)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        toolbox_lmdb(ground_truth(args.folder), work / "toolbox.lmdb")
        pack(collect_images([args.folder]), work / "sub.lmdb", Layout(SUB_SIZE, SUB_STEP))
        pack(collect_images([args.folder]), work / "raw.lmdb", Layout(codec="raw"))
        tasks = {}
        for task in TASKS:
            tasks[task] = measure_task(task, args.folder, work)
            print(f"{task:9}", *(f"{key} {value:.4g}  " for key, value in tasks[task].items()), flush=True)
        sizes, memory = cost_by_size(args.folder, work), growth(work, args.samples)
    print("microseconds a raw sample by image size:", *(f"{key} {value:.0f} " for key, value in sizes.items()))
    print(f"memory growth over {args.samples} samples, MiB:", *(f"{key} {value:.1f} " for key, value in memory.items()))
    if args.json:
        ratios = {task: {codec: row[f"{codec} ratio"] for codec in ROOTS} for task, row in tasks.items()}
        results = {"samples_ratio": ratios, "samples_per_second": tasks, "microseconds_by_size": sizes}
        args.json.write_text(json.dumps({**results, "memory_growth_mib": memory}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
