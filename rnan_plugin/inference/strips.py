"""From 8-bit images to 8-bit images a strip at a time, so that no more than a few rows of tiles are held in float32."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnan_plugin.images.tensors import to_image, to_tensor
from rnan_plugin.inference.tiling import Grid, Place


def place_of(img: NDArray[np.uint8], device: torch.device, place: Place) -> Tensor:
    """A part of (H, W, C), 0..255, as a tensor (1, C, h, w) on 0..1."""
    top, left, height, width = place
    lq = to_tensor(img[top : top + height, left : left + width])[None]
    return lq.to(device).contiguous(memory_format=torch.channels_last)


def streamed(strips: Iterator[Tensor], grid: Grid) -> NDArray[np.uint8]:
    """The 8-bit image (H*scale, W*scale, C) of its strips (1, C, rows, W*scale) on 0..1, from the top."""
    result: NDArray[np.uint8] | None = None
    done = 0
    for strip in map(to_image, strips):
        if result is None:
            scale = strip.shape[1] // grid.size[1]
            result = np.empty((grid.size[0] * scale, *strip.shape[1:]), np.uint8)
        result[done : done + len(strip)] = strip
        done += len(strip)
    assert result is not None
    return result
