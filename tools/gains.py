"""Measure at which levels each packed network improves an image, and write it into the card that `restore` reads.

    python tools/gains.py datasets/BSD400_held_out.lmdb            # all of them
    python tools/gains.py datasets/BSD400_held_out.lmdb car_10     # one

The mean gain in PSNR over the centres of the held-out images of BSD400, which choose checkpoints too, halved; no
benchmark image is looked at. `rnan_plugin/weights/NAME.json` gets the gain at each level of a grid, and `gains`: the
widest interval around the levels of the training in which no level loses.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from model_cards import TILES, write_card
from small_models import mean_scores

from rnan_plugin.data.image_store import ImageStore, is_lmdb, open_store
from rnan_plugin.errors import exit_status
from rnan_plugin.images.bicubic import downsample
from rnan_plugin.images.degradations import Image
from rnan_plugin.inference.shipped import ShippedNetwork, default_networks
from rnan_plugin.paper.tasks import TASKS

SIDE = 144  # of the centres, whose images are halved: their own JPEG compression would pass for what is to be found
GRIDS = {
    "awgn": (0, 1, 2, 3, 5, 8, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75),
    "jpeg": (5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95),
}


def centres(store: ImageStore) -> list[Image]:
    """The middle of each image, halved."""
    images = []
    for name in store.names:
        img = store.read(name)
        img = downsample(img[: img.shape[0] // 2 * 2, : img.shape[1] // 2 * 2], 2)
        top, left = ((length - SIDE) // 2 for length in img.shape[:2])
        images.append(np.ascontiguousarray(img[top : top + SIDE, left : left + SIDE]))
    return images


def measure(network: ShippedNetwork, images: list[Image]) -> dict[str, float]:
    """Gains of a packed network, by level."""
    measured = {}
    for level in _grid(network):
        found = mean_scores(network, level, ((str(number), img) for number, img in enumerate(images)))
        measured[f"{level:g}"] = round(found["psnr"] - found["input_psnr"], 3)
        print(f"{network}, level {level:g}: {measured[f'{level:g}']:+.3f} dB", flush=True)
    return measured


def _grid(network: ShippedNetwork) -> list[float]:
    """All levels; of a network for one level, those from its half to its double: beyond them others gain more."""
    grid = GRIDS[TASKS[network.task].degradation]
    single = None if network.is_blind else network.low
    return [level for level in grid if single is None or single / 2 <= level <= 2 * single]


def interval(measured: dict[str, float], low: float, high: float) -> list[float] | None:
    """The widest interval of levels without a loss that holds a level of the training; None where all lose."""
    levels = [float(level) for level in measured]
    good = [value > 0 for value in measured.values()]
    runs: list[list[float]] = []
    for index, (level, gains) in enumerate(zip(levels, good, strict=True)):
        if gains and index and good[index - 1]:
            runs[-1].append(level)
        elif gains:
            runs.append([level])
    holding = [run for run in runs if run[-1] >= low and run[0] <= high]
    best = max(holding, key=len, default=None)
    return [best[0], best[-1]] if best else None


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("held_out", help="held-out images: a folder or LMDB")
    parser.add_argument("only", nargs="*", help="names of weights' files, without ending (default: all)")
    args = parser.parse_args()
    images = centres(open_store(args.held_out, is_lmdb=is_lmdb(args.held_out)))
    for network in default_networks():
        graded = TASKS[network.task].degradation in GRIDS and network.low is not None and network.high is not None
        if not graded or (args.only and network.file.stem not in args.only):
            continue
        measured = measure(network, images)
        card = {
            "gains": interval(measured, network.low or 0, network.high or 0),
            "measured_gain_db": measured,
            "on": f"{SIDE}×{SIDE} centres of {len(images)} images of {Path(args.held_out).stem}, halved",
            "policy": TILES,
        }
        network.file.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        write_card(network)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
