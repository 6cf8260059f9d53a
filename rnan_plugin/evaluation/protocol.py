"""The paper's protocol of a task: which channels, which border, which metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from rnan_plugin.errors import UserError
from rnan_plugin.images.degradations import Image
from rnan_plugin.images.metrics import psnr, ssim
from rnan_plugin.paper.tasks import TaskAtLevel

# From an 8-bit LQ image (h, w, C) and its name to the restored one, 8 bits.
Restore = Callable[[Image, str], Image]


def without_border(restored: Image, gt: Image, task: TaskAtLevel) -> list[Image]:
    """Both images without the pixels at their edges that a task does not score."""
    rim = task.border
    return [img[rim : img.shape[0] - rim, rim : img.shape[1] - rim] for img in (restored, gt)]


def score(restored: Image, gt: Image, task: TaskAtLevel) -> tuple[float, float]:
    """PSNR and SSIM of an 8-bit image (H, W, C) under the protocol of a task.

    Raises:
        UserError: The images are not of one shape, or too small for SSIM.
    """
    if restored.shape != gt.shape:
        raise UserError(f"the restored image is {restored.shape}, the ground truth {gt.shape}")
    pair: list[NDArray[Any]] = without_border(restored, gt, task)
    if task.row.scored_on == "y":
        from rnan_plugin.toolbox.api import to_y_channel  # the only task that is scored by BasicSR

        pair = [to_y_channel(img[..., ::-1]) for img in pair]  # BGR, as BasicSR reads files
    return psnr(pair[0], pair[1]), ssim(pair[0], pair[1])
