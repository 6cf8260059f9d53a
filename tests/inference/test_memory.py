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

HEIGHT, WIDTH = 2000, 3000
PIXELS = 3 * HEIGHT * WIDTH


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
    ("source", "target", "bytes_a_sample", "deep"),
    [
        ("jpg", "tif", 2, 1),
        ("png", "jpg", 2 + 1 / 3, 1),  # Pillow keeps four bytes a pixel
        ("png", "png", 4, 2),
    ],
)
def test_whole_command(tmp_path: Path, source: str, target: str, bytes_a_sample: float, deep: int) -> None:
    small, large = (tmp_path / f"{name}.{source}" for name in ("small", "large"))
    assert main(["restore", noisy(small, 100, 80, deep), str(tmp_path / f"small_out.{target}")]) == 0
    noisy(large, HEIGHT, WIDTH, deep)
    with PeakMemory(torch.device("cpu")) as memory:
        assert main(["restore", str(large), str(tmp_path / f"out.{target}")]) == 0
    if memory.bytes is None:
        pytest.skip("this system does not tell its peak")
    files = large, tmp_path / f"out.{target}"
    assert memory.bytes < bytes_a_sample * PIXELS + sum(file.stat().st_size for file in files) + 2**24
    before, after = (read_photo(file.read_bytes(), "a").pixels for file in files)
    if target != "jpg":
        np.testing.assert_array_equal(after, before)
