"""How far restoring in tiles is from restoring whole: by tile, overlap and window, on an option file's data sets.

    python benchmarks/tile_difference.py -opt options/test_RNAN_CAR_q10.yml
    python benchmarks/tile_difference.py -opt FILE --weights rnan_plugin/weights/car_10.pth
    python benchmarks/tile_difference.py -opt FILE --markdown     # as a table for documentation

The difference to `whole` is given as its root mean square and its largest value, in 8-bit levels before rounding;
beside it the PSNR against the ground truth and the time relative to `whole`.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.errors import UserError, exit_status
from rnan_plugin.evaluation.reports import markdown_table, text_table
from rnan_plugin.inference.networks import load_network
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.room import may_attend_in_windows
from rnan_plugin.inference.whole_images import restore
from rnan_plugin.options.schema import read_option_file

# Side and overlap of tiles, and the windows of attention in them.
TILES = (
    (256, 32, None),
    (128, 32, None),
    (128, 16, None),
    (128, 0, None),
    (96, 8, None),
    (64, 16, None),
    (64, 8, None),
    (64, 0, None),
    (32, 8, None),
    (192, 8, 64),
    (192, 8, 48),
    (192, 8, 32),
    (128, 8, 48),
)
COLUMNS = ("policy", "rms", "max", "PSNR", "time")


@dataclass
class Sums:
    """What is summed over the images for one policy."""

    square: float = 0.0  # mean squared difference to whole
    largest: float = 0.0
    psnr: float = 0.0
    seconds: float = 0.0

    def add(self, out: Tensor, whole: Tensor, gt: Tensor, seconds: float) -> None:
        """Add one image, all tensors (1, C, H, W) on 0..255."""
        difference = out - whole
        self.square += difference.square().mean().item()
        self.largest = max(self.largest, difference.abs().max().item())
        self.psnr += (10 * torch.log10(255**2 / (out.round() - gt).square().mean())).item()
        self.seconds += seconds


def images(opt: dict[str, Any], option_file: str) -> list[tuple[Tensor, Tensor]]:
    """LQ and ground truth of all images of the option file's data sets but the training set."""
    pairs = []
    for phase, dataset in opt["datasets"].items():
        if phase != "train":
            keys = {"phase": "val", "scale": opt.get("scale", 1)}
            samples = RestorationDataset({**dataset, **keys})
            pairs += [(samples[index]["lq"][None], samples[index]["gt"][None] * 255) for index in range(len(samples))]
    if not pairs:
        raise UserError(f"{option_file}: datasets has no set to restore; add one named val")
    return pairs


def measure(net: torch.nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> dict[str, Sums]:
    """Restore every image by every policy in turn."""
    tiles = TILES if may_attend_in_windows(net) else [tile for tile in TILES if tile[2] is None]
    policies = [Policy("whole"), Policy("release"), *(Policy("tile", *tile[:2], window=tile[2]) for tile in tiles)]
    sums = {policy.describe(): Sums() for policy in policies}
    for lq, gt in pairs:
        img = lq.contiguous(memory_format=torch.channels_last)
        whole = None
        for policy in policies:
            start = time.perf_counter()
            out = restore(net, img, policy)[0].clamp(0, 1) * 255
            seconds = time.perf_counter() - start
            whole = out if whole is None else whole
            sums[policy.describe()].add(out, whole, gt, seconds)
    return sums


def rows(sums: dict[str, Sums], count: int) -> list[tuple[str, ...]]:
    """The table's lines."""
    whole = sums["whole"].seconds
    return [
        (
            name,
            f"{(s.square / count) ** 0.5:.3f}",
            f"{s.largest:.1f}",
            f"{s.psnr / count:.3f}",
            f"{s.seconds / whole:.2f}",
        )
        for name, s in sums.items()
    ]


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-opt", required=True, help="option file: network, weights, data sets")
    parser.add_argument("--weights", help="checkpoint; default: path.pretrain_network_g")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    args = parser.parse_args()
    net = load_network(args.opt, args.weights).net
    pairs = images(dict(read_option_file(args.opt)), args.opt)
    lines = rows(measure(net.to(memory_format=torch.channels_last), pairs), len(pairs))
    print((markdown_table if args.markdown else text_table)([COLUMNS, *lines]))
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
