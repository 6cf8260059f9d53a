"""Image files to arrays by OpenCV and Pillow, the orientation that a file tells, and arrays to PNG."""

from __future__ import annotations

import io
import re
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
from PIL import PngImagePlugin, UnidentifiedImageError

from rnan_plugin.errors import UserError, said_by
from rnan_plugin.images.bmp_header import has_alpha
from rnan_plugin.images.color import Pixels, scaled
from rnan_plugin.images.jpeg_segments import is_jpeg, is_whole
from rnan_plugin.images.png_rows import Value, chunks, read_header

# Of files that are taken for images: what OpenCV or Pillow decodes, also by other names of JPEG.
IMAGE_ENDINGS = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
MOST_PIXELS = 2**30  # of an image; more than OpenCV decodes

_MOST_TEXT = 2**26  # bytes of a PNG file's texts, unpacked
_STRIP_ROWS = 1024
UNREADABLE = "unreadable or truncated image; replace it or take it out"
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
    except UnidentifiedImageError:  # which names the buffer
        raise UserError(f"{name}: {UNREADABLE}") from None
    except Exception as error:  # any: Pillow's readers let out what a damaged file brings about
        told = f"unreadable or truncated image ({said_by(error, 100)}); replace it or take it out"
        raise UserError(f"{name}: {told}") from None


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


def decode_samples(code: bytes, source: str) -> NDArray[Any]:
    """Decode an image by OpenCV, as far as it is right: (H, W, C) of grey, RGB or RGBA, of whatever depth.

    Raises:
        UserError: Unreadable or truncated, too large, or a PAM file.
    """
    if code.startswith(b"P7\n"):
        raise UserError(f"{source}: a PAM file, of which red and blue may be mixed up; save it as PPM or PNG")
    white = _pnm_white(code)
    if white < 255:
        with decoded_by_pillow(code, source) as file:
            return samples_of(file, file.mode)
    # OpenCV takes an image in digits for cut short where nothing follows the last.
    img = _decoded(code + b"\n" if re.match(rb"P[23]\s", code) else code, source)
    if img.ndim == 2:
        img = img[..., None]
    if img.shape[2] == 4 and not has_alpha(code):
        img = np.ascontiguousarray(img[..., :3])
    if img.dtype not in (np.uint8, np.uint16):  # which OpenCV can't swap, and nobody restores
        return img
    return scaled(_swapped(img), white) if white > 255 else _swapped(img)


def _decoded(code: bytes, source: str) -> NDArray[Any]:
    """What OpenCV makes of a file: grey, BGR or BGRA."""
    check_whole(code, source)
    try:
        img = cv2.imdecode(np.frombuffer(code, np.uint8), cv2.IMREAD_UNCHANGED) if code else None
    except MemoryError:
        raise UserError(f"{source}: too large for the memory there is; free some, or make the image smaller") from None
    except Exception as error:  # `cv2.error` is all that it should raise
        raise UserError(f"{source}: {_reason(error)}; replace it or take it out") from None
    if img is None:
        raise UserError(f"{source}: {UNREADABLE}")
    return img


def _swapped(img: Pixels) -> Pixels:
    """RGB of BGR, in place: large images have no room for two copies."""
    if img.shape[2] >= 3:
        swap = cv2.COLOR_BGR2RGB if img.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        for top in range(0, img.shape[0], _STRIP_ROWS):
            img[top : top + _STRIP_ROWS] = cv2.cvtColor(img[top : top + _STRIP_ROWS], swap)
    return img


def _pnm_white(code: bytes) -> int:
    """What stands for white in a PGM or PPM file, 1 to 65535; 255 for all others."""
    if not re.match(rb"P[2356]\s", code):
        return 255
    words = re.sub(rb"#[^\r\n]*", b" ", code[: 2**16]).split(None, 4)
    return min(max(int(words[3]), 1), 65535) if len(words) > 3 and words[3].isdigit() else 255


def check_whole(code: bytes, source: str) -> None:
    """Refuse a JPEG that is cut short, which some decoders fill up with grey.

    Raises:
        UserError: It is.
    """
    if is_jpeg(code) and not is_whole(code):
        raise UserError(f"{source}: {UNREADABLE}")


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


SIDEWAYS = range(5, 9)  # orientations that exchange height and width


def orientation_of(code: bytes) -> int:
    """How to turn what a file's content decodes to: 1 (not at all) to 8, as EXIF numbers them.

    Also 1 where the file or its EXIF data can't be read, and for TIFF files, whose decoders turn them.
    """
    try:
        return png_orientation(code) if read_header(code) else _orientation(code)
    except Exception:  # metadata never fail an image
        return 1


def _orientation(code: bytes) -> int:
    with opened_by_pillow(io.BytesIO(code)) as file:
        return int(file.getexif().get(ORIENTATION, 1)) if file.format != "TIFF" else 1


def png_orientation(code: Value) -> int:
    """As `orientation_of`; Pillow would decode a PNG's pixels first, behind which the data may stand.

    Raises:
        Exception: Of any kind, of damaged EXIF data.
    """
    exif = PillowImage.Exif()
    exif.load(png_exif(code))
    return int(exif.get(ORIENTATION, 1))


def png_exif(code: Value) -> bytes:
    """The EXIF data of a PNG file, wherever they stand; empty if there are none."""
    return chunk_of(code, b"eXIf")


def chunk_of(code: Value, wanted: bytes, beginning: bytes = b"") -> bytes:
    """What follows the beginning of a PNG file's last chunk of a kind that begins so; empty if there is none."""
    found = b""
    with suppress(struct.error):  # the file is cut short
        for kind, start, end in chunks(code):
            if kind == wanted and code[start : start + len(beginning)] == beginning:
                found = bytes(code[start + len(beginning) : end])
    return found


def upright(img: Pixels, orientation: int) -> Pixels:
    """Turn (H, W, C) to a view (H, W, C) or (W, H, C) that stands as a viewer shows it."""
    turn = _TURNS.get(orientation)
    return img if turn is None else turn(img)
