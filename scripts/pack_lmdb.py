"""Pack a folder of images into an LMDB in the toolbox's format.

    python scripts/pack_lmdb.py DIV2K_train_HR datasets/DIV2K/DIV2K_train_HR_sub.lmdb --crop-size 480 --step 240

Prints what to put into the option file. Grey and colour images of 8 bits; keys are file names without ending.
"""

from __future__ import annotations

import argparse
import sys

from rnan_plugin.data.lmdb_writer import pack_folder
from rnan_plugin.errors import UserError


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", help="folder of images")
    parser.add_argument("lmdb", help="LMDB to write, NAME.lmdb")
    parser.add_argument("--crop-size", type=int, help="cut sub-images with this side (DIV2K: 480)")
    parser.add_argument("--step", type=int, default=240, help="distance of neighbouring sub-images (default: 240)")
    args = parser.parse_args()
    try:
        count = pack_folder(args.folder, args.lmdb, args.crop_size, args.step)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{count} images in {args.lmdb}; in the option file:\n")
    print(f"    dataroot_gt: {args.lmdb}\n    io_backend:\n      type: lmdb")
    return 0


if __name__ == "__main__":
    sys.exit(main())
