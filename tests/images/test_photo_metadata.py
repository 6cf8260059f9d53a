"""What stands beside the pixels of a photograph comes back as it was, whole or damaged; what does not is told."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from photo_files import SRGB, encoded, png, saved, smooth, with_all
from PIL import Image, features

from rnan_plugin.images.photo import Photo, photo_of_pillow, read_photo
from rnan_plugin.images.photo_metadata import Metadata


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_metadata_come_back(name: str, dtype: Any) -> None:
    photo = with_all(3, dtype)
    code, lost = encoded(photo, name)
    assert not [line for line in lost if "bits" not in line]
    again = read_photo(code, name).metadata
    assert again.icc == SRGB
    if name != "a.webp":  # which has no other place for it than the camera data
        assert again.dpi == pytest.approx((300, 200), abs=0.02)
    with Image.open(io.BytesIO(code)) as file:
        exif = file.getexif()
        if name == "a.webp":
            assert (exif[0x011A], exif[0x011B], exif[0x0128]) == (300, 200, 2)
        assert exif[0x010F] == "Acme"
        part = exif.get_ifd(0x8769)
        assert (part[0x9003], part[0xA002], part[0xA003]) == ("2020:01:02 03:04:05", 30, 20)
        assert tuple(map(float, exif.get_ifd(0x8825)[2])) == (47, 30, 0)


def test_a_resolution_needs_no_camera_data_beside_it_in_a_webp() -> None:
    code, lost = encoded(Photo(smooth(3), metadata=Metadata(dpi=(72.0, 71.5))), "a.webp")
    with Image.open(io.BytesIO(code)) as file:
        assert dict(file.getexif()) == {0x011A: 72, 0x011B: 71.5, 0x0128: 2}
    assert not lost


TEXTS = {0: "© Jörg".encode(), 0x8769: "Ünï".encode("latin-1"), 0x8825: "Zürich".encode(), 0xA005: b"R9\xe9"}


def with_texts() -> bytes:
    """A JPEG file with texts in each part of its camera data that are no ASCII."""
    exif = Image.Exif()
    exif[0x8298], exif[0x8769], exif[0x8825] = "0" * 7 + ".", {0xA434: "1" * 3 + "."}, {0x1D: "2" * 7 + "."}
    exif[0x8769][0xA005] = {1: "333"}
    code = saved(smooth(3), "JPEG", exif=exif)
    for text, stand_in in zip(TEXTS.values(), (b"0" * 7 + b".", b"111.", b"2222222.", b"333"), strict=True):
        assert code.count(stand_in) == 1
        code = code.replace(stand_in, text.ljust(len(stand_in), b"\0"))
    return code


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_texts_of_the_camera_come_back_byte_for_byte(name: str) -> None:
    """By whichever encoding they were written: EXIF names none."""
    code = with_texts()
    photos = read_photo(code, "a.jpg"), photo_of_pillow(Image.open(io.BytesIO(code)), "image")[0]
    for photo in photos:
        with Image.open(io.BytesIO(encoded(photo, name)[0])) as file:
            exif = file.getexif()
            part, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
            found = exif[0x8298], part[0xA434], place[0x1D], exif.get_ifd(0xA005)[1]
        assert [text.rstrip("\0").encode("latin-1") for text in found] == list(TEXTS.values())


def in_utf8(code: bytes) -> bytes:
    """A file with camera data whose texts are said to be in UTF-8, as EXIF 3.0 has it: Copyright and the lens."""
    for tag in (0x8298, 0xA434):
        order = next(order for order in "<>" if struct.pack(f"{order}HHI", tag, 2, 6) in code)
        entry = struct.pack(f"{order}HHI", tag, 2, 6)
        assert code.count(entry) == 1
        code = code.replace(entry, struct.pack(f"{order}HHI", tag, 129, 6))
    return code.replace(b"J@@rg", "Jörg".encode())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF", "PNG"])
def test_texts_in_utf8_come_back_where_all_programs_find_them(kind: str) -> None:
    given, exif = Image.Exif(), Image.Exif()
    given[0x8298], given[0x8769] = "J@@rg", {0xA434: "J@@rg"}
    exif.load(given.tobytes())
    chunk = in_utf8(given.tobytes().removeprefix(b"Exif\0\0"))
    code = png(smooth(3), (b"eXIf", chunk)) if kind == "PNG" else in_utf8(saved(smooth(3), kind, exif=exif))
    metadata = read_photo(code, "a").metadata
    assert metadata.exif is not None
    again = Image.Exif()
    again.load(metadata.exif)
    for text in (again[0x8298], again.get_ifd(0x8769)[0xA434]):
        assert text.encode("latin-1") == "Jörg".encode()
    if kind == "JPEG":
        notes = photo_of_pillow(Image.open(io.BytesIO(code)), "image")[0].notes
        assert notes == ("texts of the camera data in UTF-8 are left out",)
    assert not read_photo(code, "a").notes


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_pixels_an_inch_are_exchanged_where_the_image_is_turned_by_a_quarter(kind: str) -> None:
    """A fax has 204 across and 98 down."""
    buffer, exif = io.BytesIO(), Image.Exif()
    exif.update({0x0112: 6, 0x011A: 204.0, 0x011B: 98.0, 0x0128: 2})
    extra = {} if kind == "WEBP" else {"dpi": (204, 98)}
    Image.fromarray(smooth(3)).save(buffer, kind, exif=exif, **extra)
    code, _ = encoded(read_photo(buffer.getvalue(), "a"), "a.png")
    with Image.open(io.BytesIO(code)) as file:
        assert file.size == smooth(3).shape[:2]
        told = file.getexif()
        assert told.get(0x0112, 1) == 1
        if kind == "WEBP":  # has no other place for them
            assert (told[0x011A], told[0x011B]) == (98, 204)
        else:
            assert file.info["dpi"] == pytest.approx((98, 204), abs=0.02)
        assert (told.get(0x011A, 98), told.get(0x011B, 204)) == (98, 204)


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
@pytest.mark.parametrize(("unit", "expected"), [(2, 300.0), (3, 762.0)])
def test_a_resolution_that_camera_data_alone_tell_comes_back_in_a_tiff(kind: str, unit: int, expected: float) -> None:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif.update({0x011A: 300.0, 0x011B: 300.0, 0x0128: unit})
    Image.fromarray(smooth(3)).save(buffer, kind, exif=exif)
    code, _ = encoded(read_photo(buffer.getvalue(), "a"), "a.tif")
    with Image.open(io.BytesIO(code)) as file:
        assert file.info["dpi"] == pytest.approx((expected, expected))


def test_texts_that_a_program_gives_a_pillow_image_come_back() -> None:
    image = Image.fromarray(smooth(3))
    image.getexif()[0x013B] = "東京"
    exif = photo_of_pillow(image, "image")[0].metadata.exif
    assert exif is not None
    assert "東京".encode() in exif


def test_camera_data_that_a_jpeg_has_no_room_for_take_nothing_else_with_them() -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 70_000
    photo = Photo(smooth(3), metadata=Metadata(SRGB, exif.tobytes().removeprefix(b"Exif\0\0")))
    code, lost = encoded(photo, "a.jpg")
    assert lost == ["the camera data"]
    with Image.open(io.BytesIO(code)) as file:
        assert file.info["icc_profile"] == SRGB
    code, lost = encoded(photo, "a.tif")
    assert not lost
    with Image.open(io.BytesIO(code)) as file:
        assert len(file.getexif()[0x010E]) == 70_000


GARBAGE = (
    b"MM\0*\0\0\0\x08\xff\xff",
    b"II*\0\xff\xff\xff\xff",
    b"nothing",
    b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\xff\xff\xff",
)


@pytest.mark.parametrize("exif", GARBAGE)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_camera_data_never_fail_an_image(kind: str, exif: bytes) -> None:
    code = saved(smooth(3), kind, exif=(b"Exif\0\0" if kind == "JPEG" else b"") + exif, icc_profile=SRGB)
    plain = saved(smooth(3), kind)
    photo = read_photo(code, "a")
    np.testing.assert_array_equal(photo.upright().pixels, read_photo(plain, "a").pixels)
    for name in ("a.png", "a.jpg", "a.webp", "a.tif"):
        with Image.open(io.BytesIO(encoded(photo, name)[0])) as file:
            assert file.info["icc_profile"] == SRGB
            file.load()


def test_a_damaged_profile_never_fails_an_image_and_is_told() -> None:
    for icc in (b"x", b"x" * 200, SRGB[:100]):
        photo = read_photo(saved(smooth(3), "JPEG", icc_profile=icc), "a.jpg")
        assert photo.metadata.icc is None
        assert photo.notes == ("colour profile is damaged or not for such pixels, and left out",)


def test_a_profile_for_colour_is_left_out_of_a_grey_image() -> None:
    """Programs that read a PNG with both refuse the profile, or the file."""
    photo = read_photo(saved(smooth(1), "JPEG", icc_profile=SRGB), "a.jpg")
    assert (photo.metadata.icc, len(photo.notes)) == (None, 1)
    assert with_all(3).restored(smooth(1)).metadata.icc is None
    assert with_all(3).restored(smooth(3)).metadata.icc == SRGB


def test_a_palette_of_greys_with_a_profile_for_colour_stays_colour() -> None:
    image = Image.fromarray(smooth(1)[..., 0] // 32 * 36).convert("P")
    for icc, channels in ((None, 1), (SRGB, 3)):
        buffer = io.BytesIO()
        image.save(buffer, "PNG", icc_profile=icc)
        photo = read_photo(buffer.getvalue(), "a.png")
        assert (photo.pixels.shape[2], photo.metadata.icc) == (channels, icc)


def test_what_stands_behind_a_png_takes_no_metadata_with_it() -> None:
    code = saved(smooth(3), "PNG", icc_profile=SRGB)
    for behind in (b"\n", b"\0" * 100, b"abc"):
        assert read_photo(code + behind, "a.png").metadata.icc == SRGB


def test_a_profile_that_can_not_be_unpacked_is_told() -> None:
    """Bad data in a PNG; a JPEG that lacks one of a profile's parts."""
    damaged = png(smooth(3), (b"iCCP", b"x\0\0" + b"no zlib"))
    cut = saved(smooth(3), "JPEG", icc_profile=SRGB).replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\1\2")
    unknown = read_photo(png(smooth(3), (b"iCCP", b"x\0\7" + zlib.compress(SRGB))), "a")  # Pillow opens no such file
    assert unknown.notes == ("what stands beside its pixels can't be read, and is left out",)
    for code in (damaged, cut):
        photo = read_photo(code, "a")
        assert (photo.metadata.icc, photo.notes) == (None, ("colour profile is damaged, and left out",))
        assert photo_of_pillow(Image.open(io.BytesIO(code)), "a")[0].notes == photo.notes


