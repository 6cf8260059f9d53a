"""Photographs in memory: alpha, depth, orientation, inks, and what can't be read."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from photo_files import LOSSLESS, ORIENTATION, by_tifffile, encoded, png, saved, smooth
from PIL import Image, ImageCms, ImageOps

from rnan_plugin.errors import UserError
from rnan_plugin.images import tiff_writer
from rnan_plugin.images.color import full_scale
from rnan_plugin.images.photo import Photo, photo_of_pillow, read_photo
from rnan_plugin.images.photo_writer import encode_photo

# Pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", LOSSLESS)
def test_what_is_written_is_read_again(name: str, channels: int, dtype: Any) -> None:
    img = smooth(channels, dtype)
    alpha = img[..., -1:] if channels in {2, 4} else None
    photo = Photo(img[..., : channels - (alpha is not None)], alpha)
    code, lost = encoded(photo, name)
    again = read_photo(code, name)
    is_reduced = dtype == np.uint16 and name == "a.webp"
    assert bool(lost) == is_reduced
    expected = [None if part is None else part / 257 if is_reduced else part for part in (photo.pixels, alpha)]
    for part, other in zip((again.pixels, again.alpha), expected, strict=True):
        assert (part is None) == (other is None)
        if part is not None and other is not None:
            assert part.dtype == (np.uint8 if is_reduced else dtype)
            # WebP has no grey.
            assert np.abs(part.astype(float) - other).max() <= (0.5 if is_reduced else 0)
    if name != "a.webp":
        assert again.pixels.shape == photo.pixels.shape


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_other_readers_read_our_tiffs(dtype: Any, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_writer, "_STRIP_PIXELS", 100)  # so that there are several strips
    img = smooth(channels, dtype)
    photo = Photo(img[..., :3] if channels == 4 else img, img[..., 3:] if channels == 4 else None)
    code, _ = encoded(photo, "a.tif")
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(code)).reshape(img.shape), img)
    with tifffile.TiffFile(io.BytesIO(code)) as file:
        page = file.pages.first
        rows = max(1, 100 // img.shape[1])
        assert len(page.dataoffsets) == -(-len(img) // rows) > 5
    if dtype == np.uint8 or channels == 1:
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(code))).reshape(img.shape), img)
    if channels != 4:
        by_opencv = cv2.imdecode(np.frombuffer(code, np.uint8), cv2.IMREAD_UNCHANGED).reshape(img.shape)
        np.testing.assert_array_equal(by_opencv[..., ::-1], img)


def test_jpeg_takes_a_quality_and_refuses_alpha() -> None:
    photo = Photo(smooth(3))
    sizes = [len(encoded(photo, "a.jpg", quality)[0]) for quality in (10, 50, 95)]
    assert sizes == sorted(sizes)
    assert encoded(photo, "a.jpg") == encoded(photo, "a.jpg", 95)
    with pytest.raises(UserError, match=r"^a\.jpg: JPEG has no transparency.*; take PNG, WebP or TIFF$"):
        encode_photo(Photo(smooth(3), smooth(1)), "a.jpg")


@pytest.mark.parametrize(("ending", "most"), [("jpg", 65_500), ("webp", 16_383)])
def test_what_is_too_large_for_a_format_is_one_line(ending: str, most: int, capfd: pytest.CaptureFixture[str]) -> None:
    encode_photo(Photo(np.zeros((1, most, 1), np.uint8)), f"a.{ending}")
    with pytest.raises(UserError, match=f"a.{ending}: {ending} holds at most {most:,} pixels a side, the image has"):
        encode_photo(Photo(np.zeros((most + 1, 1, 1), np.uint8)), f"a.{ending}")
    assert capfd.readouterr().err == ""


def test_sixteen_bits_become_the_nearest_of_eight() -> None:
    img = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    code, lost = encoded(Photo(img), "a.webp")
    assert lost == ["8 of 16 bits"]
    np.testing.assert_array_equal(read_photo(code, "a").pixels[..., :1], np.rint(img / 257))


# Alpha


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_hidden_pixels_are_the_nearest_that_is_shown(dtype: Any) -> None:
    """A network sees no hidden colour; whether a farther pixel is taken is found by looking at all distances."""
    img, alpha = smooth(3, dtype), smooth(1, dtype, seed=1) | np.asarray(1, dtype)
    alpha[4:15, 6:22] = 0
    alpha[0, 0] = 0
    filled = Photo(img, alpha).visible
    shown = np.argwhere(alpha[..., 0] > 0)
    np.testing.assert_array_equal(filled[alpha[..., 0] > 0], img[alpha[..., 0] > 0])
    for place in np.argwhere(alpha[..., 0] == 0):
        distances = np.sqrt(((shown - place) ** 2).sum(axis=1))
        near = shown[distances <= distances.min() + 0.5]
        assert any((filled[tuple(place)] == img[tuple(other)]).all() for other in near)


@pytest.mark.parametrize("value", [0, 255])
def test_alpha_that_is_one_value_changes_nothing(value: int) -> None:
    img = smooth(3)
    np.testing.assert_array_equal(Photo(img, np.full((20, 30, 1), value, np.uint8)).visible, img)


def test_what_alpha_hides_comes_back_as_it_was() -> None:
    img, alpha = smooth(3), np.full((20, 30, 1), 200, np.uint8)
    alpha[:7] = 0
    result = Photo(img, alpha).restored(255 - img)
    np.testing.assert_array_equal(result.pixels[:7], img[:7])
    np.testing.assert_array_equal(result.pixels[7:], 255 - img[7:])
    np.testing.assert_array_equal(result.alpha, alpha)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 3])
def test_alpha_is_enlarged_with_the_image(dtype: Any, scale: int) -> None:
    alpha = smooth(1, dtype)
    white = full_scale(alpha)
    alpha[:8], alpha[12:] = 0, white
    result = Photo(smooth(3, dtype), alpha).restored(np.zeros((20 * scale, 30 * scale, 3), dtype)).alpha
    assert result is not None
    assert (result.shape, result.dtype) == ((20 * scale, 30 * scale, 1), dtype)
    assert (result[: 6 * scale] == 0).all()
    assert (result[15 * scale :] == white).all()
    plane = Image.fromarray(alpha[..., 0].astype(np.float32))
    expected = np.asarray(plane.resize((30 * scale, 20 * scale), Image.Resampling.BICUBIC))
    assert np.abs(result[..., 0] - expected.clip(0, white)).mean() < 0.02 * white


def test_transparent_colours_of_a_png_become_alpha() -> None:
    """Of grey and RGB, 8 and 16 bits, and of fewer, whose samples are spread over eight."""
    for channels, dtype in [(1, np.uint8), (3, np.uint8), (1, np.uint16), (3, np.uint16)]:
        img = smooth(channels, dtype)
        key = img[3, 4].astype(">u2").tobytes()
        photo = read_photo(png(img, (b"tRNS", key)), "a.png")
        assert photo.alpha is not None
        assert photo.pixels.dtype == photo.alpha.dtype == dtype
        np.testing.assert_array_equal(photo.pixels, img)
        expected = np.where((img == img[3, 4]).all(axis=2), 0, full_scale(img))
        np.testing.assert_array_equal(photo.alpha[..., 0], expected)
    four_bits = read_photo(png_of_four_bits(key=5), "a.png")
    assert four_bits.alpha is not None
    np.testing.assert_array_equal(four_bits.pixels[0, :, 0], np.arange(16) * 17)
    np.testing.assert_array_equal(four_bits.alpha[0, :, 0], np.where(np.arange(16) == 5, 0, 255))


def png_of_four_bits(key: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = bytes(16 * (2 * pair) + 2 * pair + 1 for pair in range(8))
    head = struct.pack(">IIBBBBB", 16, 1, 4, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"tRNS", struct.pack(">H", key)), chunk(b"IDAT", zlib.compress(b"\0" + row))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def test_a_colour_image_of_nothing_but_greys_stays_colour() -> None:
    grey = smooth(1)
    rgba = np.concatenate([grey, grey, grey, smooth(1, seed=1)], axis=2)
    assert read_photo(png(rgba), "a.png").pixels.shape == (20, 30, 3)
    photo = read_photo(saved(grey, "PNG"), "a.png")
    assert photo.pixels.shape == (20, 30, 1)


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_photograph_stands_as_pillow_shows_it(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[0x010F] = "Acme"
    code = saved(smooth(3), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(code))))
    photo = read_photo(code, "a")
    np.testing.assert_array_equal(photo.upright().pixels, shown)
    for name in ("a.png", "a.jpg", "a.webp", "a.tif"):
        with Image.open(io.BytesIO(encoded(photo, name)[0])) as file:
            assert file.size == (shown.shape[1], shown.shape[0])
            assert file.getexif().get(ORIENTATION, 1) == 1
            assert file.getexif()[0x010F] == "Acme"


# Inks, frames, and what can't be read


def test_inks_become_light() -> None:
    """Black ink is dark, none is white; without a profile it is told."""
    samples = np.zeros((4, 4, 4), np.uint8)
    samples[0], samples[1, :, 3], samples[2, :, 0] = 0, 255, 255
    buffer = io.BytesIO()
    Image.frombytes("CMYK", (4, 4), samples.tobytes()).save(buffer, "TIFF")
    photo = read_photo(buffer.getvalue(), "a.tif")
    np.testing.assert_array_equal(photo.pixels[:, 0], [[255] * 3, [0] * 3, [0, 255, 255], [255] * 3])
    assert photo.notes == ("CMYK without a profile that can be read, comes back as RGB by a plain formula",)
    deep = by_tifffile(samples.astype(np.uint16) * 257, photometric="separated")
    assert "more than 8 bits, of which 8 come back" in read_photo(deep, "a.tif").notes


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_several_frames_are_refused_in_a_line(kind: str) -> None:
    buffer, frames = io.BytesIO(), [Image.fromarray(smooth(3, seed=seed)) for seed in range(3)]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=rf"^a: 3 pages or frames \({kind}\); save those that you want"):
        read_photo(buffer.getvalue(), "a")


def compressed_by(number: int) -> bytes:
    """A TIFF file that says its samples are compressed in a way that hardly any library was built for."""
    code = saved(smooth(3), "TIFF")
    entry = struct.pack("<HHIHH", 259, 3, 1, 1, 0)  # a short, of one: none
    assert code.count(entry) == 1
    return code.replace(entry, struct.pack("<HHIHH", 259, 3, 1, number, 0))


def lzw(samples: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "TIFF", compression="tiff_lzw")
    return buffer.getvalue()


def without_rows(code: bytes) -> bytes:
    """A TIFF file whose height is said to be 0."""
    (height,) = {code.find(struct.pack("<HHI", 257, kind, 1)) for kind in (3, 4)} - {-1}
    return code[: height + 8] + bytes(4) + code[height + 12 :]


def four_bits() -> bytes:
    """A TIFF file of 4 bits for each of red, green and blue, which Pillow does not know."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, smooth(3), photometric="rgb")
    code = buffer.getvalue()
    assert code.count(struct.pack("<HHH", 8, 8, 8)) == 1
    return code.replace(struct.pack("<HHH", 8, 8, 8), struct.pack("<HHH", 4, 4, 4))


UNREADABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "wide": (lambda: by_tifffile(smooth(3).astype(np.uint32), photometric="rgb"), "samples of type uint32"),
    "signed": (lambda: by_tifffile(smooth(3).astype(np.int16), photometric="rgb"), "samples of type int16"),
    "float": (
        lambda: by_tifffile(smooth(3).astype(np.float32), photometric="rgb"),
        "samples are floating-point numbers",
    ),
    "half": (
        lambda: by_tifffile(smooth(3).astype(np.float16), photometric="rgb"),
        "samples are floating-point numbers",
    ),
    "cut": (lambda: saved(smooth(3), "TIFF")[:-900], "unreadable or truncated image"),
    "cut16": (lambda: by_tifffile(smooth(3, np.uint16), photometric="rgb", compression="zlib")[:-900], "unreadable or"),
    "webp": (
        lambda: compressed_by(50_001),
        "WEBP of 8 bits can't be read; save it with deflate or without compression",
    ),
    "five": (lambda: by_tifffile(np.dstack([smooth(4), smooth(1)]), photometric="rgb"), "5 channels"),
    "inks": (
        lambda: by_tifffile(np.dstack([smooth(4), smooth(1)]), photometric="separated", extrasamples=["unassalpha"]),
        "5 channels, neither grey nor RGB",
    ),
    "grey heights": (
        lambda: lzw(np.arange(-300, 300, dtype=np.int32).reshape(20, 30)),
        "samples of type int32",
    ),
    "no rows": (lambda: without_rows(saved(smooth(3), "TIFF")), "no pixels in it; replace it or take it out"),
    "cut by little": (
        lambda: by_tifffile(smooth(1, np.uint16)[..., 0], photometric="miniswhite")[:-3],
        "unreadable or truncated image; replace it or take it out",
    ),
    "four bits": (four_bits, "unreadable or truncated image; replace it or take it out"),
    "empty": (lambda: b"", "unreadable or truncated image"),
    "gif": (lambda: saved(smooth(1), "GIF")[:60], "unreadable or truncated image"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_can_not_be_read_is_a_line_that_says_why(kind: str) -> None:
    make, why = UNREADABLE[kind]
    with pytest.raises(UserError) as error:
        read_photo(make(), "a")
    assert str(error.value).startswith(f"a: {why}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate"])
