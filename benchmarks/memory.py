"""Peak memory of `rnan restore` on large images, of the whole process, Python and torch included.

    python benchmarks/memory.py 20000
    python benchmarks/memory.py 8000 png jpg tif png16

A square colour image with noise goes from a file of each format to one of the same; the noise or the quality is found,
and the package's network loaded, as always. Only what that network computes in a tile is left out, which would take an
hour: its tiles come back as they are. `--network` computes it, and shows what that adds.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from rnan_plugin.__main__ import main as rnan
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.images.color import Pixels
from rnan_plugin.images.photo import Photo
from rnan_plugin.inference.results import write_photo

ROWS = 500


def noisy(side: int, bits: int) -> Pixels:
    """(side, side, 3): waves with noise of sigma 10."""
    rng, step = np.random.default_rng(0), 2 ** (bits - 8)
    img = np.empty((side, side, 3), np.uint8 if bits == 8 else np.uint16)
    across = np.cos(np.arange(side) / 131)
    for top in range(0, side, ROWS):
        rows = img[top : top + ROWS]
        waves = 127 + 60 * np.outer(np.sin(np.arange(top, top + len(rows)) / 97), across)
        rows[:] = np.clip((waves[..., None] + rng.normal(0, 10, rows.shape)) * step, 0, 256 * step - 1)
    return img


def write(kind: str, side: int, file: Path) -> None:
    """An input file of a kind, such as "png16"."""
    img = noisy(side, 16 if kind.endswith("16") else 8)
    if file.suffix == ".png":  # quick
        cv2.imwrite(str(file), img, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    else:
        write_photo(Photo(img), file, quality=80)


def restore(source: Path, target: Path, *, network: bool) -> int:
    """Run the command in this process and print its peak."""
    if not network:
        RNAN.forward = lambda _, x: x  # type: ignore[method-assign, assignment]
    start = time.perf_counter()
    status = rnan(["restore", str(source), str(target)])
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert peak is not None
    sizes = [f"{file.stat().st_size / 2**30:.2f}" for file in (source, target)]
    print(f"peak {int(peak[1]) / 2**20:.2f} GiB; files {' and '.join(sizes)} GiB; {time.perf_counter() - start:.0f} s")
    return status


def main() -> int:
    """Make the images, and restore each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", type=int, help="height and width in pixels")
    parser.add_argument("kinds", nargs="*", default=["png", "jpg", "tif"], help="png, jpg, tif, png16 or tif16")
    parser.add_argument("--network", action="store_true", help="compute what the network makes of each tile")
    parser.add_argument("--files", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.files:
        return restore(*options.files, network=options.network)
    again = [sys.executable, __file__, str(options.side), *(["--network"] if options.network else [])]
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            source, target = (Path(folder, f"{name}.{kind.removesuffix('16')}") for name in ("in", "out"))
            write(kind, options.side, source)
            print(f"{kind}: ", end="", flush=True)
            subprocess.run([*again, "--files", str(source), str(target)], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
