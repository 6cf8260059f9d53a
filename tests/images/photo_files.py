"""Photographs, and files of them, with everything that may stand beside the pixels."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from rnan_plugin.images.photo import Photo
from rnan_plugin.images.photo_metadata import Metadata
from rnan_plugin.images.photo_writer import encode_photo
from rnan_plugin.images.png_rows import png_pieces

Array = NDArray[Any]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ORIENTATION = 0x0112
LOSSLESS = ("a.png", "a.tif", "a.webp")


def smooth(channels: int, dtype: Any = np.uint8, size: tuple[int, int] = (20, 30), seed: int = 0) -> Array:
    """(H, W, channels) that fills its range."""
    img = np.random.default_rng(seed).random((*size, channels))
    img = cv2.GaussianBlur(img, (0, 0), 1.5).reshape(*size, channels)
    img = (img - img.min()) / (img.max() - img.min())
    return np.rint(img * np.iinfo(dtype).max).astype(dtype)


def saved(img: Array, kind: str, **options: Any) -> bytes:
    """A file of 8 bits by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(img.squeeze()).save(buffer, kind, **options)
    return buffer.getvalue()


def by_tifffile(img: Array, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, img, **options)
    return buffer.getvalue()


def png(img: Array, *chunks: tuple[bytes, bytes]) -> bytes:
    return b"".join(png_pieces(img, 1, chunks))


def encoded(photo: Photo, name: str, quality: int | None = None) -> tuple[bytes, list[str]]:
    pieces, lost = encode_photo(photo, name, quality)
    return b"".join(pieces), lost


def camera() -> Image.Exif:
    """Camera data in three parts, sideways."""
    exif = Image.Exif()
    exif[0x010F], exif[ORIENTATION] = "Acme", 6
    exif[0x8769] = {0x9003: "2020:01:02 03:04:05", 0xA002: 4000, 0xA003: 3000}
    exif[0x8825] = {1: "N", 2: (47.0, 30.0, 0.0)}
    return exif


def with_all(channels: int = 3, dtype: Any = np.uint8) -> Photo:
    """A photograph with everything beside its pixels."""
    exif = camera()
    exif[ORIENTATION] = 1
    metadata = Metadata(SRGB, exif.tobytes().removeprefix(b"Exif\0\0"), (300.0, 200.0))
    return Photo(smooth(channels, dtype), metadata=metadata)
