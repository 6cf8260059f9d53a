"""Colour conversions of the paper's protocols on 8-bit images, equal to MATLAB's to the last pixel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnan_plugin.choices import CHANNELS, Channels
from rnan_plugin.errors import UserError

Pixels = NDArray[np.unsignedinteger[Any]]  # of 8 bits, as everywhere, or of 16, as photographs may have

NUM_CHANNEL: dict[Channels, int] = {"rgb": 3, "gray": 1, "y": 1}
CHANNELS_NAME: dict[Channels, str] = {"rgb": "RGB", "gray": "grey", "y": "Y"}  # in sentences

# First row of the inverse of MATLAB's YIQ matrix; the usual four-digit weights differ in some pixels.
_RGB2GRAY = (0.298936021293775, 0.587043074451121, 0.114020904255103)
# BT.601 luma in 16..235, weights divided first.
_RGB2Y = (65.481 / 255, 128.553 / 255, 24.966 / 255)


LUMA_SPAN = 219  # levels of luma between black and white
_STRIP_PIXELS = 2**20


def full_scale(img: Pixels) -> int:
    """The value of white: 255 or 65535."""
    return int(np.iinfo(img.dtype).max)


def in_strips(convert: Callable[..., Pixels], *images: Pixels) -> Pixels:
    """Apply a function of single pixels to images of one size, some rows at a time, so that its floats stay few."""
    height, width = images[0].shape[:2]
    rows = max(1, _STRIP_PIXELS // max(1, width))
    if height <= rows:
        return convert(*images)
    first = convert(*(img[:rows] for img in images))
    result = np.empty((height, *first.shape[1:]), first.dtype)
    result[:rows] = first
    for top in range(rows, height, rows):
        result[top : top + rows] = convert(*(img[top : top + rows] for img in images))
    return result


def _weighted_sum(img: Pixels, weights: tuple[float, float, float], offset: float) -> Pixels:
    base = offset * (full_scale(img) // 255)

    def of_strip(strip: Pixels) -> Pixels:
        red, green, blue = (strip[..., channel] * weight for channel, weight in enumerate(weights))
        return np.floor(base + red + green + blue + 0.5).astype(img.dtype)[..., None]

    return in_strips(of_strip, img)


def mean_of_channels(img: Pixels) -> Pixels:
    """Mean of the channels, (H, W, C) to (H, W, 1), of 8 or 16 bits, rounded to the nearest."""
    return in_strips(lambda strip: np.rint(strip.mean(axis=2, keepdims=True)).astype(img.dtype), img)


def rgb2gray(img: Pixels) -> Pixels:
    """Grey of an RGB image: (H, W, 3) to (H, W, 1), of 8 or 16 bits, as MATLAB's `rgb2gray`, rounded half up."""
    return _weighted_sum(img, _RGB2GRAY, 0.0)


def rgb2y(img: Pixels) -> Pixels:
    """Luma of an RGB image: (H, W, 3) to (H, W, 1), 16..235, as MATLAB's `rgb2ycbcr` (BT.601), rounded half up.

    Of 16 bits it goes from 16 · 257 to 235 · 257.
    """
    return _weighted_sum(img, _RGB2Y, 16.0)


def grey2y(img: Pixels) -> Pixels:
    """Luma of a grey image, 16 bits: (H, W, 1) to 16 · 257 to 235 · 257, as `rgb2y` of R = G = B, hardly rounded."""
    step = LUMA_SPAN * 257 / full_scale(img)
    return in_strips(lambda strip: np.rint(16 * 257 + strip * step).astype(np.uint16), img)


def y2grey(luma: Pixels, like: Pixels) -> Pixels:
    """The grey image, as deep as `like`, of luma as `grey2y` gives it."""
    white = full_scale(like)

    def of_strip(strip: Pixels) -> Pixels:
        grey: Pixels = np.clip(np.rint((strip / 257 - 16) * (white / LUMA_SPAN)), 0, white).astype(like.dtype)
        return grey

    return in_strips(of_strip, luma)


def convert_channels(img: Pixels, channels: Channels, name: str) -> Pixels:
    """Bring an image to the channels a task works on.

    Args:
        img: (H, W, 3) RGB or (H, W, 1) grey, of 8 or 16 bits.
        channels: "rgb", "gray" or "y". A grey image is taken as it is for "gray" and "y", and three times for "rgb".
        name: File or key of the image, for the error.

    Raises:
        UserError: There are no such channels.
    """
    if channels not in CHANNELS:
        raise UserError(f"{name}: channels is '{channels}', legal are {', '.join(CHANNELS)}")
    if img.shape[2] == 1:
        return img.repeat(NUM_CHANNEL[channels], axis=2)
    return {"rgb": lambda rgb: rgb, "gray": rgb2gray, "y": rgb2y}[channels](img)


def scaled(samples: Pixels, highest: int) -> Pixels:
    """Samples whose white is `highest`, over all that their type can hold."""
    white = full_scale(samples)
    if highest == white:
        return samples
    return in_strips(lambda strip: np.minimum(np.rint(strip * (white / highest)), white).astype(samples.dtype), samples)
