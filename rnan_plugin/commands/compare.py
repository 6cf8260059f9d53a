"""`compare`: several methods on the same inputs: parameters, multiply-adds, time, memory, PSNR, SSIM in one table."""

from __future__ import annotations

import argparse
from pathlib import Path

from rnan_plugin.commands.arguments import path_at_home

EXAMPLES = """
  rnan compare comparison.yml

with a file such as

  task: car
  level: 10
  sets: [datasets/Classic5]
  methods:
    JPEG: {type: input}
    RNAN, small: {type: shipped}
    RNAN, small +: {type: shipped, self_ensemble: true}
    SwinIR: {type: network, opt: options/compare/train_SwinIR_CAR_q10.yml, weights: net_g_latest.pth}
    other: {type: files, files: results/other_program}

writes the table and the methods' differences with interval and p (CSV, JSON, Markdown), scores of each method, restored
images and report.html below results/comparison/NAME. Types: network (any of BasicSR), released (RNAN's published
weights), shipped (the weights in the package), files, input, and the classical methods bicubic, opencv_nlm,
skimage_wavelet, skimage_tv, bm3d, malvar, menon, where they fit the task.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("comparison", help="comparison file, see below")
    parser.add_argument(
        "--out", type=path_at_home, default=Path("results/comparison"), help="folder (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Compare; see `comparison.compare` for errors."""
    from rnan_plugin.evaluation.comparison import compare

    compare(options.comparison, options.out)
    return 0
