"""Images through a network in parts: overlapping tiles that are blended, or the released code's halves, cut hard."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]

# The release halves an image until a part has fewer pixels than this, parts overlapping by twice the shave.
RELEASE_PIXELS = 10_000
RELEASE_SHAVE = 12


def tile_axis(length: int, tile: int, overlap: int) -> tuple[int, list[int]]:
    """Side and starts of the tiles along one axis: the fewest of at most `tile`, no larger than the overlap needs.

    They are evenly spread, neighbours share at least `overlap`, and the last one ends at `length`. Starts are even
    wherever tiles can be 2 pixels apart: RNAN's half-resolution part then sees the pairs of pixels that it would see
    in the whole image, which brings tiles several times closer to it.
    """
    if length <= tile:
        return length, [0]
    grid = 1
    paired = tile - (length - tile) % 2, overlap + (length - overlap) % 2  # both even or odd as the length
    if paired[0] - paired[1] > 1:
        grid, (tile, overlap) = 2, paired
    count = ceil((length - overlap) / (tile - overlap))
    side = ceil((length + (count - 1) * overlap) / count)
    side += (length - side) % grid
    return side, [grid * round(index * (length - side) / (count - 1) / grid) for index in range(count)]


def tiled(net: Network, lq: Tensor, tile: int, overlap: int, tile_batch: int = 1) -> Tensor:
    """Restore (B, C, H, W) in overlapping tiles, blended by weights that fall off over the overlap.

    At the image's rim the weights stay 1. A tile at least as large as the image is one pass over all of it.
    """
    (height, tops), (width, lefts) = (tile_axis(length, tile, overlap) for length in lq.shape[2:])
    places = [(top, left) for top in tops for left in lefts]
    if len(places) == 1:
        return net(lq)
    canvas: _Canvas | None = None
    for first in range(0, len(places), tile_batch):
        chosen = places[first : first + tile_batch]
        patches = [lq[:, :, top : top + height, left : left + width] for top, left in chosen]
        out = net(torch.cat(patches) if len(patches) > 1 else patches[0])
        if canvas is None:
            canvas = _Canvas(out, lq, out.shape[2] // height, overlap)
        for place, patch in zip(chosen, out.split(lq.shape[0]), strict=True):
            canvas.add(patch, *place)
    assert canvas is not None
    return canvas.blend()


class _Canvas:
    """Weighted sum of tiles, and the sum of their weights."""

    def __init__(self, like: Tensor, lq: Tensor, scale: int, overlap: int) -> None:
        self.scale, self.overlap = scale, overlap
        self.size = (lq.shape[2] * scale, lq.shape[3] * scale)
        self.total = like.new_zeros(lq.shape[0], like.shape[1], *self.size)
        self.weight = like.new_zeros(self.size)

    def add(self, tile: Tensor, top: int, left: int) -> None:
        """Add a restored tile whose LQ stands at (top, left)."""
        starts = (top * self.scale, left * self.scale)
        ramps = [
            _ramp(length, self.overlap * self.scale, tile, at_start=start == 0, at_end=start + length == full)
            for start, length, full in zip(starts, tile.shape[2:], self.size, strict=True)
        ]
        weight = ramps[0][:, None] * ramps[1]
        rows, columns = (slice(start, start + length) for start, length in zip(starts, tile.shape[2:], strict=True))
        self.total[:, :, rows, columns].addcmul_(tile, weight)
        self.weight[rows, columns] += weight

    def blend(self) -> Tensor:
        """The weighted mean."""
        return self.total.div_(self.weight)


def _ramp(length: int, overlap: int, like: Tensor, *, at_start: bool, at_end: bool) -> Tensor:
    """Weight of a tile along one axis: rises over the overlap, except where the tile ends at the image's rim."""
    weight = like.new_ones(length)
    rise = (torch.arange(overlap, device=like.device, dtype=like.dtype) + 0.5) / max(1, overlap)
    if not at_start:
        weight[:overlap] *= rise
    if not at_end:
        weight[length - overlap :] *= rise.flip(0)
    return weight


def halved(net: Network, lq: Tensor) -> Tensor:
    """Restore (B, C, H, W) as the release does: quarters with a shave, recursively, cut hard at the middle."""
    height, width = lq.shape[2:]
    if height * width < RELEASE_PIXELS:
        return net(lq)
    middle = (height // 2, width // 2)
    rows, columns = (_halves(length, half) for length, half in zip((height, width), middle, strict=True))
    lines = []
    for row, row_keep in rows:
        parts = [(halved(net, lq[:, :, row, column]), column_keep) for column, column_keep in columns]
        scale = parts[0][0].shape[2] // (row.stop - row.start)
        lines.append(torch.cat([_keep(out, row_keep, keep, scale) for out, keep in parts], dim=3))
    return torch.cat(lines, dim=2)


def _halves(length: int, half: int) -> list[tuple[slice, slice]]:
    """Both halves of an axis, each with the shave of the other, and which part of each is kept."""
    size = min(length, half + RELEASE_SHAVE)
    rest = length - half
    # Both parts have the same size, as in the release; it is one pixel short of the shave for odd lengths.
    start = length - size
    return [(slice(0, size), slice(0, half)), (slice(start, length), slice(size - rest, size))]


def _keep(out: Tensor, rows: slice, columns: slice, scale: int) -> Tensor:
    return out[:, :, rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale]
