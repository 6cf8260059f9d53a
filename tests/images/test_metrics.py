"""PSNR and SSIM: the toolbox's values."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from rnan_plugin.errors import UserError
from rnan_plugin.images.metrics import psnr, ssim
from rnan_plugin.toolbox.api import calculate_psnr, calculate_ssim


def pair(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    img = cv2.GaussianBlur(rng.integers(0, 256, shape, dtype=np.uint8), (0, 0), 2).reshape(shape)
    return img, np.clip(img + rng.normal(0, 10, shape), 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("shape", [(11, 11, 1), (12, 40, 3), (42, 33, 1), (43, 64, 3), (137, 75, 3), (1356, 2040, 3)])
def test_values_are_the_toolboxs(shape: tuple[int, int, int]) -> None:
    img, noisy = pair(shape)
    assert ssim(img, noisy) == pytest.approx(calculate_ssim(img, noisy, crop_border=0), abs=1e-10)
    assert psnr(img, noisy) == pytest.approx(calculate_psnr(img, noisy, crop_border=0), abs=1e-10)


def test_unrounded_values_too() -> None:
    img, noisy = (array.astype(np.float64) * 0.859 + 16.03 for array in pair((50, 60, 1)))
    assert ssim(img, noisy) == pytest.approx(calculate_ssim(img, noisy, crop_border=0), abs=1e-10)
    assert psnr(img, noisy) == pytest.approx(calculate_psnr(img, noisy, crop_border=0), abs=1e-10)


def test_equal_images_and_flat_ones() -> None:
    img, _ = pair((32, 32, 3))
    assert ssim(img, img) == pytest.approx(1)
    assert math.isinf(psnr(img, img))
    flat = np.full_like(img, 7)
    assert ssim(flat, flat) == pytest.approx(1)


def test_what_does_not_go_together_is_one_line() -> None:
    img, _ = pair((32, 32, 3))
    with pytest.raises(UserError, match=r"different shapes: \(32, 32, 3\) and \(31, 32, 3\)"):
        ssim(img, img[1:])
    with pytest.raises(UserError, match="SSIM needs images of 11×11 pixels or more, not 10×32"):
        ssim(img[:10], img[:10])
