"""Luma of JPEG files (JFIF 1.02; ITU-T T.81, A.3.3) as the coefficients of its 8×8 blocks, and back."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rnan_plugin.images.color import Pixels

BLOCK = 8
Floats = NDArray[np.floating[Any]]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_MIDDLE = 128  # taken from samples before the transform
# Orthonormal; a row is the transform of one sample.
_COSINES: Floats = np.asarray(cv2.dct(np.eye(BLOCK, dtype=np.float32), flags=cv2.DCT_ROWS), np.float32)


def jpeg_luma(img: Pixels) -> Floats:
    """(H, W) of (H, W, 3) RGB or (H, W, 1) grey of 8 bits: what a JPEG file's first component holds, not rounded."""
    samples = img.astype(np.float32)
    luma: Floats = samples @ _LUMA if img.shape[2] == len(_LUMA) else samples[..., 0]
    return luma


def coefficients(luma: Floats) -> Floats:
    """(h, w, 8, 8) of (H, W): the blocks that are whole, each frequency on the scale of the file's steps."""
    rows, columns = (side // BLOCK for side in luma.shape)
    blocks = luma[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).transpose(0, 2, 1, 3)
    return _both_ways(blocks - np.float32(_MIDDLE), _COSINES)


def of_coefficients(changes: Floats) -> Floats:
    """(8h, 8w) of (h, w, 8, 8): what changes of coefficients change of the samples."""
    samples = _both_ways(changes, _COSINES.T)
    rows, columns = samples.shape[:2]
    changed: Floats = samples.transpose(0, 2, 1, 3).reshape(rows * BLOCK, columns * BLOCK)
    return changed


def _both_ways(blocks: Floats, matrix: Floats) -> Floats:
    """Along the last axis, then the one before; each as one product of matrices."""
    for _ in range(2):
        blocks = (blocks.reshape(-1, BLOCK) @ matrix).reshape(blocks.shape).swapaxes(2, 3)
    return blocks
