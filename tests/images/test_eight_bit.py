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


def bmp(head: bytes, pixels: bytes) -> bytes:
    return b"BM" + struct.pack("<III", 14 + len(head) + len(pixels), 0, 14 + len(head)) + head + pixels


def bmp_head(size: int, bits: int, masks: tuple[int, int, int]) -> bytes:
    head = struct.pack("<IiiHHIIiiII", size, 30, 20, 1, bits, 3, 0, 0, 0, 0, 0) + struct.pack("<III", *masks)
    return head.ljust(size, b"\0")


def test_a_bmp_of_the_oldest_header_keeps_its_colours() -> None:
    rows = np.zeros((20, 92), np.uint8)  # of whole words
    rows[:, :90] = picture()[::-1, :, ::-1].reshape(20, 90)
    code = bmp(struct.pack("<IHHHH", 12, 30, 20, 1, 24), rows.tobytes())
    np.testing.assert_array_equal(decode_image(code, "a.bmp"), picture())


def test_red_and_blue_of_a_bmp_are_what_its_masks_say() -> None:
    """What can't be read so is refused; nothing is exchanged in silence."""
    pixels = np.concatenate([picture()[::-1], np.zeros((20, 30, 1), np.uint8)], axis=2).tobytes()
    code = bmp(bmp_head(40, 32, (0xFF, 0xFF00, 0xFF0000)), pixels)
    with pytest.raises(UserError, match=r"^a\.bmp: unreadable or truncated image \(Unsupported BMP bitfields layout\)"):
        decode_image(code, "a.bmp")


@pytest.mark.parametrize("size", [40, 56, 108, 124])
def test_a_bmp_of_sixteen_bits_a_pixel(size: int) -> None:
    img = picture().astype(np.uint16)
    packed = (img[..., 0] >> 3 << 11 | img[..., 1] >> 2 << 5 | img[..., 2] >> 3)[::-1]
    head = bmp_head(size, 16, (0xF800, 0x07E0, 0x001F))
    if size == 40:
        head = head[:40] + struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    decoded = decode_image(bmp(head, packed.astype("<u2").tobytes()), "a.bmp")
    assert np.abs(decoded.astype(int) - picture()).max() < 8


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_png_is_measured_as_it_is_decoded_wherever_its_camera_data_stand(orientation: int, tmp_path: Path) -> None:
    code = saved("PNG", orientation)
    place = code.index(b"eXIf") - 4
    length = 12 + int.from_bytes(code[place : place + 4], "big")
    exif, rest = code[place : place + length], code[:place] + code[place + length :]
    (tmp_path / "a.png").write_bytes(rest[:-12] + exif + rest[-12:])  # behind the pixels
    expected = (20, 30) if orientation == 1 else (30, 20)
    assert image_size(tmp_path / "a.png") == decode_image((tmp_path / "a.png").read_bytes(), "a").shape[:2] == expected


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


def smaller_copy_first() -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(picture()[::4, ::4], photometric="rgb", subfiletype=1)
        file.write(picture(), photometric="rgb")
    return buffer.getvalue()


def by_tifffile(samples: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, photometric="rgb", **options)
    return buffer.getvalue()


CFA = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, (0, 1, 1, 2), True)]
NO_PICTURES = {
    "frames of a PNG": (lambda: several("PNG"), r"2 pages or frames \(PNG\)"),
    "frames of a WebP": (lambda: several("WEBP"), r"2 pages or frames \(WEBP\)"),
    "pages": (lambda: several("TIFF"), r"2 pages or frames \(TIFF\)"),
    "camera's raw data": (raw_of_a_camera, "a camera's raw data; develop them"),
    "a smaller copy first": (smaller_copy_first, "its first page is a smaller copy of the image"),
    "signed": (lambda: by_tifffile(picture().astype(np.int8)), "samples of type int8; save it with 8 or 16 bits"),
    "two more channels": (
        lambda: by_tifffile(np.dstack([picture(), picture()[..., :2]])),
        "5 channels; save it",
    ),
    "a channel nobody named": (
        lambda: by_tifffile(np.dstack([picture(), picture()[..., :1]]), extrasamples=["unspecified"]),
        r"4 channels \(alpha\?\); convert it to RGB or grey without alpha",
    ),
    "PAM": (lambda: b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\nabc", "PAM file.*PPM or PNG"),
}


@pytest.mark.parametrize("kind", NO_PICTURES)
def test_what_is_not_one_picture_is_a_line(kind: str, tmp_path: Path) -> None:
    """Also where only its size is asked for, as of all images of a data set before anything begins."""
    make, told = NO_PICTURES[kind]
    with pytest.raises(UserError, match=told) as error:
        decode_image(make(), "a")
    assert str(error.value).startswith("a: ")
    (tmp_path / "a").write_bytes(make())
    with pytest.raises(UserError, match=told):
        image_size(tmp_path / "a")
