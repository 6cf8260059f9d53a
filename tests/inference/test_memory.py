"""The whole command holds a file, its image, the result and a strip: no copy of all of it in floats, or for a codec."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from rnan_plugin.__main__ import main
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.device import PeakMemory
from rnan_plugin.images import photo_writer
from rnan_plugin.images.photo import read_photo

WIDTH = 3000
# Arrays of more than 32 MiB go back to the system when they are freed; smaller ones may stay, whatever ran before.
LEAST = 2**25


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that give back what they get, and JPEG as of a large image."""
    monkeypatch.setattr(RNAN, "forward", lambda _, img: img)
    monkeypatch.setattr(photo_writer, "_OPTIMISED", 0)


def noisy(file: Path, height: int, width: int, deep: int) -> str:
    noise = np.random.default_rng(0).normal(0, 15, (height, width, 3))
    img = np.clip(np.linspace(60, 200, width)[:, None] + noise, 0, 255)
    cv2.imwrite(str(file), (img * 257).astype(np.uint16) if deep == 2 else img.astype(np.uint8))
    return str(file)


@pytest.mark.parametrize(
    ("target", "deep", "images"),
    [("jpg", 1, 2 + 1 / 3), ("png", 2, 2)],  # for a JPEG Pillow keeps four bytes a pixel
)
def test_whole_command(tmp_path: Path, target: str, deep: int, images: float) -> None:
    small, large, out = tmp_path / "small.png", tmp_path / "large.png", tmp_path / f"out.{target}"
    assert main(["restore", noisy(small, 100, 80, deep), str(tmp_path / f"small_out.{target}")]) == 0
    height = 3800 // deep
    size = 3 * height * WIDTH * deep
    assert size > LEAST
    noisy(large, height, WIDTH, deep)
    with PeakMemory(torch.device("cpu")) as memory:
        assert main(["restore", str(large), str(out)]) == 0
    if memory.bytes is None:
        pytest.skip("this system does not tell its peak")
    assert memory.bytes < images * size + sum(file.stat().st_size for file in (large, out)) + 2**23
    if target != "jpg":
        before, after = (read_photo(file.read_bytes(), "a").pixels for file in (large, out))
        np.testing.assert_array_equal(after, before)
