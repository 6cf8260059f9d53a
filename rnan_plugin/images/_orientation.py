"""The orientation that a camera wrote into a photograph's EXIF data, for results that carry none."""

from __future__ import annotations

import io
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

_TAG = 0x0112
_TURNS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}


def orientation_of(code: bytes) -> int:
    """How to turn what `decode_image` makes of a file's content: 1 (not at all) to 8, as EXIF numbers them.

    Also 1 where Pillow can't read the file or its EXIF data, and for TIFF files, which OpenCV turns by itself.
    """
    with (
        suppress(OSError, SyntaxError, ValueError, PillowImage.DecompressionBombError),
        PillowImage.open(io.BytesIO(code)) as file,
    ):
        if file.format != "TIFF":
            return int(file.getexif().get(_TAG, 1))
    return 1


def upright(img: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn (H, W, C), 0..255, to (H, W, C) or (W, H, C) that stands as a viewer shows the photograph."""
    turn = _TURNS.get(orientation)
    if turn is None:
        return img
    turned = np.asarray(PillowImage.fromarray(img[..., 0] if img.shape[2] == 1 else img).transpose(turn))
    return turned.reshape(*turned.shape[:2], img.shape[2])
