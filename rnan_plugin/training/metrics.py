"""Metrics of validation that BasicSR has not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnan_plugin.options.values import CountOrNone, PathText
from rnan_plugin.perceptual import lpips
from rnan_plugin.toolbox.api import METRIC_REGISTRY


def calculate_lpips(
    img: NDArray[np.uint8], img2: NDArray[np.uint8], weights: PathText, linear: PathText, crop_border: CountOrNone = 0
) -> float:
    """LPIPS of two images (H, W, 3) BGR or (H, W) grey, 0..255; lower is better.

    Args:
        img: Restored.
        img2: Its ground truth.
        weights: The backbone's, a file of torchvision: AlexNet, VGG16, or SqueezeNet 1.1.
        linear: Those of the layers behind it, such as lpips/weights/v0.1/alex.pth of the package lpips.
        crop_border: Pixels at each edge that are left out.
    """
    rim = crop_border
    pair = [one[rim : one.shape[0] - rim, rim : one.shape[1] - rim] for one in (img, img2)]
    first, second = (one[..., None] if one.ndim == 2 else one[..., ::-1] for one in pair)
    return lpips(first, second, weights, linear)


METRIC_REGISTRY.register(calculate_lpips)
# Of the metrics whose direction is known; `better` of an option file can only say the same.
BETTER = {
    "calculate_lpips": "lower",
    "calculate_niqe": "lower",
    "calculate_psnr": "higher",
    "calculate_ssim": "higher",
}


def better(metric: Mapping[str, Any]) -> str:
    """In which direction a metric of an option file is better, "higher" or "lower"."""
    kind = metric.get("type")
    known = BETTER.get(kind) if isinstance(kind, str) else None
    return str(known or metric.get("better", "higher"))
