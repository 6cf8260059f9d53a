"""What a JPEG file says of its image: blocks against SciPy's transform, intervals and earlier files by making files."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import skimage
from jpeg_images import Image8, letters, saved
from PIL import Image
from scipy.fft import dctn

from rnan_plugin.images import jpeg_intervals
from rnan_plugin.images.estimate import luma_table, steps_of_luma
from rnan_plugin.images.jpeg_blocks import coefficients, jpeg_luma, of_coefficients
from rnan_plugin.images.jpeg_history import was_coarser
from rnan_plugin.images.jpeg_intervals import bring_within
from rnan_plugin.images.photo import read_photo


def within(decoded: Image8, restored: Image8, steps: list[int]) -> tuple[Image8, float]:
    result = restored.copy()
    left = bring_within(decoded, result, steps)
    return result, left


def pixels_of(code: bytes) -> Image8:
    return read_photo(code, "a.jpg").pixels.astype(np.uint8)


@pytest.fixture(scope="module")
def photo() -> Image8:
    return np.asarray(skimage.data.astronaut()[8:205, 40:251])


@pytest.fixture(scope="module")
def page() -> Image8:
    return letters((200, 240), 0.4, 17, "Quick brown foxes jump over it", (3, 14))


def test_coefficients_are_those_of_the_discrete_cosine_transform() -> None:
    luma = np.random.default_rng(0).uniform(0, 255, (19, 30)).astype(np.float32)
    found = coefficients(luma)
    assert found.shape == (2, 3, 8, 8)
    for row, column in ((0, 0), (1, 2)):
        block = luma[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert found[row, column] == pytest.approx(dctn(block - 128.0, norm="ortho"), abs=1e-3)
    assert of_coefficients(found) + 128 == pytest.approx(luma[:16, :24], abs=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [30, 90])
def test_the_image_that_a_file_was_made_of_is_within(photo: Image8, channels: int, quality: int) -> None:
    clean = photo[..., :channels]
    code = saved(clean, quality, subsampling=0)
    result, left = within(pixels_of(code), clean, steps_of_luma(code))
    assert left < 0.001
    assert np.abs(result.astype(int) - clean).mean() < 0.2  # the decoded image's rounding
    assert np.square(pixels_of(code) - clean.astype(float)).mean() > 20 * np.square(result - clean.astype(float)).mean()


def test_a_result_is_brought_within(photo: Image8) -> None:
    code = saved(photo, 60)
    decoded, steps = pixels_of(code), steps_of_luma(code)
    noisy = np.clip(decoded + 3 * np.random.default_rng(0).standard_normal((*decoded.shape[:2], 1)), 8, 247)
    noisy = np.rint(noisy).astype(np.uint8)
    result, left = within(decoded, noisy, steps)
    table = np.array(steps).reshape(8, 8)
    middle = np.rint(coefficients(jpeg_luma(decoded)) / table) * table
    outside = [np.abs(coefficients(jpeg_luma(img)) - middle) - table / 2 for img in (noisy, result)]
    assert left < 0.3
    assert (outside[0] > 2).mean() > 0.005
    assert (outside[1] > 2).mean() < 0.002  # rounding to 8 bits moves a coefficient by less
    assert (result != noisy).any()


def test_what_is_far_outside_stays_as_it_was(photo: Image8) -> None:
    code = saved(photo, 90)
    decoded = pixels_of(code)
    other = decoded.copy()
    other[:, 120:] = cv2.GaussianBlur(decoded, (0, 0), 3)[:, 120:]
    result, left = within(decoded, other, steps_of_luma(code))
    assert 0.3 < left < 0.6
    assert (result[:, 150:] == decoded[:, 150:]).all()
    assert (result[:, :90] == other[:, :90]).all()


@pytest.mark.parametrize("height", [16, 61, 64, 197])
def test_strips_make_no_difference(photo: Image8, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    code = saved(photo[:height], 80)
    decoded = pixels_of(code)
    blurred = cv2.GaussianBlur(decoded, (0, 0), 0.6).astype(np.uint8)
    whole = within(decoded, blurred, steps_of_luma(code))
    monkeypatch.setattr(jpeg_intervals, "_STRIP_PIXELS", 8 * decoded.shape[1])
    strips = within(decoded, blurred, steps_of_luma(code))
    assert np.array_equal(whole[0], strips[0])
    assert whole[1] == strips[1]
    assert not np.array_equal(whole[0], blurred)


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (8, 8), (9, 15), (3, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size(size: tuple[int, int], channels: int) -> None:
    img = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
    code = saved(img, 90)
    decoded, steps = pixels_of(code), steps_of_luma(code)
    assert len(steps) == 64
    assert not was_coarser(decoded, steps)
    result, left = within(decoded, decoded, steps)
    assert (result == decoded).all()
    assert left == 0


@pytest.mark.parametrize(
    ("first", "second", "crop"),
    [(20, 90, (0, 0)), (20, 95, (0, 0)), (75, 95, (0, 0)), (50, 75, (0, 0)), (20, 90, (3, 6)), (50, 95, (4, 1))],
)
def test_a_file_that_was_saved_again_is_known(photo: Image8, first: int, second: int, crop: tuple[int, int]) -> None:
    top, left = crop
    code = saved(pixels_of(saved(photo, first))[top:, left:], second)
    assert was_coarser(pixels_of(code), steps_of_luma(code))


@pytest.mark.parametrize("kind", ["photo", "letters", "grey"])
@pytest.mark.parametrize("quality", [20, 50, 75, 90, 95, 100])
def test_a_file_that_was_saved_once_is_known(kind: str, quality: int, photo: Image8, page: Image8) -> None:
    code = saved({"photo": photo, "letters": page, "grey": photo[..., :1]}[kind], quality)
    assert not was_coarser(pixels_of(code), steps_of_luma(code))


def test_finer_steps_before_say_nothing(photo: Image8) -> None:
    code = saved(pixels_of(saved(photo, 95)), 60)
    assert not was_coarser(pixels_of(code), steps_of_luma(code))


def test_luma_has_steps_and_what_is_none_has_not(photo: Image8) -> None:
    assert steps_of_luma(saved(photo, 40)) == steps_of_luma(saved(photo[..., :1], 40)) == luma_table(40).tolist()
    assert steps_of_luma(saved(photo, 40, keep_rgb=True)) == []
    assert steps_of_luma(saved(photo, 40, "CMYK")) == []
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "PNG")
    assert steps_of_luma(file.getvalue()) == steps_of_luma(b"\xff\xd8\xff") == steps_of_luma(b"") == []
