"""Image files to 8-bit arrays and back: decoding, the orientation that a file tells, PNG."""

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
    img = cv2.imdecode(np.frombuffer(code, np.uint8), cv2.IMREAD_UNCHANGED) if code and not truncated else None
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
