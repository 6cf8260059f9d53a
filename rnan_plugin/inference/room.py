"""The memory that a pass through a network takes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rnan_plugin.archs.attention import block_bytes
from rnan_plugin.archs.non_local import NonLocalBlock

_LIVE_MAPS = 12  # feature maps alive at once in a pass without gradients


def pass_bytes(net: Callable[[Tensor], Tensor], lq: Tensor, pixels: int, tiles: int = 1) -> int:
    """Bytes that a pass takes, about: for feature maps, and for blocks of attention.

    Args:
        net: The network, a module or not.
        lq: Of the images' number, type and device, (B, C, any height and width).
        pixels: Of a tile, or of the image.
        tiles: Of each image that are in the pass.
    """
    batch = lq.shape[0] * tiles
    maps = pixels * batch * _LIVE_MAPS * _widest(net) * lq.element_size()
    return maps + (block_bytes(pixels, lq.device.type, batch) if has_attention(net) else 0)


def _widest(net: Callable[[Tensor], Tensor]) -> int:
    """Most channels of any convolution, which bounds a feature map; 64 for what is no module."""
    modules = net.modules() if isinstance(net, torch.nn.Module) else ()
    return max((module.out_channels for module in modules if isinstance(module, torch.nn.Conv2d)), default=64)


def has_attention(net: Callable[[Tensor], Tensor]) -> bool:
    """Whether any of its blocks compares all pixels of a pass."""
    return bool(_softmaxes(net))


def may_attend_in_windows(net: Callable[[Tensor], Tensor]) -> bool:
    """Whether its attention is normalised over the keys; over the queries windows would distort it."""
    return _softmaxes(net) == {"keys"}


def _softmaxes(net: Callable[[Tensor], Tensor]) -> set[str]:
    modules = net.modules() if isinstance(net, torch.nn.Module) else ()
    return {module.softmax_over for module in modules if isinstance(module, NonLocalBlock)}