def test_a_channel_that_nobody_knows_is_taken_for_alpha_and_told(compression: str, tmp_path: Path) -> None:
    img = smooth(4)
    tifffile.imwrite(tmp_path / "a.tif", img, photometric="rgb", extrasamples=["unspecified"])
    if shutil.which("tiffcp") is None:
        pytest.skip("needs tiffcp, of libtiff-tools")
    subprocess.run(["tiffcp", "-c", compression.replace("deflate", "zip"), "a.tif", "b.tif"], cwd=tmp_path, check=True)
    photo = read_photo((tmp_path / "b.tif").read_bytes(), "b.tif")
    np.testing.assert_array_equal(photo.pixels, img[..., :3])
    np.testing.assert_array_equal(photo.alpha, img[..., 3:])
    assert any("not said to be alpha" in note for note in photo.notes)


def test_cielab_becomes_srgb() -> None:
    rgb = Image.fromarray(smooth(3))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted, buffer = ImageCms.profileToProfile(rgb, srgb, lab, outputMode="LAB"), io.BytesIO()
    assert converted is not None
    converted.save(buffer, "TIFF")
    photo = read_photo(buffer.getvalue(), "a.tif")
    assert np.abs(photo.pixels.astype(int) - smooth(3)).mean() < 2
    assert photo.notes == ("LAB, comes back as sRGB, converted",)


