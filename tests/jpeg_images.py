"""JPEG files, and pages of letters, of which networks of photographs and estimates know little."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Image8 = NDArray[np.uint8]


def saved(img: Image8, quality: int, mode: str | None = None, **how: Any) -> bytes:
    """A JPEG file of (H, W), (H, W, 1) or (H, W, 3), as Pillow writes it."""
    file = io.BytesIO()
    image = Image.fromarray(img[..., 0] if img.shape[2:] == (1,) else img)
    image.convert(mode).save(file, "JPEG", quality=quality, **how)
    return file.getvalue()


def letters(shape: tuple[int, int], size: float, spacing: int, line: str, start: tuple[int, int]) -> Image8:
    """A page of text, (H, W, 1), its edges smoothed: one line again and again from a first column and row on."""
    page = np.full(shape, 255, np.uint8)
    for row in range(start[1], shape[0], spacing):
        cv2.putText(page, line, (start[0], row), 0, size, 0, 1, cv2.LINE_AA)
    return page[..., None]
