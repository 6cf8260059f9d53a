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
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import skimage.data
import torch

from rnan_plugin import checkpoints
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.data.pairs import pair_of
from rnan_plugin.errors import exit_status
from rnan_plugin.evaluation.evaluate import evaluate
from rnan_plugin.evaluation.methods import Method, MethodSource, build_method
from rnan_plugin.evaluation.protocol import score
from rnan_plugin.files import atomic_path
from rnan_plugin.images.degradations import Image
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.restorer import RestoreSettings
from rnan_plugin.inference.shipped import FOLDER, OVERLAP, TILE, measured_tiles, shipped_file, shipped_tasks
from rnan_plugin.options.inputs import inputs_of
from rnan_plugin.options.schema import read_option_file
from rnan_plugin.paper.tables import OTHER_SSIM, published_rows
from rnan_plugin.paper.tasks import TaskAtLevel, trained_task
from rnan_plugin.version import __version__

REPOSITORY = Path(__file__).resolve().parents[1]
NUMBERS = REPOSITORY / "docs/small_models.json"
LOGS = REPOSITORY / "docs/small_models"
BENCHMARKS = {"car": "Classic5", "graydn": "Kodak24", "colordn": "Kodak24", "demosaic": "Kodak24", "sr": "Set5"}
BAR = {"car": 29.10, "graydn": 26.99, "colordn": 28.63, "demosaic": 39.5, "sr": 36.66}
SAMPLE_SIDE = 96


def stem_of(options: Mapping[str, Any]) -> str:
    """How the package calls what an option file trains; see `rnan_plugin.inference.shipped`."""
    dataset = options["datasets"]["train"]
    found = trained_task(dataset["degradation"], dataset["channels"])
    assert found is not None
    row, level = found
    if isinstance(level, list):
        return inputs_of(row.name, blind=True, channels=dataset["channels"]).file_stem
    assert level is None or isinstance(level, int | float)
    return inputs_of(row.name, level, channels=dataset["channels"]).file_stem


def pack(option_file: str, which: str) -> Path:
    """Write a training's weights, the best or the latest, into the package with its network, and keep its log."""
    options = read_option_file(option_file)
    experiment = Path("experiments", options["name"])
    best = checkpoints.read(experiment / f"models/net_g_{which}.pth")
    network = {key: value for key, value in options["network_g"].items() if key != "type"}
    RNAN(**network).load_state_dict(best["params"], strict=True)
    LOGS.mkdir(exist_ok=True)
    logs = sorted(experiment.glob("train_*.log"))
    text = "".join(log.read_text(encoding="utf-8") for log in logs)
    (LOGS / f"{options['name']}.log").write_text(_for_keeping(text), encoding="utf-8")
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{stem_of(options)}.pth"
    facts = {
        "network_g": network,
        "params": {name: value.contiguous() for name, value in best["params"].items()},
        "option_file": Path(option_file).name,
        "iterations": max(map(int, (found.replace(",", "") for found in re.findall(r"\biter:\s*([\d,]+)", text)))),
        "hours": round(_seconds(text) / 3600, 2),
    }
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


def restored_sample(task: TaskAtLevel, img: Image) -> tuple[Image, Image, Image, float]:
    """Degraded, restored and true image of an RGB photograph, and the PSNR of the restored one."""
    lq, gt = pair_of(task, img, "sample")
    restored = packed_method(task, ensemble=False).restore(lq, "sample")
    return lq, restored, gt, score(restored, gt, task)[0]


def sample_scores(task: TaskAtLevel) -> dict[str, float]:
    """PSNR of the packed model on the sample photographs."""
    return {name: restored_sample(task, img)[3] for name, img in samples().items()}


def packed_method(task: TaskAtLevel, *, ensemble: bool) -> Method:
    """The packed model as its numbers are measured."""
    settings = RestoreSettings(measured_tiles(Policy(self_ensemble=ensemble)), device="cpu")
    return build_method(MethodSource("shipped"), task, settings, [])


