"""MATLAB's bicubic downsampling of 8-bit images by an integer scale, in exact arithmetic.

For scale s the antialiased kernel is the cubic (a = -1/2) stretched by s, sampled at distances that are multiples of
1/(2s): rational numbers with a common denominator. With integer weights the sum is exact, so a crop gives the very
pixels of the whole image, and ties round up as MATLAB rounds them.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Border = Literal["replicate", "mirror"]

_PAD_MODE: dict[Border, Literal["edge", "symmetric"]] = {"replicate": "edge", "mirror": "symmetric"}


@cache
def kernel(scale: int) -> tuple[tuple[int, ...], int, int]:
    """Integer weights, index of the first tap relative to `scale * i`, and the weights' sum.

    With n the distance times 2s, the cubic times 2(2s)^3 is 3n³ - 5n²(2s) + 2(2s)³ for n <= 2s
    and -n³ + 5n²(2s) - 8n(2s)² + 4(2s)³ up to 4s (Keys 1981).
    """
    unit = 2 * scale
    weights = []
    # Tap k of output 0 lies 2k - (s-1) half-pixels from the output's centre.
    first = -((4 * scale - (scale - 1)) // 2)
    for tap in range(first, scale - first):
        n = abs(2 * tap - (scale - 1))
        if n <= unit:
            weights.append(3 * n**3 - 5 * n**2 * unit + 2 * unit**3)
        else:
            weights.append(-(n**3) + 5 * n**2 * unit - 8 * n * unit**2 + 4 * unit**3)
    divisor = int(np.gcd.reduce(weights))
    weights = [weight // divisor for weight in weights]
    return tuple(weights), first, sum(weights)


def _downsample_rows(img: NDArray[np.uint8], scale: int, border: Border) -> NDArray[np.uint8]:
    weights, first, total = kernel(scale)
    height = img.shape[0] // scale
    after = first + len(weights) - scale
    # A mirror needs as many rows as it pads; np.pad reflects again where the image is smaller.
    padded = np.pad(img, ((-first, after), (0, 0), (0, 0)), mode=_PAD_MODE[border]).astype(np.int32)
    out = np.zeros((height, *img.shape[1:]), dtype=np.int32)
    for tap, weight in enumerate(weights):
        if weight:
            out += weight * padded[tap : tap + scale * height : scale]
    return np.clip((2 * out + total) // (2 * total), 0, 255).astype(np.uint8)  # floor division rounds half up


def downsample(img: NDArray[np.uint8], scale: int, border: Border = "replicate") -> NDArray[np.uint8]:
    """Shrink an image as MATLAB's `imresize(img, 1/scale)` does: rows first, rounded to 8 bits, then columns.

    Args:
        img: (H, W, C), 0..255, H and W multiples of `scale`.
        scale: Integer, 2 or more.
        border: "replicate" as the released files (an older MATLAB), "mirror" as newer versions.

    Returns:
        (H/scale, W/scale, C), 0..255.
    """
    rows = _downsample_rows(img, scale, border)
    return _downsample_rows(rows.transpose(1, 0, 2), scale, border).transpose(1, 0, 2)
