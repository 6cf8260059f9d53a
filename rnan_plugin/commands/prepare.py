"""`prepare`: image sets for training and validation."""

from __future__ import annotations

import argparse

from rnan_plugin.errors import UserError
from rnan_plugin.paper.image_sets import TRAINING_SETS

EXAMPLES = """
  rnan prepare datasets/DIV2K/DIV2K_train_HR_sub.lmdb --set div2k --crop-size 480 --step 240     downloads 3.3 GB
  rnan prepare photos/ more.zip datasets/mine.lmdb --hold-out 20

goes on where it was interrupted.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("sources", metavar="SOURCE", nargs="*", help="folder, zip file, or URL; default: the set's URL")
    parser.add_argument("lmdb", metavar="LMDB", help="LMDB to write, NAME.lmdb")
    told = "insist on the set's number of images, names and checksum"
    parser.add_argument("--set", choices=sorted(TRAINING_SETS), help=told)
    parser.add_argument("--hold-out", type=int, metavar="N", help="pack one image in N apart, for validation")
    told = "cut sub-images with this side (DIV2K: 480; default: whole images)"
    parser.add_argument("--crop-size", type=int, metavar="SIDE", help=told)
    told = "of neighbouring sub-images (default: 240)"
    parser.add_argument("--step", type=int, metavar="PIXELS", help=told)
    told = "png: BasicSR reads it, too; raw: more disk, a crop reads its own rows alone (default: png)"
    parser.add_argument("--codec", choices=["png", "raw"], default="png", help=told)
    parser.add_argument("--skip-bad", action="store_true", help="leave unreadable images out and list them")


def run(options: argparse.Namespace) -> int:
    """Pack and verify; see `prepare` for errors."""
    from rnan_plugin.data.lmdb_writer import Layout
    from rnan_plugin.data.prepare import prepare

    if options.step is not None and options.crop_size is None:
        raise UserError("--step: is of sub-images; add --crop-size, or leave it out")
    layout = Layout(options.crop_size, Layout.step if options.step is None else options.step, options.codec)
    choice = {"set_name": options.set, "hold_out": options.hold_out, "skip_bad": options.skip_bad}
    prepare(options.sources, options.lmdb, layout, **choice)
    return 0
