"""Photographs to files: PNG, JPEG, WebP, TIFF, with the metadata that each of them can hold."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from rnan_plugin.choices import OutputFormat
from rnan_plugin.errors import UserError, said_by
from rnan_plugin.images.color import Pixels, in_strips
from rnan_plugin.images.jpeg_segments import is_jpeg
from rnan_plugin.images.photo import Photo
from rnan_plugin.images.photo_metadata import Metadata, png_xmp_chunk, with_resolution, with_sides
from rnan_plugin.images.png_rows import png_pieces, read_header
from rnan_plugin.images.tiff_writer import tiff_pieces

# By the ending of a file's name; other endings can be read, not written.
FORMATS: dict[str, OutputFormat] = {
    ".png": "png",
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "jpg"),
    ".webp": "webp",
    **dict.fromkeys((".tif", ".tiff"), "tif"),
}
LOSSLESS = ("png", "tif")  # formats that know no quality
QUALITY = 95  # of JPEG where nobody says otherwise; WebP is lossless then
_LEVEL = 3  # of zlib: higher ones take longer than small networks
_INCH = 0.0254  # in metres, in which PNG counts
_OPTIMISED = 2**26  # pixels of a JPEG up to which its codes are fitted: that keeps all coefficients, 6 bytes a pixel
_MOST_SIDE = {"jpg": 65_500, "webp": 16_383}  # pixels: of libjpeg and libwebp
_PILLOW_ROWS = 1024  # that are handed to Pillow at once


Written = tuple[Iterable[bytes], list[str]]


def named_format(out: str | Path, *, may_be_folder: bool = False) -> OutputFormat:
    """The format that a file's ending says.

    Raises:
        UserError: It says none that is written. `may_be_folder`: a folder can be meant where a separator ends it.
    """
    ending, folder = Path(out).suffix, f", or in {os.sep} for a folder" if may_be_folder else ""
    if ending.lower() not in FORMATS:
        told = f"'{ending}' can't be written; end it in one of {' '.join(sorted(FORMATS))}{folder}"
        raise UserError(f"{out}: {told}")
    return FORMATS[ending.lower()]


def format_of(code: bytes) -> OutputFormat | None:
    """The format of a file's content, whatever it is called; None of those that are not written."""
    if is_jpeg(code):
        return "jpg"
    if code[:4] == b"RIFF" and code[8:12] == b"WEBP":
        return "webp"
    return "png" if read_header(code) else "tif" if code[:4] in (b"II*\0", b"MM\0*") else None


def encode_photo(photo: Photo, name: str, quality: int | None = None) -> Written:
    """Encode a photograph, upright, in the format of a file's ending.

    Args:
        photo: What to encode.
        name: Of the file, for its ending and errors.
        quality: Of JPEG and WebP, 1 to 100.

    Returns:
        The parts of the file's content, and what the format could not hold, for the user.

    Raises:
        UserError: The format can't hold such an image.
    """
    photo = photo.upright()
    if photo.metadata.exif:
        with suppress(Exception):  # odd data never fail an image
            photo = _with_exif(photo, with_sides(photo.metadata.exif, photo.pixels.shape[1], photo.pixels.shape[0]))
    kind = named_format(name)
    height, width = photo.pixels.shape[:2]
    most = _MOST_SIDE.get(kind)
    if most is not None and max(height, width) > most:
        told = f"{kind} holds at most {most:,} pixels a side, the image has {height}×{width}"
        raise UserError(f"{name}: {told}; choose --format png")
    return _WRITERS[kind](photo, name, quality)


def check_holds(photo: Photo, name: str) -> None:
    """Whether the format of a file's ending can hold an image's channels.

    Raises:
        UserError: It can't.
    """
    if photo.alpha is not None and named_format(name) == "jpg":
        raise UserError(f"{name}: JPEG has no transparency, which the image has; take PNG, WebP or TIFF")


def _with_exif(photo: Photo, exif: bytes) -> Photo:
    return replace(photo, metadata=replace(photo.metadata, exif=exif))


def _png(photo: Photo, name: str, quality: int | None) -> Written:  # noqa: ARG001
    return png_pieces(with_alpha(photo), _LEVEL, _png_chunks(photo.metadata)), []


