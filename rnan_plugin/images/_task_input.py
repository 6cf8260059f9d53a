"""Whether an image file is what a task restores: a mosaic for demosaicing, a JPEG of its quality for CAR."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from rnan_plugin.images.degradations import BayerMosaic, Image
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.errors import UserError

# First and last rows of the luminance table that libjpeg scales by quality (ITU-T T.81, Annex K.1): small entries tell
# the lowest qualities apart, large ones the highest.
_FIRST = [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55]
_LAST = [49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
_TABLE = np.array(_FIRST + _LAST)


def as_mosaic(img: Image, name: str) -> Image:
    """The mosaic (H, W, 3), zero where no sample was taken, of a GRBG mosaic with one or three channels.

    Raises:
        UserError: A colour image that is no GRBG mosaic.
    """
    mosaic = BayerMosaic()(img.repeat(3, axis=2) if img.shape[2] == 1 else img, np.random.default_rng())
    if img.shape[2] == 3 and (mosaic != img).any():
        raise UserError(
            f"{name}: not a GRBG mosaic, which has one colour a pixel and zeros in the other two (or one channel); "
            "scripts/degrade.py --task demosaic makes mosaics of photographs"
        )
    return mosaic.astype(np.uint8, copy=False)


def jpeg_quality(code: bytes) -> int | None:
    """The quality, 1 to 100, with which libjpeg has written a file; None for other files and tables."""
    try:
        with PillowImage.open(io.BytesIO(code)) as file:
            tables = getattr(file, "quantization", {})
    except (UnidentifiedImageError, OSError):
        return None
    if 0 not in tables:
        return None
    found = np.array([*tables[0][: len(_FIRST)], *tables[0][-len(_LAST) :]])
    for quality in range(1, 101):
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        if (np.clip((_TABLE * scale + 50) // 100, 1, 255) == found).all():
            return quality
    return None


def unlike(setting: TaskAtLevel, code: bytes) -> str | None:
    """What of a file does not fit the task's level, as far as the file tells, or None."""
    quality = jpeg_quality(code) if setting.name == "car" else None
    if quality is not None and quality != setting.level:
        return f"a JPEG of quality {quality}, the weights are for {setting.level:g}"
    return None
