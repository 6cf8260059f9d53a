"""What makes other training patches of an image: flips, and other colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rnan_plugin.images.degradations import Box, Image

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of ITU-R BT.601


def augment_view(img: Image, flips: NDArray[np.bool_]) -> Image:
    """Flip left-right, flip upside down, transpose, each if asked for: a view, without copying (H, W, C)."""
    if flips[0]:
        img = img[:, ::-1]
    if flips[1]:
        img = img[::-1]
    return img.transpose(1, 0, 2) if flips[2] else img


def unflipped(box: Box, size: tuple[int, int], flips: NDArray[np.bool_]) -> Box:
    """Where a box of `augment_view(img, flips)` lies in an image of the given height and width."""
    top, left, bottom, right = box
    if flips[2]:
        top, left, bottom, right = left, top, right, bottom
    if flips[1]:
        top, bottom = size[0] - bottom, size[0] - top
    if flips[0]:
        left, right = size[1] - right, size[1] - left
    return top, left, bottom, right


def recoloured(img: Image, rng: np.random.Generator, *, permute: bool, saturation: Sequence[float] | None) -> Image:
    """The same patch in other colours; nothing is drawn where neither is asked for.

    Args:
        img: (H, W, 3) RGB, 8 bits.
        rng: What is drawn comes from it.
        permute: Put the three channels into any of their six orders.
        saturation: Move the colours by a factor, drawn uniformly from the lowest to the highest of two, away from the
            pixel's grey: 0 is grey, 1 changes nothing, above it they are stronger. Rounded and clipped to 8 bits.
    """
    if permute:
        img = img[..., rng.permutation(3)]
    if saturation is None:
        return img
    grey, factor = (img @ _GREY)[..., None], np.float32(rng.uniform(saturation[0], saturation[1]))
    return np.rint(grey + factor * (img - grey)).clip(0, 255).astype(np.uint8)
