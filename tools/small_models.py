"""Pack the finished small models into the package, and measure what is there.

    python tools/small_models.py pack options/small/train_RNAN_small_CAR_q10.yml    # weights, log
    python tools/small_models.py measure --sets datasets                            # numbers, model cards

`pack` takes the best checkpoint of a finished training below `experiments/`, by held-out images of BSD400. `measure`
scores each packed model on its benchmark with and without self-ensemble, writes docs/small_models.json, and a card
beside each model. `rnan evaluate SET --task TASK --level LEVEL --tile 64 --overlap 8` gives the same numbers.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import skimage.data
import torch
from model_cards import LOGS, NUMBERS, TILES, known_numbers, path_of, recipe_of, trained_by, write_card

from rnan_plugin import checkpoints
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.data.image_store import is_lmdb, open_store
from rnan_plugin.data.pairs import pair_of
from rnan_plugin.errors import UserError, exit_status
from rnan_plugin.evaluation.evaluate import evaluate
from rnan_plugin.evaluation.methods import Method, MethodSource, build_method
from rnan_plugin.evaluation.protocol import score
from rnan_plugin.files import atomic_path, sha256_of
from rnan_plugin.images.degradations import Image, image_stream
from rnan_plugin.images.levels import level_range
from rnan_plugin.inference.networks import load_network
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.restorer import Restorer, RestoreSettings
from rnan_plugin.inference.shipped import FOLDER, OVERLAP, TILE, ShippedNetwork, shipped_networks, training_spent
from rnan_plugin.options.inputs import inputs_of, trained_task
from rnan_plugin.options.schema import read_option_file
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.version import __version__

BENCHMARKS = {"car": "Classic5", "graydn": "Kodak24", "colordn": "Kodak24", "demosaic": "Kodak24", "sr": "Set5"}
COLOUR_BENCHMARK = "Kodak24"  # of networks on other channels than the paper's
# PSNR aimed at on these: a little above ARCNN, BM3D, CBM3D, IRCNN, SRCNN.
BARS: dict[str, dict[float, float]] = {
    "car": {10: 29.25, 20: 31.40, 30: 32.70, 40: 33.50},
    "graydn": {10: 34.60, 30: 29.30, 50: 27.15, 70: 25.85},
    "colordn": {10: 36.75, 30: 31.10, 50: 28.90, 70: 27.45},
    "demosaic": {0: 41.70},
    "sr": {2: 37.05, 3: 33.20, 4: 30.90},
}
BLIND_LEVELS = {
    "car_5-95": (10, 20, 30, 40),
    "car_rgb_5-95": (10, 20, 40, 75, 90),
    "colordn_0-75": (0, 10, 30, 50, 70),
    "graydn_0-75": (0, 10, 30, 50, 70),
}
LARGEST_PSNR = 99.0  # of equal images it is infinite
SAMPLE_SIDE = 96


def stem_of(options: Mapping[str, Any]) -> str:
    """How the package calls what an option file trains; see `rnan_plugin.inference.shipped`."""
    return _stem_of_inputs(options) + ("_medium" if "_medium_" in options["name"] else "")


def _stem_of_inputs(options: Mapping[str, Any]) -> str:
    dataset = options["datasets"]["train"]
    found = trained_task(dataset["degradation"], dataset["channels"])
    assert found is not None
    row, level = found
    if level_range(level) is not None:
        return inputs_of(row.name, blind=True, channels=dataset["channels"]).file_stem
    assert level is None or isinstance(level, int | float)
    return inputs_of(row.name, level, channels=dataset["channels"]).file_stem


def pack(option_file: str, which: str) -> Path:
    """Write a training's weights into the package with its network, and keep its log.

    Of "mean" those half way from what is packed, which it went on from, to its best: that keeps more of what the former
    does well (Wortsman et al., Model soups, ICML 2022).

    In float16, half the size: the loss is below a thousandth of a dB, and all numbers are measured from the file.
    """
    options = read_option_file(option_file)
    experiment, file = Path("experiments", options["name"]), FOLDER / f"{stem_of(options)}.pth"
    taken = checkpoints.read(experiment / f"models/net_g_{'latest' if which == 'latest' else 'best'}.pth")["params"]
    network = {key: value for key, value in options["network_g"].items() if key != "type"}
    RNAN(**network).load_state_dict(taken, strict=True)
    went_on = Path(options["path"]["pretrain_network_g"] or "").name == file.name
    packed = checkpoints.read(file) if went_on else None
    if which == "mean":
        if packed is None:
            raise UserError(f"{option_file}: path.pretrain_network_g is not {file.name}, so there is no mean of both")
        taken = {name: (value + packed["params"][name].float()) / 2 for name, value in taken.items()}
    text = _for_keeping("".join(log.read_text(encoding="utf-8") for log in sorted(experiment.glob("train_*.log"))))
    facts = {
        "network_g": network,
        "params": {name: value.half().contiguous() for name, value in taken.items()},
        "option_file": f"{options['name']}.yml",
        "recipe": recipe_of(option_file),
        "iterations": max(map(int, (found.replace(",", "") for found in re.findall(r"\biter:\s*([\d,]+)", text)))),
        "hours": round(_seconds(text) / 3600, 2),
        **({"mean": True} if which == "mean" else {}),
    }
    kept = LOGS / f"{options['name']}.log"
    if packed is not None:
        facts["before"] = dict(zip(("iterations", "hours"), training_spent(packed), strict=True))
        if kept.exists():  # by the same option file
            text = f"{kept.read_text(encoding='utf-8')}\n{text}"
    LOGS.mkdir(exist_ok=True)
    kept.write_text(text, encoding="utf-8")
    FOLDER.mkdir(exist_ok=True)
    with atomic_path(file) as temporary:
        torch.save(facts, temporary)
    return file


def _for_keeping(log: str) -> str:
    """A log without the machine's paths, its banner, and its options, which have a file of their own."""
    kept = re.findall(
        r"^(?:\d{4}-\d\d-\d\d .*INFO: (?:\[|Validation|Start|Resum|Model|End|Saving).*|\t # .*)$", log, re.M
    )
    return "\n".join(kept) + "\n"