GAMMA = struct.pack(">I", 45_455)
SRGB_PRIMARIES = struct.pack(">8I", 31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
ADOBE_PRIMARIES = struct.pack(">8I", 31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000)
# Chunks of a PNG that say what its values mean, and whether that is what they mean anyway.
COLOURS = {
    "linear": ([(b"gAMA", struct.pack(">I", 100_000))], False),
    "Adobe RGB": ([(b"gAMA", GAMMA), (b"cHRM", ADOBE_PRIMARIES)], False),
    "Display P3": ([(b"cICP", b"\x0c\x0d\0\1")], False),
    "usual gamma": ([(b"gAMA", GAMMA)], True),
    "usual primaries": ([(b"gAMA", GAMMA), (b"cHRM", SRGB_PRIMARIES)], True),
    "sRGB above others": ([(b"sRGB", b"\0"), (b"cHRM", ADOBE_PRIMARIES)], True),
    "sRGB in numbers": ([(b"cICP", b"\1\x0d\0\1")], True),
}


@pytest.mark.parametrize("case", COLOURS)
def test_a_colour_space_is_kept_by_png_and_told_by_others(case: str) -> None:
    told, is_usual = COLOURS[case]
    photo = read_photo(png(smooth(3), *told), "a.png")
    code = encoded(photo, "a.png")[0]
    assert all(kind + content in code for kind, content in told)
    for name in ("a.jpg", "a.webp", "a.tif"):
        assert encoded(photo, name)[1] == ([] if is_usual else ["the colour space (gamma, primaries)"])


@pytest.mark.skipif(not features.check("avif"), reason="needs Pillow with AVIF")
@pytest.mark.parametrize(
    ("codes", "kept"), [((12, 13), b"\x0c\x0d\0\1"), ((9, 16), b"\x09\x10\0\1"), ((1, 13), None), ((2, 2), None)]
)
def test_a_colour_space_of_avif_is_kept_by_png(codes: tuple[int, int], kept: bytes | None) -> None:
    code = saved(smooth(3), "AVIF")
    place = code.index(b"colrnclx") + 8
    code = code[:place] + struct.pack(">HH", *codes) + code[place + 4 :]
    photo = read_photo(code, "a.avif")
    assert photo.metadata.colour == (() if kept is None else ((b"cICP", kept),))
    assert (b"cICP" in encoded(photo, "a.png")[0]) == (kept is not None)
    assert bool(encoded(photo, "a.jpg")[1]) == (kept is not None)