def test_black_and_white_is_told() -> None:
    buffer = io.BytesIO()
    Image.fromarray(smooth(1)[..., 0] > 128).save(buffer, "PNG")
    photo = read_photo(buffer.getvalue(), "a.png")
    assert photo.pixels.shape[2] == 1
    assert photo.notes == ("black and white alone, comes back in grey",)


def test_twelve_bits_are_spread_over_sixteen() -> None:
    """White is white, whichever decoder reads it."""
    levels = np.linspace(0, 4095, 32).astype(np.uint16).reshape(1, 32)
    pairs = levels.reshape(-1, 2).astype(int)
    packed = [(a >> 4, (a & 15) << 4 | b >> 8, b & 255) for a, b in pairs]
    pixels = bytes(value for group in packed for value in group)
    tags = [
        (256, 32),
        (257, 1),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8 + 2 + 9 * 12 + 4),
        (277, 1),
        (278, 1),
        (279, 48),
    ]
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    code = head + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + b"\0\0\0\0" + pixels
    photo = read_photo(code, "a.tif")
    np.testing.assert_array_equal(photo.pixels[..., 0], np.rint(levels * (65535 / 4095)))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_an_avif_of_ten_bits_is_told(tmp_path: Path) -> None:
    for pixels in ("yuv420p", "yuv420p10le"):
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=64x64:d=1:r=1", "-frames:v", "1"]
        command += ["-c:v", "libaom-av1", "-still-picture", "1", "-pix_fmt", pixels, str(tmp_path / f"{pixels}.avif")]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("ffmpeg has no encoder for AVIF")
    notes = [read_photo(file.read_bytes(), "a.avif").notes for file in sorted(tmp_path.iterdir())]
    assert notes == [(), ("more than 8 bits, of which 8 come back",)]


def heic(bits: int) -> bytes:
    """What is read of a HEIC file beside its pixels: its kind, and the record of the decoder's configuration."""
    return b"\0\0\0\x18ftypheic" + bytes(12) + b"hvcC" + bytes(17) + bytes([0xF8 | bits - 8] * 2) + bytes(10)


@pytest.fixture
def heif_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that opens whole HEIC files, as grey ones."""

    def opened(file: io.BytesIO, _: str) -> Image.Image:
        if len(file.read()) < len(heic(8)):
            raise SyntaxError("cut short")
        image = Image.new("L", (8, 8))
        image.format = "HEIF"
        return image

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=lambda: None))
    monkeypatch.setitem(Image.OPEN, "HEIF", (opened, lambda head: head[4:12] == b"ftypheic"))
    monkeypatch.setattr(Image, "ID", [*Image.ID, "HEIF"])


@pytest.mark.usefixtures("heif_package")
def test_a_heic_of_ten_bits_is_told() -> None:
    assert [read_photo(heic(bits), "a").notes for bits in (8, 10)] == [(), ("more than 8 bits, of which 8 come back",)]


@pytest.mark.usefixtures("heif_package")
def test_a_heic_that_is_cut_short_needs_no_package_that_is_there() -> None:
    with pytest.raises(UserError, match=r"^a: unreadable or truncated image; replace it or take it out$"):
        read_photo(heic(8)[:-1], "a")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_pictures_that_pillow_holds_are_photographs(mode: str) -> None:
    image = Image.fromarray(smooth(3 if mode == "P" else 4)).convert({"I;16": "L"}.get(mode, mode)).convert(mode)
    photo = photo_of_pillow(image, "image")[0]
    assert photo.pixels.shape[:2] == (20, 30)
    assert photo.pixels.dtype == (np.uint16 if mode == "I;16" else np.uint8)
    assert (photo.alpha is not None) == (mode in {"LA", "RGBA"})
    if mode not in {"I;16", "CMYK"}:
        shown = np.asarray(image.convert("RGBA" if photo.alpha is not None else "RGB"))
        np.testing.assert_array_equal(photo.pixels, shown[..., : photo.pixels.shape[2]])
