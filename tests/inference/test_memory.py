"""The whole command holds a file, its image, the result and a strip: no copy of all of it in floats, or for a codec."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from rnan_plugin.images.photo import read_photo

WIDTH = 3000
# A process of its own: in one that ran other tests the peak depends on what they left between their arrays. Networks
# give back what they get, and JPEG files are written as those of large images are.
RUN = """
import sys
import torch
from rnan_plugin.__main__ import main
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.device import PeakMemory
from rnan_plugin.images import photo_writer

RNAN.forward = lambda _, img: img
photo_writer._OPTIMISED = 0
small, small_out, large, large_out = sys.argv[1:]
assert main(["restore", small, small_out]) == 0
with PeakMemory(torch.device("cpu")) as memory:
    assert main(["restore", large, large_out]) == 0
print("peak", memory.bytes)
"""
ARRAYS_GO_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}  # glibc gives arrays from this size on back when they are freed


def noisy(file: Path, height: int, width: int, deep: int) -> Path:
    noise = np.random.default_rng(0).normal(0, 15, (height, width, 3))
    img = np.clip(np.linspace(60, 200, width)[:, None] + noise, 0, 255)
    cv2.imwrite(str(file), (img * 257).astype(np.uint16) if deep == 2 else img.astype(np.uint8))
    return file


@pytest.mark.parametrize(
    ("target", "deep", "images"),
    [("jpg", 1, 2 + 1 / 3), ("png", 2, 2)],  # for a JPEG Pillow keeps four bytes a pixel
)
def test_whole_command(tmp_path: Path, target: str, deep: int, images: float) -> None:
    height = 3800 // deep
    small, large = noisy(tmp_path / "small.png", 100, 80, deep), noisy(tmp_path / "large.png", height, WIDTH, deep)
    small_out, out = tmp_path / f"small_out.{target}", tmp_path / f"out.{target}"
    command = [sys.executable, "-c", RUN, *map(str, (small, small_out, large, out))]
    done = subprocess.run(command, env=os.environ | ARRAYS_GO_BACK, check=True, capture_output=True, text=True)
    peak = done.stdout.split()[-1]
    if peak == "None":
        pytest.skip("this system does not tell its peak")
    size = 3 * height * WIDTH * deep
    assert int(peak) < images * size + sum(file.stat().st_size for file in (large, out))
    if target != "jpg":
        before, after = (read_photo(file.read_bytes(), "a").pixels for file in (large, out))
        np.testing.assert_array_equal(after, before)