def _seconds(log: str) -> float:
    """Time of all iterations, from the mean that the log has for each."""
    total, before = 0.0, 0
    for iteration, duration in re.findall(r"iter:\s*([\d,]+).*?time \(data\): ([\d.]+)", log):
        count = int(iteration.replace(",", ""))
        total += max(0, count - before) * float(duration)
        before = count
    return total


def samples() -> dict[str, Image]:
    """Two small photographs that come with scikit-image."""
    whole = {"astronaut": skimage.data.astronaut(), "cat": skimage.data.chelsea()}
    return {name: img[30 : 30 + SAMPLE_SIDE, 150 : 150 + SAMPLE_SIDE] for name, img in whole.items()}


def restored_sample(task: TaskAtLevel, img: Image, weights: str | None = None) -> tuple[Image, Image, Image, float]:
    """Degraded, restored and true image of an RGB photograph, and the PSNR of the restored one."""
    lq, gt = pair_of(task, img, "sample")
    restored = packed_method(task, ensemble=False, weights=weights).restore(lq, "sample")
    return lq, restored, gt, score(restored, gt, task)[0]


def sample_scores(task: TaskAtLevel, weights: str | None = None) -> dict[str, float]:
    """PSNR of a packed model on the sample photographs."""
    return {name: restored_sample(task, img, weights)[3] for name, img in samples().items()}


def packed_method(task: TaskAtLevel, *, ensemble: bool, weights: str | None = None) -> Method:
    """A packed model, by file or name or that of the task, as its numbers are measured."""
    settings = RestoreSettings(Policy("tile", TILE, OVERLAP, self_ensemble=ensemble), device="cpu")
    return build_method(MethodSource("network", weights=weights), task, settings, [])


def pair_for(network: ShippedNetwork, task: TaskAtLevel, img: Image, source: str) -> tuple[Image, Image]:
    """LQ and ground truth in the channels that a network works on; arguments as of `pair_of`."""
    if network.is_the_tasks:
        return pair_of(task, img, source)
    return np.asarray(task.degradation(img, image_stream(img, task.noise_seed)), dtype=np.uint8), img


def measure(network: ShippedNetwork, sets: str, *, ensemble: bool) -> dict[str, Any]:
    """Everything that docs/small_models.json says of a packed network of a single level."""
    task, benchmark, file = TaskAtLevel(network.task, network.low), BENCHMARKS[network.task], str(network.file)
    numbers = {}
    for key, eightfold in (("plain", False), ("self_ensemble", True))[: 1 + ensemble]:
        evaluation = evaluate(packed_method(task, ensemble=eightfold, weights=file), task, f"{sets}/{benchmark}")
        numbers[key] = {"psnr": round(evaluation.mean.psnr, 4), "ssim": round(evaluation.mean.ssim, 4)}
    return {
        "task": task.name,
        "level": task.level,
        "size": network.size,
        "image_set": benchmark,
        "fingerprint": evaluation.fingerprint,
        **numbers,
        "bar_psnr": BARS[task.name][task.level or 0],
        **_origin(network),
        "samples_psnr": {name: round(value, 4) for name, value in sample_scores(task, file).items()},
    }


