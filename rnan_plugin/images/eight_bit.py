"""Images of data sets: 8 bits, grey or RGB, as a viewer shows them."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rnan_plugin.errors import UserError
from rnan_plugin.images.codec import ORIENTATION, SIDEWAYS, opened_by_pillow, png_orientation, read_file
from rnan_plugin.images.file_ends import ends_as_told
from rnan_plugin.images.photo import read_photo

_TOLD = {"BMP", "JPEG", "PNG", "TIFF", "WEBP"}  # formats whose header says, by Pillow, how deep the samples are
_PLAIN = {"L", "RGB", "BGR"}  # samples, by Pillow's names
_SUBFILE_TYPE, _SUB_IFDS, _SAMPLE_FORMAT = 254, 330, 339  # TIFF's tags
_UNSIGNED = 1  # a sample format


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
                    return size[::-1] if _is_sideways(image, path) else size
    height, width = decode_image(read_file(path), str(path)).shape[:2]
    return height, width


def _is_plain(image: PillowImage.Image) -> bool:
    """Whether it is one picture of 8 bits of grey or RGB and nothing transparent, as far as its header tells."""
    if image.format not in _TOLD or image.mode not in {"L", "RGB"} or "transparency" in image.info:
        return False
    if getattr(image, "n_frames", 1) > 1 or not _is_plain_tiff(getattr(image, "tag_v2", {})):
        return False
    # Of other depths, and with channels that nobody named, Pillow's mode is the same.
    return all(_stored_as(tile) in _PLAIN for tile in getattr(image, "tile", ()))


def _is_plain_tiff(tags: Mapping[int, Any]) -> bool:
    """Whether nothing is said of a smaller copy, of pages within the page, or of samples with a sign; none of others.

    Pillow gives several values as a tuple, and one by itself.
    """
    kinds = tags.get(_SAMPLE_FORMAT, _UNSIGNED)
    unsigned = set(kinds if isinstance(kinds, tuple) else (kinds,)) == {_UNSIGNED}
    return unsigned and not tags.get(_SUBFILE_TYPE) and _SUB_IFDS not in tags


def _stored_as(tile: tuple[Any, ...]) -> str:
    """Pillow's name of how a part of a file stores its samples."""
    arguments = tile[3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _is_sideways(image: PillowImage.Image, path: Path) -> bool:
    """Whether its size is told as it is stored; of TIFF Pillow tells it as it is shown."""
    if image.format == "TIFF":
        return False
    if image.format == "PNG":  # whose EXIF data may stand behind the pixels
        return _png_is_sideways(path)
    return image.getexif().get(ORIENTATION, 1) in SIDEWAYS


def _png_is_sideways(path: Path) -> bool:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole,
        memoryview(whole) as code,
        suppress(Exception),  # metadata never fail an image
    ):
        return png_orientation(code) in SIDEWAYS
    return False
