"""Image files to 8-bit arrays and back: decoding, the orientation that a file tells, PNG."""

from __future__ import annotations

import io
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import PngImagePlugin

from rnan_plugin.errors import UserError
from rnan_plugin.images.color import Pixels
from rnan_plugin.images.jpeg_segments import is_jpeg, is_whole
from rnan_plugin.images.png_rows import chunks, read_header

IMAGE_ENDINGS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MOST_PIXELS = 2**30  # of an image; more than OpenCV decodes

_MOST_TEXT = 2**26  # bytes of a PNG file's texts, unpacked
_STRIP_ROWS = 1024
_UNREADABLE = "unreadable or truncated image; replace it or take it out"
ORIENTATION = 0x0112  # EXIF's tag
_pillows_bounds = threading.Lock()


@contextmanager
def opened_by_pillow(file: Path | io.BytesIO) -> Iterator[PillowImage.Image]:
    """A file opened by Pillow, which reads its header; within this package's bounds instead of Pillow's smaller ones.

    Raises:
        Exception: Of any kind: Pillow's readers let out what a damaged file brings about.
    """
    with _pillows_bounds:
        before = PillowImage.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
        PillowImage.MAX_IMAGE_PIXELS = MOST_PIXELS
        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = _MOST_TEXT
        try:
            image = PillowImage.open(file)
        finally:
            PillowImage.MAX_IMAGE_PIXELS = before[0]
            PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = before[1:]
    with image:
        yield image


@contextmanager
def decoded_by_pillow(code: bytes, name: str) -> Iterator[PillowImage.Image]:
    """A file's content opened by Pillow to be decoded within the context.

    Raises:
        UserError: It is damaged or cut short.
    """
    check_whole(code, name)
    try:
        with opened_by_pillow(io.BytesIO(code)) as image:
            yield image
    except Exception as error:  # any: Pillow's readers let out what a damaged file brings about
        said = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(f"{name}: unreadable or truncated image ({said}); replace it or take it out") from None


def samples_of(image: PillowImage.Image, mode: str) -> NDArray[Any]:
    """(H, W, C) of an image that Pillow has opened, in one of its modes; converted some rows at a time."""
    corner = np.asarray(image.crop((0, 0, 1, 1)).convert(mode))
    samples = np.empty((image.height, image.width, corner.size), corner.dtype)
    for top in range(0, image.height, _STRIP_ROWS):
        part = samples[top : top + _STRIP_ROWS]
        strip = image.crop((0, top, image.width, top + len(part))).convert(mode)
        part[:] = np.asarray(strip).reshape(part.shape)
    return samples


