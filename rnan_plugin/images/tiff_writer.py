"""TIFF files of 8 and 16 bits with alpha, colour profile and camera data; Pillow writes no colour of 16 bits."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from PIL import TiffImagePlugin

from rnan_plugin.images.color import Pixels
from rnan_plugin.images.photo_metadata import Metadata, as_they_were, describing, exif_of

_STRIP_PIXELS = 2**20
_LEVEL = 3
_MOST_BYTES = 2**32 - 2**20  # its offsets have 32 bits
_DEFLATE, _CHUNKY, _INCH, _DIFFERENCES, _ALPHA = 8, 1, 2, 2, 2
_ICC, _XMP = 34675, 700


def tiff_pieces(img: Pixels, metadata: Metadata) -> list[bytes]:
    """The parts of a TIFF file, compressed without loss.

    Args:
        img: (H, W, C) of 8 or 16 bits: grey or RGB, the last channel alpha where C is 2 or 4.
        metadata: To stand beside it.

    Raises:
        ValueError: Larger than the format can hold, or metadata that it can't.
    """
    strips = list(_strips(img))
    lengths = [len(strip) for strip in strips]
    if sum(lengths) > _MOST_BYTES:
        raise ValueError("larger than 4 GiB")
    directory: Any = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    for tag, value in _tags(img, metadata, lengths):
        directory[tag] = value
    buffer = io.BytesIO()
    try:
        directory.save(buffer)
    except (struct.error, TypeError, OverflowError, AttributeError) as error:
        raise ValueError(str(error)) from None
    return [buffer.getvalue(), *strips]


def _rows_of_a_strip(img: Pixels) -> int:
    return min(len(img), max(1, _STRIP_PIXELS // img.shape[1]))


def _strips(img: Pixels) -> Iterator[bytes]:
    """The compressed pixels: in strips, so that no reader has to unpack all of them at once."""
    rows = _rows_of_a_strip(img)
    for top in range(0, len(img), rows):
        strip = img[top : top + rows]
        differences = strip.astype(img.dtype.newbyteorder("<"))
        differences[:, 1:] -= strip[:, :-1]
        yield zlib.compress(differences.tobytes(), _LEVEL)


def _tags(img: Pixels, metadata: Metadata, lengths: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """Numbers and values of all tags; the strips' places are counted from the end of the directory."""
    height, width, num_channel = img.shape
    yield from as_they_were(describing(exif_of(metadata.exif))).items() if metadata.exif else ()
    yield from {256: width, 257: height, 258: (8 * img.dtype.itemsize,) * num_channel, 259: _DEFLATE}.items()
    yield from {262: 2 if num_channel >= 3 else 1, 277: num_channel, 278: _rows_of_a_strip(img), 284: _CHUNKY}.items()
    yield from {273: tuple(accumulate(lengths[:-1], initial=0)), 279: tuple(lengths), 317: _DIFFERENCES}.items()
    if num_channel in {2, 4}:
        yield 338, _ALPHA
    if metadata.dpi:
        yield from zip((282, 283, 296), (*metadata.dpi, _INCH), strict=True)
    if metadata.icc:
        yield _ICC, metadata.icc
    if metadata.xmp:
        yield _XMP, metadata.xmp
