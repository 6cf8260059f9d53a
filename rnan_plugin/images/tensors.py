"""Between arrays of 8 or 16 bits and tensors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnan_plugin.images.color import Pixels
from rnan_plugin.images.degradations import Degraded


def to_tensor(img: Degraded | Pixels) -> Tensor:
    """(H, W, C) on 0..255, or on 0..65535 of 16 bits, to a contiguous (C, H, W) float32 tensor on 0..1."""
    chw = np.ascontiguousarray(img.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(chw).div_(65535 if img.dtype == np.uint16 else 255)


def to_image(output: Tensor) -> NDArray[np.uint8]:
    """(1, C, H, W) on 0..1 to (H, W, C) uint8, clipped and rounded."""
    levels = (output[0].float().clamp(0, 1) * 255).round().byte()
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()


def as_deep_as(img: Pixels, output: Tensor) -> Pixels:
    """(1, C, H, W) on 0..1 to (H, W, C) of as many bits as an image has, clipped and rounded."""
    if img.dtype != np.uint16:
        return to_image(output)
    levels = (output[0].float().clamp(0, 1) * 65535).round().int()
    deep: Pixels = levels.permute(1, 2, 0).contiguous().cpu().numpy().astype(np.uint16)
    return deep