def read_file(path: Path) -> bytes:
    """Read a file's content.

    Raises:
        UserError: It is gone, may not be read, or is no regular file, which might never end.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: a folder, pipe or device, not an image file; take it out or name another")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check the file and its permissions") from None


def header_size(file: Path | bytes) -> tuple[int, int] | None:
    """Height and width of an image, by its header alone; None where Pillow can't read it."""
    with suppress(Exception), opened_by_pillow(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
        return image.height, image.width
    return None


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file, by its header where that can be read.

    Raises:
        UserError: As by `read_file` and `decode_image`.
    """
    with suppress(OSError):
        if path.is_file() and (size := header_size(path)) is not None:
            return size
    height, width = decode_image(read_file(path), str(path)).shape[
        :2
    ]  # OpenCV may read it, and says what is wrong if not
    return height, width


def decode_image(code: bytes, source: str) -> NDArray[np.uint8]:
    """Decode an 8-bit grey or colour image.

    Args:
        code: The file's content.
        source: File or key, for errors.

    Returns:
        (H, W, 3) RGB or (H, W, 1) grey, 0..255.

    Raises:
        UserError: Unreadable or truncated, too large, not 8 bits, or with an alpha channel.
    """
    img = decode_samples(code, source)
    if img.dtype != np.uint8:
        raise UserError(f"{source}: {8 * img.dtype.itemsize} bits per sample, 8 are needed; convert it to 8 bits")
    if img.shape[2] not in (1, 3):
        raise UserError(f"{source}: {img.shape[2]} channels (alpha?); convert it to RGB or grey without alpha")
    return img.astype(np.uint8, copy=False)


def decode_samples(code: bytes, source: str) -> NDArray[Any]:
    """Decode an image by OpenCV as it is: (H, W, C) of grey, RGB or RGBA, of whatever depth.

    Raises:
        UserError: Unreadable or truncated, or too large.
    """
    check_whole(code, source)
    try:
        img = cv2.imdecode(np.frombuffer(code, np.uint8), cv2.IMREAD_UNCHANGED) if code else None
    except MemoryError:
        raise UserError(f"{source}: too large for the memory there is; free some, or make the image smaller") from None
    except Exception as error:  # `cv2.error` is all that it should raise
        raise UserError(f"{source}: {_reason(error)}; replace it or take it out") from None
    if img is None:
        raise UserError(f"{source}: {_UNREADABLE}")
    if img.ndim == 2:
        return img[..., None]
    if img.dtype not in (np.uint8, np.uint16):  # which OpenCV can't swap
        return img[..., [2, 1, 0, 3][: img.shape[2]]]
    if img.shape[2] >= 3:
        swap = cv2.COLOR_BGR2RGB if img.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        for top in range(0, img.shape[0], _STRIP_ROWS):  # in place: large images have no room for two copies
            img[top : top + _STRIP_ROWS] = cv2.cvtColor(img[top : top + _STRIP_ROWS], swap)
    return img


def check_whole(code: bytes, source: str) -> None:
    """Refuse a JPEG that is cut short, which some decoders fill up with grey.

    Raises:
        UserError: It is.
    """
    if is_jpeg(code) and not is_whole(code):
        raise UserError(f"{source}: {_UNREADABLE}")


def _reason(error: Exception) -> str:
    """What OpenCV's own decoders, or the memory, have to say."""
    text = " ".join(str(error).split())
    if "CV_IO_MAX_IMAGE" in text:
        return f"larger than the {MOST_PIXELS} pixels that are decoded"
    if "emory" in text:
        return "too large for the memory there is"
    return "unreadable image"


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


_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda img: img[:, ::-1],
    3: lambda img: img[::-1, ::-1],
    4: lambda img: img[::-1],
    5: lambda img: img.transpose(1, 0, 2),
    6: lambda img: np.rot90(img, -1),
    7: lambda img: img[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


def orientation_of(code: bytes) -> int:
    """How to turn what `decode_image` makes of a file's content: 1 (not at all) to 8, as EXIF numbers them.

    Also 1 where the file or its EXIF data can't be read, and for TIFF files, which OpenCV turns by itself.
    """
    try:
        return _png_orientation(code) if read_header(code) else _orientation(code)
    except Exception:  # metadata never fail an image
        return 1


def _orientation(code: bytes) -> int:
    with opened_by_pillow(io.BytesIO(code)) as file:
        return int(file.getexif().get(ORIENTATION, 1)) if file.format != "TIFF" else 1


def _png_orientation(code: bytes) -> int:
    """As `_orientation`; Pillow would decode a PNG's pixels first, behind which the data may stand."""
    exif = PillowImage.Exif()
    exif.load(png_exif(code))
    return int(exif.get(ORIENTATION, 1))


def png_exif(code: bytes) -> bytes:
    """The EXIF data of a PNG file, wherever they stand; empty if there are none."""
    return chunk_of(code, b"eXIf")


def chunk_of(code: bytes, wanted: bytes, beginning: bytes = b"") -> bytes:
    """What follows the beginning of a PNG file's last chunk of a kind that begins so; empty if there is none."""
    found = b""
    with suppress(struct.error):  # the file is cut short
        for kind, start, end in chunks(code):
            if kind == wanted and code.startswith(beginning, start, end):
                found = code[start + len(beginning) : end]
    return found


def upright(img: Pixels, orientation: int) -> Pixels:
    """Turn (H, W, C) to a view (H, W, C) or (W, H, C) that stands as a viewer shows it."""
    turn = _TURNS.get(orientation)
    return img if turn is None else turn(img)
