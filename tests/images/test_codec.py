"""Image files: what is cut short, what is large, what stands beside the pixels."""

from __future__ import annotations

import io
import os
import threading
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from rnan_plugin.errors import UserError
from rnan_plugin.images.codec import orientation_of, read_file
from rnan_plugin.images.eight_bit import decode_image, image_size
from rnan_plugin.images.jpeg_segments import is_whole
from rnan_plugin.images.png_rows import png_pieces


def photo(channels: int = 3) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(0, 256, (120, 200, channels), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5).reshape(120, 200, channels).astype(np.uint8)


def jpeg(**options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo()).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def thumbnail() -> bytes:
    """EXIF data with a whole JPEG file in them, as cameras write them."""
    exif = Image.Exif()
    exif[0x010E] = "a camera"
    small = io.BytesIO()
    Image.fromarray(photo()[::4, ::4]).save(small, "JPEG")
    return exif.tobytes() + small.getvalue()


def by_opencv(*flags: int) -> bytes:
    return cv2.imencode(".jpg", photo(), list(flags))[1].tobytes()


JPEGS = {
    "baseline": lambda: jpeg(quality=90),
    "progressive": lambda: jpeg(progressive=True),
    "optimised": lambda: by_opencv(cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "restart markers": lambda: by_opencv(cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "thumbnail": lambda: jpeg(exif=thumbnail(), quality=95),
    "progressive with thumbnail": lambda: jpeg(exif=thumbnail(), progressive=True),
    "comment like an end": lambda: jpeg(comment=b"\xff\xd9\xff\xd9"),
}


@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_are_known_to_be_cut_wherever_they_are(kind: str) -> None:
    code = JPEGS[kind]()
    assert decode_image(code, "a.jpg").shape == (120, 200, 3)
    for length in [*range(0, len(code), 7), len(code) - 2, len(code) - 1]:
        assert not is_whole(code[:length])
    for share in (0.1, 0.6, 0.9, 0.99):
        with pytest.raises(UserError, match=r"^a\.jpg: unreadable or truncated image; replace it or take it out$"):
            decode_image(code[: int(share * len(code))], "a.jpg")


@pytest.mark.parametrize("behind", [b"\0" * 100, b"\xff\xd8\xff\xe1 a film", b"\xff"])
def test_what_follows_a_jpeg_is_let_be(behind: bytes) -> None:
    code = JPEGS["thumbnail"]()
    assert is_whole(code + behind)
    np.testing.assert_array_equal(decode_image(code + behind, ""), decode_image(code, ""))


def test_fill_bytes_and_stray_ones_between_segments_are_skipped() -> None:
    code = jpeg()
    assert is_whole(code[:2] + b"\xff\xff\xff" + code[2:])
    assert is_whole(code[:-2] + b"\xff\xff" + code[-1:])


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """More pixels than Pillow opens by itself; a few hundred KB."""
    with (tmp_path / "large.png").open("wb") as file:
        file.writelines(png_pieces(np.broadcast_to(np.uint8(7), (20_000, 9_000, 1)), 1))
    return tmp_path / "large.png"


def test_large_images_are_read(large: Path) -> None:
    with pytest.raises(Image.DecompressionBombError):
        Image.open(large)
    before = Image.MAX_IMAGE_PIXELS
    assert image_size(large) == (20_000, 9_000)
    assert orientation_of(large.read_bytes()) == 1
    img = decode_image(large.read_bytes(), "large.png")
    assert img.shape == (20_000, 9_000, 1)
    assert img[-1, -1, 0] == 7
    assert before == Image.MAX_IMAGE_PIXELS  # as everybody else knows it


@pytest.mark.parametrize("size", [2**20, 2**22, 2**27])
def test_long_texts_fail_no_image(tmp_path: Path, size: int) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add(b"zTXt", b"comment\0\0" + zlib.compress(b"x" * size))
    Image.fromarray(photo()).save(tmp_path / "a.png", pnginfo=texts)
    assert image_size(tmp_path / "a.png") == (120, 200)
    assert orientation_of((tmp_path / "a.png").read_bytes()) == 1
    np.testing.assert_array_equal(decode_image(read_file(tmp_path / "a.png"), "a"), photo())


def test_sizes_of_what_is_no_image_are_one_line(tmp_path: Path) -> None:
    whole = cv2.imencode(".png", photo())[1].tobytes()
    contents = {"empty": b"", "text": b"no image", "head.png": whole[:20], "cut.tif": b"II*\0\xff\xff\xff\xff"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="unreadable or truncated image; replace it or take it out"):
            image_size(tmp_path / name)
    with pytest.raises(UserError, match=r"absent: can't be read \(No such file"):
        image_size(tmp_path / "absent")


@pytest.mark.parametrize("error", [cv2.error("(-215:Assertion failed)"), MemoryError(), RuntimeError("whatever")])
def test_what_opencv_raises_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(cv2, "imdecode", failing)
    with pytest.raises(UserError, match=r"^a\.bmp: ") as told:
        decode_image(b"BM", "a.bmp")
    assert "\n" not in str(told.value)


def test_pipes_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for reader in (read_file, image_size):
        told: list[str] = []

        def read(reader: Any = reader, told: list[str] = told) -> None:
            try:
                reader(tmp_path / "a.png")
            except UserError as error:
                told.append(str(error))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        thread.join(30)
        assert told == [
            f"{tmp_path / 'a.png'}: a folder, pipe or device, not an image file; take it out or name another"
        ]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (7, 1), (61, 83), (1100, 1000)])
def test_pieces_are_a_png_file(channels: int, size: tuple[int, int]) -> None:
    img = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
    for view in (img, img[::-1], np.rot90(img)):
        code = b"".join(png_pieces(view, 3))
        np.testing.assert_array_equal(decode_image(code, ""), view)
        with Image.open(io.BytesIO(code)) as oracle:
            np.testing.assert_array_equal(np.asarray(oracle).reshape(view.shape), view)


def test_pieces_are_packed_about_as_well_as_by_opencv() -> None:
    img = cv2.GaussianBlur(photo(), (0, 0), 3)
    assert len(b"".join(png_pieces(img, 3))) < 1.1 * len(cv2.imencode(".png", img)[1])
