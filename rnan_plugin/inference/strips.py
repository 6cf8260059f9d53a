"""From images to images a strip at a time, so that no more than a few rows of tiles are held in float32."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from rnan_plugin.errors import UserError
from rnan_plugin.images.color import Pixels
from rnan_plugin.images.tensors import as_deep_as, to_tensor
from rnan_plugin.inference.tiling import Grid, Place


def place_of(img: Pixels, device: torch.device, place: Place) -> Tensor:
    """A part of (H, W, C), of 8 or 16 bits, as a tensor (1, C, h, w) on 0..1."""
    top, left, height, width = place
    lq = to_tensor(img[top : top + height, left : left + width])[None]
    return lq.to(device).contiguous(memory_format=torch.channels_last)


def restored_pixels(like: Pixels, output: Tensor) -> Pixels:
    """What a network gave, (1, C, H, W) on 0..1, as an image (H, W, C) as deep as `like`.

    Raises:
        UserError: A value is infinite or no number, which would come out as black or white.
    """
    if not output.isfinite().all():
        raise UserError("the network gave values that are no finite numbers; take float32 precision, or other weights")
    return as_deep_as(like, output)


def streamed(strips: Iterator[Tensor], grid: Grid, like: Pixels) -> Pixels:
    """The image (H*scale, W*scale, C) of its strips (1, C, rows, W*scale) on 0..1, from the top, as deep as `like`.

    Raises:
        UserError: As of `restored_pixels`.
    """
    result: Pixels | None = None
    done = 0
    for strip in (restored_pixels(like, tensor) for tensor in strips):
        if result is None:
            scale = strip.shape[1] // grid.size[1]
            result = np.empty((grid.size[0] * scale, *strip.shape[1:]), like.dtype)
        result[done : done + len(strip)] = strip
        done += len(strip)
    assert result is not None
    return result
