"""Whole images through a network, in tiles: functions of a network and a tensor, without the toolbox."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Start of each tile along one axis: evenly spread, at least `overlap` shared, the last one ending at `length`."""
    if length <= tile:
        return [0]
    count = ceil((length - overlap) / (tile - overlap))
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def _ramp(length: int, overlap: int, *, at_start: bool, at_end: bool) -> Tensor:
    """Weight of a tile along one axis: rises over the overlap, except where the tile ends at the image's rim."""
    weight = torch.ones(length)
    rise = (torch.arange(overlap) + 0.5) / overlap
    if not at_start:
        weight[:overlap] *= rise
    if not at_end:
        weight[length - overlap :] *= rise.flip(0)
    return weight


def restore(net: Network, lq: Tensor, *, tile: int | None = None, overlap: int = 16) -> Tensor:
    """Restore a batch of images, whole or in overlapping tiles that are blended.

    Args:
        net: Maps (B, C, h, w) to (B, C', h*scale, w*scale).
        lq: (B, C, H, W), any size.
        tile: Side of a tile in LQ pixels; None restores the image in one pass.
        overlap: Pixels that neighbouring tiles share, 0 <= overlap <= tile / 2.

    Returns:
        (B, C', H*scale, W*scale).

    Raises:
        ValueError: `overlap` is negative or more than half a tile.
    """
    height, width = lq.shape[2:]
    if tile is None or (height <= tile and width <= tile):
        return net(lq)
    if not 0 <= overlap <= tile // 2:
        raise ValueError(f"overlap is {overlap}, must be from 0 to half the tile of {tile}")
    total: Tensor | None = None
    weight_sum = torch.zeros(0)
    for top in tile_starts(height, tile, overlap):
        for left in tile_starts(width, tile, overlap):
            patch = lq[:, :, top : top + tile, left : left + tile]
            out = net(patch)
            scale = out.shape[2] // patch.shape[2]
            if total is None:
                total = out.new_zeros(*out.shape[:2], height * scale, width * scale)
                weight_sum = out.new_zeros(height * scale, width * scale)
            weight = _window(top, left, patch, (height, width), overlap, scale).to(out)
            rows = slice(top * scale, top * scale + out.shape[2])
            columns = slice(left * scale, left * scale + out.shape[3])
            total[:, :, rows, columns] += out * weight
            weight_sum[rows, columns] += weight
    assert total is not None
    return total / weight_sum


def _window(top: int, left: int, patch: Tensor, size: tuple[int, int], overlap: int, scale: int) -> Tensor:
    axes = [
        _ramp(length * scale, overlap * scale, at_start=start == 0, at_end=start + length == full)
        for start, length, full in zip((top, left), patch.shape[2:], size, strict=True)
    ]
    return axes[0][:, None] * axes[1]
