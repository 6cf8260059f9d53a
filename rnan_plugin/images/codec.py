"""Image files to 8-bit arrays and back: decoding, the orientation and the JPEG quality that a file tells, PNG."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rnan_plugin.errors import UserError

IMAGE_ENDINGS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def read_file(path: Path) -> bytes:
    """Read a file's content.

    Raises:
        UserError: It is gone, or may not be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check the file and its permissions") from None


def decode_image(code: bytes, source: str) -> NDArray[np.uint8]:
    """Decode an 8-bit grey or colour image.

    Args:
        code: The file's content.
        source: File or key, for errors.

    Returns:
        (H, W, 3) RGB or (H, W, 1) grey, 0..255.

    Raises:
        UserError: Unreadable or truncated, not 8 bits, or with an alpha channel.
    """
    is_jpeg = code[:2] == b"\xff\xd8"
    truncated = is_jpeg and b"\xff\xd9" not in code  # some OpenCV versions fill the missing part with grey
    try:
        img = cv2.imdecode(np.frombuffer(code, np.uint8), cv2.IMREAD_UNCHANGED) if code and not truncated else None
    except cv2.error as error:  # more pixels than OpenCV decodes
        raise UserError(f"{source}: can't be decoded ({' '.join(str(error).split())[-80:]}); take it out") from None
    if img is None:
        raise UserError(f"{source}: unreadable or truncated image; replace it or take it out")
    if img.dtype != np.uint8:
        raise UserError(f"{source}: {8 * img.dtype.itemsize} bits per sample, 8 are needed; convert it to 8 bits")
    if img.ndim == 2:
        return img[..., None].astype(np.uint8, copy=False)
    if img.shape[2] != 3:
        raise UserError(f"{source}: {img.shape[2]} channels (alpha?); convert it to RGB or grey without alpha")
    return cv2.cvtColor(img, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def encode_png(img: NDArray[np.uint8], level: int = 1, *, filtered: bool = True) -> bytes:
    """Encode (H, W, 3) RGB or (H, W, 1) grey as PNG.

    Args:
        img: The image, 0..255.
        level: Compression level of zlib, 0..9.
        filtered: False leaves the rows unfiltered where OpenCV can (4.11 on): for photographs a little larger, and
            `decode_rows` can read them.
    """
    bgr = cv2.cvtColor(img, cv2.COLOR_RGB2BGR) if img.shape[2] == 3 else img
    flags = [cv2.IMWRITE_PNG_COMPRESSION, level]
    if not filtered and hasattr(cv2, "IMWRITE_PNG_FILTER"):
        flags += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    return cv2.imencode(".png", bgr, flags)[1].tobytes()


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


# First and last rows of the luminance table that libjpeg scales by quality (ITU-T T.81, Annex K.1): small entries tell
# the lowest qualities apart, large ones the highest.
_FIRST = [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55]


_LAST = [49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]


_TABLE = np.array(_FIRST + _LAST)


def jpeg_quality(code: bytes) -> int | None:
    """The quality, 1 to 100, with which libjpeg has written a file; None for other files and tables."""
    try:
        with PillowImage.open(io.BytesIO(code)) as file:
            tables = getattr(file, "quantization", {})
    except Exception:  # what can be said of a file never fails it
        return None
    if 0 not in tables:
        return None
    found = np.array([*tables[0][: len(_FIRST)], *tables[0][-len(_LAST) :]])
    for quality in range(1, 101):
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        if (np.clip((_TABLE * scale + 50) // 100, 1, 255) == found).all():
            return quality
    return None
