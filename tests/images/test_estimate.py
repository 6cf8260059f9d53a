"""What an image tells of its degradation, against images that were degraded on purpose."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rnan_plugin.images import estimate
from rnan_plugin.images.estimate import jpeg_quality, luma_table, noise_sigma


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    """A photograph's like: smooth regions and edges, no noise."""
    coarse = np.random.default_rng(0).integers(40, 216, (4, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (384, 256), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


@pytest.mark.parametrize("quality", [1, 5, 10, 49, 50, 51, 75, 90, 95, 99, 100])
@pytest.mark.parametrize("encoder", ["opencv", "pillow"])
def test_the_quality_that_libjpeg_was_told(photo: NDArray[np.uint8], quality: int, encoder: str) -> None:
    if encoder == "opencv":
        code = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    else:
        file = io.BytesIO()
        Image.fromarray(photo).save(file, "JPEG", quality=quality, progressive=True)
        code = file.getvalue()
    found = jpeg_quality(code)
    assert found is not None
    assert (luma_table(found) == luma_table(quality)).all()


@pytest.mark.parametrize("quality", [20, 50, 80])
def test_other_encoders_tables_have_the_nearest_quality(photo: NDArray[np.uint8], quality: int) -> None:
    """Tables of no libjpeg: its own, each step off by up to a tenth."""
    factors = np.random.default_rng(1).uniform(0.9, 1.1, 64)
    table = np.clip(np.rint(luma_table(quality) * factors), 1, 255).astype(int).tolist()
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", qtables=[table, table])
    found = jpeg_quality(file.getvalue())
    assert found is not None
    assert abs(found - quality) <= 2


def test_what_is_no_jpeg_has_no_quality(photo: NDArray[np.uint8]) -> None:
    jpeg = cv2.imencode(".jpg", photo)[1].tobytes()
    for code in (b"", b"text", cv2.imencode(".png", photo)[1].tobytes(), jpeg[:20], b"\xff\xd8" + bytes(100)):
        assert jpeg_quality(code) is None


@pytest.mark.parametrize(("sigma", "off"), [(0, 1.5), (5, 0.7), (10, 1), (25, 2), (50, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_sigma_of_noise_that_was_added(photo: NDArray[np.uint8], sigma: float, off: float, channels: int) -> None:
    noise = sigma * np.random.default_rng(2).standard_normal(photo[..., :channels].shape)
    noisy = np.clip(np.floor(photo[..., :channels] + noise + 0.5), 0, 255).astype(np.uint8)
    assert noise_sigma(noisy) == pytest.approx(sigma, abs=off)


def test_any_image_has_a_sigma() -> None:
    for shape in ((8, 8, 3), (64, 64, 1), (70, 9, 3)):
        assert noise_sigma(np.zeros(shape, np.uint8)) == 0
    assert np.isfinite(noise_sigma(np.full((80, 80, 3), 255, np.uint8)))


def test_large_images_cost_no_more_than_so_many_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[tuple[int, ...]] = []
    monkeypatch.setattr(estimate, "_sigma", lambda patch: looked_at.append(patch.shape) or 7.0)
    assert noise_sigma(np.full((4000, 6000, 1), 100, np.uint8)) == 7
    assert 128 < len(looked_at) <= 256


def test_a_jpeg_beyond_pillows_own_bound_tells_its_quality(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    code = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 30])[1].tobytes()
    assert jpeg_quality(code) == 30
