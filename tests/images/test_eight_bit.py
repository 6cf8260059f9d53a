"""Images of data sets: 8 bits, upright, the values that their format stands for, and one picture a file."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rnan_plugin.errors import UserError
from rnan_plugin.images.eight_bit import decode_image, image_size

ORIENTATION = 0x0112


def picture(size: tuple[int, int] = (20, 30)) -> NDArray[np.uint8]:
    img = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    return cv2.GaussianBlur(img, (0, 0), 2)


def saved(kind: str, orientation: int = 1, **options: Any) -> bytes:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = orientation
    Image.fromarray(picture()).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_stand_as_viewers_show_them(kind: str, orientation: int, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    code = saved(kind, orientation, **options)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(code))))
    img = decode_image(code, "a")
    assert np.abs(img.astype(int) - shown).max() <= (2 if kind == "JPEG" else 0)  # of two decoders
    (tmp_path / "a").write_bytes(code)
    assert image_size(tmp_path / "a") == img.shape[:2]


@pytest.mark.parametrize("ending", [b"", b"\n"])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
@pytest.mark.parametrize("white", [1, 3, 100, 255])
def test_white_of_a_pnm_is_white(kind: str, white: int, ending: bytes) -> None:
    channels = 3 if kind in {"P3", "P6"} else 1
    samples = np.random.default_rng(0).integers(0, white + 1, (7, 9, channels), dtype=np.uint8)
    body = samples.tobytes() if kind in {"P5", "P6"} else " ".join(map(str, samples.ravel())).encode() + ending
    img = decode_image(f"{kind}\n9 7\n{white}\n".encode() + body, "a")
    assert np.abs(img - samples * (255 / white)).max() < 0.5 + 1e-9


def test_a_bmp_without_a_mask_for_alpha_has_none() -> None:
    """What OpenCV gives as alpha are bytes that nobody filled."""
    pixels = np.concatenate([picture()[::-1, :, ::-1], np.zeros((20, 30, 1), np.uint8)], axis=2).tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, 30, 20, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    head += struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
    code = b"BM" + struct.pack("<III", 14 + len(head) + len(pixels), 0, 14 + len(head)) + head + pixels
    np.testing.assert_array_equal(decode_image(code, "a.bmp"), picture())


def several(kind: str) -> bytes:
    buffer, frames = io.BytesIO(), [Image.fromarray(picture()), Image.fromarray(picture()[::-1])]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def raw_of_a_camera() -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(picture(), photometric="rgb", subfiletype=1, subifds=1)
        file.write(np.zeros((40, 60), np.uint16), photometric="cfa", extratags=CFA)
    return buffer.getvalue()


CFA = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, (0, 1, 1, 2), True)]
NO_PICTURES = {
    "frames of a PNG": (lambda: several("PNG"), r"2 pages or frames \(PNG\)"),
    "frames of a WebP": (lambda: several("WEBP"), r"2 pages or frames \(WEBP\)"),
    "pages": (lambda: several("TIFF"), r"2 pages or frames \(TIFF\)"),
    "camera's raw data": (raw_of_a_camera, "a camera's raw data; develop them"),
    "PAM": (lambda: b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\nabc", "PAM file.*PPM or PNG"),
}


@pytest.mark.parametrize("kind", NO_PICTURES)
def test_what_is_not_one_picture_is_a_line(kind: str) -> None:
    make, told = NO_PICTURES[kind]
    with pytest.raises(UserError, match=told) as error:
        decode_image(make(), "a")
    assert str(error.value).startswith("a: ")