def _png_chunks(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    for kind, content in metadata.colour:
        if not (kind == b"sRGB" and metadata.icc):  # of these a file may have one
            yield kind, content
    if metadata.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi:
        across, down = (round(value / _INCH) for value in metadata.dpi)
        yield b"pHYs", struct.pack(">IIB", across, down, 1)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield png_xmp_chunk(metadata.xmp)


def _jpg(photo: Photo, name: str, quality: int | None) -> Written:
    check_holds(photo, name)
    eight, lost = _of_eight_bits(photo)
    quality = QUALITY if quality is None else quality
    is_small = photo.pixels.shape[0] * photo.pixels.shape[1] <= _OPTIMISED
    return _by_pillow(eight, name, lost, format="JPEG", quality=quality, subsampling=0, optimize=is_small)


def _webp(photo: Photo, name: str, quality: int | None) -> Written:
    eight, lost = _of_eight_bits(photo)
    if photo.metadata.icc and photo.pixels.shape[2] == 1:  # it has no grey, for which the profile is
        eight = replace(eight, metadata=replace(photo.metadata, icc=None))
        lost = [*lost, "the grey colour profile"]
    if photo.metadata.dpi:  # for which it has no other place
        with suppress(Exception):  # odd data never fail an image
            eight = _with_exif(eight, with_resolution(photo.metadata.exif, photo.metadata.dpi))
    how = {"lossless": True} if quality is None else {"quality": quality}
    return _by_pillow(eight, name, lost, format="WEBP", exact=True, **how)


def _tif(photo: Photo, name: str, quality: int | None) -> Written:  # noqa: ARG001
    samples = with_alpha(photo)
    return _with_what_it_holds(photo, name, [], lambda metadata: tiff_pieces(samples, metadata))


def _of_eight_bits(photo: Photo) -> tuple[Photo, list[str]]:
    if photo.pixels.dtype == np.uint8:
        return photo, []
    alpha = None if photo.alpha is None else _reduced(photo.alpha)
    return replace(photo, pixels=_reduced(photo.pixels), alpha=alpha), ["8 of 16 bits"]


def _reduced(img: Pixels) -> Pixels:
    return in_strips(lambda strip: ((strip.astype(np.uint32) + 128) // 257).astype(np.uint8), img)


def with_alpha(photo: Photo) -> Pixels:
    """The pixels, (H, W, C), alpha as the last channel if there is any."""
    return photo.pixels if photo.alpha is None else np.concatenate([photo.pixels, photo.alpha], axis=2)


def _as_pillow(samples: Pixels) -> PillowImage.Image:
    """Pillow's image of (H, W, C) of 8 bits, or a view: grey or RGB, the last channel alpha where C is 2 or 4."""
    height, width, num_channel = samples.shape
    image = PillowImage.new({1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[num_channel], (width, height))
    for top in range(0, height, _PILLOW_ROWS):  # a turned view is no copy but of some rows
        strip = np.ascontiguousarray(samples[top : top + _PILLOW_ROWS])
        image.paste(PillowImage.fromarray(strip[..., 0] if num_channel == 1 else strip), (0, top))
    return image


def _by_pillow(photo: Photo, name: str, lost: list[str], **how: Any) -> Written:
    image = _as_pillow(with_alpha(photo))

    def write(metadata: Metadata) -> list[bytes]:
        exif = b"Exif\0\0" + metadata.exif if metadata.exif and how["format"] == "JPEG" else metadata.exif
        extra: dict[str, Any] = {"icc_profile": metadata.icc, "exif": exif, "xmp": metadata.xmp, "dpi": metadata.dpi}
        buffer = io.BytesIO()
        image.save(buffer, **how, **{key: value for key, value in extra.items() if value is not None})
        return [buffer.getvalue()]

    return _with_what_it_holds(photo, name, lost, write)


def _with_what_it_holds(photo: Photo, name: str, lost: list[str], write: Callable[[Metadata], list[bytes]]) -> Written:
    """Write with the metadata; where that fails without captions, camera data, both, then all."""
    metadata, reason = photo.metadata, ""
    if not metadata.is_plain:
        lost = [*lost, "the colour space (gamma, primaries)"]
    attempts: list[tuple[Metadata, list[str]]] = [(metadata, [])]
    if metadata.xmp:
        attempts.append((replace(metadata, xmp=None), ["captions (XMP)"]))
    if metadata.exif:
        attempts.append((replace(metadata, exif=None), ["the camera data"]))
    if metadata.exif and metadata.xmp:
        attempts.append((replace(metadata, exif=None, xmp=None), ["camera data and captions (XMP)"]))
    attempts.append((Metadata(), ["colour profile, camera data and captions"]))
    for kept, told in attempts:
        try:
            return write(kept), [*lost, *told]
        except Exception as error:  # of any kind, Pillow's
            reason = said_by(error, 100)
    raise UserError(f"{name}: this format can't hold the image ({reason}); choose --format png")


_WRITERS: dict[OutputFormat, Callable[[Photo, str, int | None], Written]] = {
    "png": _png,
    "jpg": _jpg,
    "webp": _webp,
    "tif": _tif,
}