def measure_blind(network: ShippedNetwork, sets: str) -> dict[str, Any]:
    """The same of a network for unknown levels, at the levels of the paper and those that files have."""
    benchmark = BENCHMARKS[network.task] if network.is_the_tasks else COLOUR_BENCHMARK
    store = open_store(f"{sets}/{benchmark}", is_lmdb=is_lmdb(f"{sets}/{benchmark}"))
    levels = {}
    for level in BLIND_LEVELS[network.file.stem]:
        found = mean_scores(network, level, ((name, store.read(name)) for name in store.names))
        levels[f"{level:g}"] = {key: round(value, 4) for key, value in found.items()}
    return {
        "task": network.task,
        "is_the_tasks": network.is_the_tasks,
        "image_set": benchmark,
        "scored_on": "Y" if network.channels == "y" else f"all channels ({network.channels})",
        "levels": levels,
        **_origin(network),
    }


def mean_scores(network: ShippedNetwork, level: float, images: Iterable[tuple[str, Image]]) -> dict[str, float]:
    """Mean PSNR of the input, and PSNR and SSIM of what a packed network makes of it, over named images."""
    task = TaskAtLevel(network.task, level)
    net = load_network(None, str(network.file)).net
    restorer = Restorer(net, None, RestoreSettings(Policy("tile", TILE, OVERLAP), device="cpu"), task)
    rows = []
    for name, img in images:
        lq, gt = pair_for(network, task, img, name)
        before, after = score(lq, gt, task), score(restorer(lq, name)[0], gt, task)
        rows.append((min(before[0], LARGEST_PSNR), min(after[0], LARGEST_PSNR), after[1]))
    return dict(zip(("input_psnr", "psnr", "ssim"), map(fmean, zip(*rows, strict=True)), strict=True))


def _origin(network: ShippedNetwork) -> dict[str, Any]:
    checkpoint = checkpoints.read(network.file)
    return {
        "policy": TILES,
        "parameters": sum(weight.numel() for weight in checkpoint["params"].values()),
        "iterations": checkpoint["iterations"],
        "hours": checkpoint["hours"],
        **({"before": checkpoint["before"]} if "before" in checkpoint else {}),
        "option_file": path_of(checkpoint["option_file"]),
        "recipe": trained_by(network, checkpoint),
        "weights_sha256": sha256_of(network.file),
        "rnan_plugin": __version__,
    }


def measure_all(sets: str, only: Sequence[str], *, ensemble: bool) -> None:
    """Measure networks, all or those whose files are named, and keep each one's numbers and card when it is done."""
    for network in shipped_networks():
        if only and network.file.stem not in only:
            continue
        numbers = measure_blind(network, sets) if network.is_blind else measure(network, sets, ensemble=ensemble)
        known = known_numbers()
        before = known.get(str(network), {})
        if before.get("weights_sha256") == numbers["weights_sha256"]:
            numbers = {**before, **numbers}  # a self-ensemble that was measured before
        text = json.dumps(dict(sorted({**known, str(network): numbers}.items())), indent=1)
        NUMBERS.write_text(text + "\n", encoding="utf-8")
        write_card(network)
        print(network, numbers, flush=True)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="from experiments/ into the package")
    packing.add_argument("option_files", nargs="+")
    packing.add_argument(
        "--take", choices=["best", "latest", "mean"], default="best", help="which weights (default: best)"
    )
    measuring = commands.add_parser("measure", help="numbers and model cards of what is packed")
    measuring.add_argument("--sets", default="datasets", help="folder of Classic5, Kodak24, Set5 (default: datasets)")
    measuring.add_argument(
        "--only", nargs="+", default=[], help="names of weights' files, without ending (default: all)"
    )
    measuring.add_argument(
        "--plain", action="store_true", help="without the self-ensemble, which takes eight times as long"
    )
    args = parser.parse_args()
    if args.command == "pack":
        print(*(pack(file, args.take) for file in args.option_files), sep="\n")
        return 0
    measure_all(args.sets, args.only, ensemble=not args.plain)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
