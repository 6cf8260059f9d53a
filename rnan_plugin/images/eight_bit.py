"""Images of data sets: 8 bits, grey or RGB, as a viewer shows them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rnan_plugin.errors import UserError
from rnan_plugin.images.codec import ORIENTATION, opened_by_pillow, read_file
from rnan_plugin.images.file_ends import ends_as_told
from rnan_plugin.images.photo import read_photo

_TOLD = {"BMP", "JPEG", "PNG", "TIFF", "WEBP"}  # formats whose header says, by Pillow, how deep the samples are
_SIDEWAYS = range(5, 9)  # orientations that exchange height and width


def decode_image(code: bytes, source: str) -> NDArray[np.uint8]:
    """Decode an 8-bit grey or colour image, upright, as `read_photo` reads it.

    Args:
        code: The file's content.
        source: File or key, for errors.

    Returns:
        (H, W, 3) RGB or (H, W, 1) grey, 0..255.

    Raises:
        UserError: Of `read_photo`; not 8 bits, or with an alpha channel.
    """
    photo = read_photo(code, source).upright()
    if photo.pixels.dtype != np.uint8:
        raise UserError(f"{source}: {8 * photo.pixels.itemsize} bits per sample, 8 are needed; convert it to 8 bits")
    if photo.alpha is not None:
        channels = photo.pixels.shape[2] + 1
        raise UserError(f"{source}: {channels} channels (alpha?); convert it to RGB or grey without alpha")
    return np.ascontiguousarray(photo.pixels, dtype=np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width that `decode_image` gives, by the file's header where that promises what it takes.

    A file whose end is not where its format has it is decoded, which tells what was cut short.

    Raises:
        UserError: As by `read_file` and `decode_image`.
    """
    with suppress(Exception):  # of any kind; reading it says what is wrong
        if path.is_file():
            with opened_by_pillow(path) as image:
                size = image.height, image.width
                if _is_plain(image) and ends_as_told(path, image):
                    return size[::-1] if _is_sideways(image) else size
    height, width = decode_image(read_file(path), str(path)).shape[:2]
    return height, width


def _is_plain(image: PillowImage.Image) -> bool:
    """Whether it has 8 bits of grey or RGB and nothing transparent, as far as its header tells."""
    # Of 16 bits Pillow's mode is RGB all the same.
    deep = any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    return image.format in _TOLD and image.mode in {"L", "RGB"} and not deep and "transparency" not in image.info


def _is_sideways(image: PillowImage.Image) -> bool:
    """Whether its size is told as it is stored; of TIFF Pillow tells it as it is shown."""
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):  # what stands behind the pixels
        return False
    return image.getexif().get(ORIENTATION, 1) in _SIDEWAYS
