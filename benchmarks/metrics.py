"""Time of the plugin's SSIM against the toolbox's on a colour image of 2040×1356, in one run, and how far they agree.

python benchmarks/metrics.py
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np

from rnan_plugin.images.metrics import ssim
from rnan_plugin.toolbox.api import calculate_ssim

_ROUNDS = 5


def timed(run: Callable[[], float]) -> tuple[float, float]:
    """Value and seconds of one call."""
    start = time.perf_counter()
    value = run()
    return value, time.perf_counter() - start


def main() -> int:
    """Print the ratio of the times, the median of several pairs, and the difference of the values."""
    rng = np.random.default_rng(0)
    img = cv2.GaussianBlur(rng.integers(0, 256, (1356, 2040, 3), dtype=np.uint8), (0, 0), 2)
    noisy = np.clip(img + rng.normal(0, 10, img.shape), 0, 255).round().astype(np.uint8)
    ratios = []
    for _ in range(_ROUNDS):
        stock, stock_seconds = timed(lambda: calculate_ssim(img, noisy, crop_border=0))
        ours, our_seconds = timed(lambda: ssim(img, noisy))
        ratios.append(stock_seconds / our_seconds)
        print(f"toolbox {stock_seconds:.2f} s, plugin {our_seconds:.2f} s")
    print(f"{statistics.median(ratios):.1f} times as fast, values differ by {abs(stock - ours):.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
