"""What a JPEG file says of its image: blocks against SciPy's transform, intervals by making files."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import skimage
from jpeg_images import Image8, saved
from PIL import Image
from scipy.fft import dctn

from rnan_plugin.images import jpeg_intervals
from rnan_plugin.images.estimate import luma_table, steps_of_luma
from rnan_plugin.images.jpeg_blocks import coefficients, jpeg_luma, of_coefficients
from rnan_plugin.images.jpeg_history import JpegSource
from rnan_plugin.images.jpeg_intervals import bring_within
from rnan_plugin.images.photo import read_photo


def within(decoded: Image8, restored: Image8, steps: list[int], *grid: int) -> tuple[Image8, float]:
    result = restored.copy()
    left = bring_within(decoded, result, JpegSource(50, tuple(steps), *grid))
    return result, left


def pixels_of(code: bytes) -> Image8:
    return read_photo(code, "a.jpg").pixels.astype(np.uint8)


@pytest.fixture(scope="module")
def photo() -> Image8:
    return np.asarray(skimage.data.astronaut()[8:205, 40:251])


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


def test_the_grid_of_an_earlier_file_is_moved(photo: Image8) -> None:
    code = saved(photo, 60)
    decoded, clean = pixels_of(code), photo
    whole, _ = within(decoded, clean, steps_of_luma(code))
    cropped, _ = within(decoded[3:, 6:], clean[3:, 6:], steps_of_luma(code), 5, 2)
    assert np.array_equal(cropped[8:-13, 8:-13], whole[11:-13, 14:-13])
    assert np.array_equal(cropped[:5], clean[3:8, 6:])


def test_the_mean_of_a_block_is_what_it_was_give_or_take_half_a_step(photo: Image8) -> None:
    """Also where the image was made brighter by less than the 2.5 levels of a step, which the others do not show."""
    code = saved(photo, 40)
    brighter = np.minimum(pixels_of(code), 240) + np.uint8(6)
    restored = brighter + np.uint8(1)
    result, left = within(brighter, restored, steps_of_luma(code))
    assert left == 0
    assert np.array_equal(result, restored)
    result, _ = within(brighter, brighter + np.uint8(3), steps_of_luma(code))
    assert float(result.mean()) < float(brighter.mean()) + 1.5


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (8, 8), (9, 15), (3, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size(size: tuple[int, int], channels: int) -> None:
    img = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
    code = saved(img, 90)
    decoded, steps = pixels_of(code), steps_of_luma(code)
    assert len(steps) == 64
    result, left = within(decoded, decoded, steps)
    assert (result == decoded).all()
    assert left == 0


def test_luma_has_steps_and_what_is_none_has_not(photo: Image8) -> None:
    assert steps_of_luma(saved(photo, 40)) == steps_of_luma(saved(photo[..., :1], 40)) == luma_table(40).tolist()
    assert steps_of_luma(saved(photo, 40, keep_rgb=True)) == []
    assert steps_of_luma(saved(photo, 40, "CMYK")) == []
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "PNG")
    assert steps_of_luma(file.getvalue()) == steps_of_luma(b"\xff\xd8\xff") == steps_of_luma(b"") == []