def measure(task: TaskAtLevel, sets: str) -> dict[str, Any]:
    """Everything that docs/small_models.json says of a packed model."""
    checkpoint, benchmark = checkpoints.read(shipped_file(task)), BENCHMARKS[task.name]
    numbers = {}
    for key, ensemble in (("plain", False), ("self_ensemble", True)):
        evaluation = evaluate(packed_method(task, ensemble=ensemble), task, f"{sets}/{benchmark}")
        numbers[key] = {key: round(value, 4) for key, value in asdict(evaluation.mean).items() if key != "seconds"}
    return {
        "task": task.name,
        "level": task.level,
        "image_set": benchmark,
        "fingerprint": evaluation.fingerprint,
        **numbers,
        "bar_psnr": BAR[task.name],
        "policy": f"tile {TILE}, overlap {OVERLAP}",
        "parameters": evaluation.settings["parameters"],
        "iterations": checkpoint["iterations"],
        "hours": checkpoint["hours"],
        "option_file": f"options/small/{checkpoint['option_file']}",
        "weights_sha256": evaluation.settings["weights_sha256"],
        "samples_psnr": {name: round(value, 4) for name, value in sample_scores(task).items()},
        "rnan_plugin": __version__,
    }


CARD = """# {name}: a small RNAN for {title}

Small network, small budget: for trying the plugin, as a start for training of your own, and as a baseline. Not the
paper's network, whose numbers stand below for comparison.

- Architecture: RNAN, text settings, {network}; {parameters:,} parameters, float32
- Data: BSD400 (BSDS500's train and test images, 481×321, JPEG of quality about 95), 380 images; 20 held out to choose
  the checkpoint. No benchmark image was seen
- Training: `python -m rnan_plugin train -opt {option_file}`, {iterations:,} iterations, {hours} hours on one core of an
  AMD EPYC with bfloat16 instructions; log in docs/small_models
- Input: {input}; output rounded to 8 bits; tiles of {tile}
- Scored on: {scored}
- Limits: trained for this degradation at this level alone; other noise levels, JPEG qualities or scales, and real
  noise, which is neither Gaussian nor white, are not what it knows
- Licence: the weights are under the plugin's. The Berkeley images carry none of their own; Berkeley offers them for
  non-commercial research and education

| on {image_set} | PSNR (dB) | SSIM |
|---|---|---|
{rows}
"""


def card(task: TaskAtLevel, numbers: dict[str, Any]) -> str:
    """The model card."""
    network = checkpoints.read(shipped_file(task))["network_g"]
    rows = [("this model", numbers["plain"]), ("this model, self-ensemble", numbers["self_ensemble"])]
    lines = [f"| {name} | {score['psnr']:.2f} | {score['ssim']:.4f} |" for name, score in rows]
    for row in published_rows(task.name, task.level, numbers["image_set"]):
        trained = f", {row.training_set}" if row.training_set else ""
        ssim = f"{row.ssim:.4f}" if row.ssim is not None else ""
        lines.append(f"| {row.method} (published, Table {row.table}{trained}) | {row.psnr:.2f} | {ssim} |")
    described = ", ".join(f"{key} {value}" for key, value in network.items())
    scored = f"{task.scored_on}, border {task.border}"
    if any(row.other_ssim for row in published_rows(task.name, task.level, numbers["image_set"])):
        scored += f". {OTHER_SSIM}"
    facts = {**numbers, "scored": scored, "tile": f"{TILE} pixels, overlap {OVERLAP}"}
    return CARD.format(
        name=str(task), title=task.title, input=task.input, network=described, rows="\n".join(lines), **facts
    )


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="from experiments/ into the package")
    packing.add_argument("option_files", nargs="+")
    packing.add_argument("--take", choices=["best", "latest"], default="best", help="which weights (default: best)")
    measuring = commands.add_parser("measure", help="numbers and model cards of what is packed")
    measuring.add_argument("--sets", default="datasets", help="folder of Classic5, Kodak24, Set5 (default: datasets)")
    measuring.add_argument("--only", nargs="+", help="tasks (default: all)")
    args = parser.parse_args()
    if args.command == "pack":
        print(*(pack(file, args.take) for file in args.option_files), sep="\n")
        return 0
    for task in shipped_tasks():
        if not args.only or task.name in args.only:
            numbers = measure(task, args.sets)
            known = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {}
            NUMBERS.write_text(json.dumps({**known, str(task): numbers}, indent=1) + "\n", encoding="utf-8")
            shipped_file(task).with_suffix(".md").write_text(card(task, numbers), encoding="utf-8")
            print(task, numbers)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
