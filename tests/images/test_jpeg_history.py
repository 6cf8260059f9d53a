"""The JPEG file that an image was: known by its pixels in files made here, and not seen where there was none."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import skimage
from jpeg_images import Image8, letters, saved
from PIL import Image

from rnan_plugin.images.estimate import luma_table, steps_of_luma
from rnan_plugin.images.jpeg_history import JpegSource, earlier_source, jpeg_source
from rnan_plugin.images.photo import read_photo

PHOTO: Image8 = np.asarray(skimage.data.astronaut()[8:205, 40:251])
PAGE = letters((200, 240), 0.4, 17, "Quick brown foxes jump over it", (3, 14))


def pixels_of(code: bytes) -> Image8:
    return read_photo(code, "a.jpg").pixels.astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("crop", [(0, 0), (3, 6), (0, 1), (7, 0)])
@pytest.mark.parametrize("quality", [15, 40, 70, 90])
def test_what_was_decoded_tells_its_file(quality: int, crop: tuple[int, int], channels: int) -> None:
    top, left = crop
    decoded = pixels_of(saved(PHOTO[..., :channels], quality))[top:, left:]
    steps = tuple(luma_table(quality).tolist())
    assert earlier_source(decoded) == JpegSource(quality, steps, -top % 8, -left % 8)
    assert jpeg_source(b"\x89PNG", decoded) == earlier_source(decoded)


@pytest.mark.parametrize("quality", [30, 80])
@pytest.mark.parametrize("how", ["turned", "upside down", "mirrored", "brighter"])
def test_what_was_turned_or_made_brighter_tells_its_file(how: str, quality: int) -> None:
    decoded = pixels_of(saved(PHOTO, quality))
    table = luma_table(quality).reshape(8, 8)
    grids = {
        "turned": (PHOTO.shape[1] % 8, 0),
        "upside down": (PHOTO.shape[0] % 8, 0),
        "mirrored": (0, PHOTO.shape[1] % 8),
    }
    changed = {
        "turned": np.rot90(decoded),
        "upside down": decoded[::-1],
        "mirrored": decoded[:, ::-1],
        "brighter": np.minimum(decoded, 250) + np.uint8(5),
    }[how]
    steps = tuple((table.T if how == "turned" else table).ravel().tolist())
    assert earlier_source(np.ascontiguousarray(changed)) == JpegSource(quality, steps, *grids.get(how, (0, 0)))


@pytest.mark.parametrize("crop", [(0, 0), (3, 6), (0, 2)])
@pytest.mark.parametrize(("first", "second"), [(20, 90), (20, 98), (75, 95), (50, 85)])
def test_a_file_that_was_saved_again_tells_the_first(first: int, second: int, crop: tuple[int, int]) -> None:
    top, left = crop
    code = saved(pixels_of(saved(PHOTO, first))[top:, left:], second)
    source = jpeg_source(code, pixels_of(code))
    assert source is not None
    assert abs(source.quality - first) <= 1
    assert (source.top, source.left) == (-top % 8, -left % 8)


@pytest.mark.parametrize("kind", ["photo", "letters", "grey"])
@pytest.mark.parametrize("quality", [5, 10, 20, 50, 75, 90, 95, 100])
def test_a_file_that_was_saved_once_tells_itself(kind: str, quality: int) -> None:
    code = saved({"photo": PHOTO, "letters": PAGE, "grey": PHOTO[..., :1]}[kind], quality)
    assert jpeg_source(code, pixels_of(code)) == JpegSource(quality, tuple(steps_of_luma(code)))


def test_finer_steps_before_say_nothing() -> None:
    code = saved(pixels_of(saved(PHOTO, 95)), 60)
    assert earlier_source(pixels_of(code), steps_of_luma(code)) is None


@pytest.mark.parametrize(("preset", "lowest", "highest"), [("web_low", 24, 31), ("low", 38, 45), ("medium", 63, 69)])
def test_another_encoders_table_tells_the_nearest_quality(preset: str, lowest: int, highest: int) -> None:
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "JPEG", quality=preset)
    source = earlier_source(pixels_of(file.getvalue()))
    assert source is not None
    assert lowest <= source.quality <= highest
    assert source.steps == ()  # a table that is not known says nothing of intervals


def twice(img: Image8) -> Image8:
    return img.repeat(2, axis=0).repeat(2, axis=1)


def other_codec(img: Image8, ending: str, quality: int) -> Image8:
    file = io.BytesIO()
    Image.fromarray(img).save(file, ending, quality=quality)
    return np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))


CLEAN = skimage.transform.downscale_local_mean(skimage.data.cat(), (2, 2, 1)).astype(np.uint8)
NEVER: dict[str, Image8] = {
    "photograph": CLEAN,
    "grey": CLEAN[..., :1],
    "letters": PAGE,
    "enlarged twice": twice(CLEAN),
    "cubic": cv2.resize(CLEAN, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC).astype(np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8),
    "few levels": CLEAN // 32 * 32,
    "halftone": np.asarray(Image.fromarray(CLEAN).convert("1").convert("L"))[..., None],
    "one colour": np.full((64, 64, 3), 90, np.uint8),
    "ramp": np.tile(np.arange(256, dtype=np.uint8), (256, 1))[..., None],
    "chessboard": (np.indices((256, 256)).sum(axis=0) // 3 % 2 * 255).astype(np.uint8)[..., None],
    "WebP": other_codec(CLEAN, "WEBP", 60),
    "edited": cv2.convertScaleAbs(pixels_of(saved(PHOTO, 50)), alpha=1.13).astype(np.uint8),
    "JPEG made smaller": cv2.resize(pixels_of(saved(PHOTO, 50)), (150, 140), interpolation=cv2.INTER_AREA).astype(
        np.uint8
    ),
}


@pytest.mark.parametrize("name", NEVER)
def test_no_file_is_seen_where_there_was_none(name: str) -> None:
    assert earlier_source(NEVER[name]) is None


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (8, 8), (9, 15), (3, 3), (16, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size(size: tuple[int, int], channels: int) -> None:
    img = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
    code = saved(img, 90)
    assert jpeg_source(code, pixels_of(code)) == JpegSource(90, tuple(steps_of_luma(code)))
    assert earlier_source(img) is None


def test_sixteen_bits_tell_nothing() -> None:
    decoded = pixels_of(saved(PHOTO, 30)).astype(np.uint16) * 257
    assert jpeg_source(b"\x89PNG", decoded) is None
