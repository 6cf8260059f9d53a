"""Images through a network in parts: overlapping tiles that are blended, or the released code's halves, cut hard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import torch
from torch import Tensor

from rnan_plugin.inference.parallel import in_order

Network = Callable[[Tensor], Tensor]

# The release quarters an image until a quarter has fewer pixels than this; its networks that enlarge take larger ones.
RELEASE_PIXELS = 10_000
RELEASE_PIXELS_ENLARGING = 30_000
RELEASE_SHAVE = 12  # pixels by which a part reaches over the middle, about

STRIP_ROWS = 32  # LQ rows that are blended, and leave, at once
Place = tuple[int, int, int, int]  # top, left, height, width


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


@dataclass(frozen=True)
class Grid:
    """Tiles of one size over an image, in LQ pixels.

    Args:
        size: Height and width of the image.
        side: Height and width of a tile.
        tops: First rows of the tiles, ascending.
        lefts: First columns of the tiles, ascending.
        overlap: Rows or columns over which neighbouring tiles are blended.
    """

    size: tuple[int, int]
    side: tuple[int, int]
    tops: Sequence[int]
    lefts: Sequence[int]
    overlap: int

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.tops) * len(self.lefts)

    def mirrored(self, *, down: bool, across: bool) -> Grid:
        """The grid that the image turned upside down, or left to right, has, as it lies on the unturned image."""
        tops = [self.size[0] - self.side[0] - top for top in reversed(self.tops)] if down else self.tops
        lefts = [self.size[1] - self.side[1] - left for left in reversed(self.lefts)] if across else self.lefts
        return replace(self, tops=tops, lefts=lefts)


def grid_of(size: Sequence[int], tile: int, overlap: int) -> Grid:
    """The tiles of an image of a height and width; see `tile_axis`."""
    (height, tops), (width, lefts) = (tile_axis(length, tile, overlap) for length in size)
    return Grid((size[0], size[1]), (height, width), tops, lefts, overlap)


def tiled(net: Network, lq: Tensor, tile: int, overlap: int, tile_batch: int = 1) -> Tensor:
    """Restore (B, C, H, W) in overlapping tiles, blended by weights that fall off over the overlap.

    At the image's rim the weights stay 1. A tile at least as large as the image is one pass over all of it.
    """
    strips = list(tiled_rows(net, partial(part_of, lq), grid_of(lq.shape[2:], tile, overlap), tile_batch))
    return strips[0] if len(strips) == 1 else torch.cat(strips, dim=2)


def part_of(lq: Tensor, place: Place) -> Tensor:
    """A part of (B, C, H, W), as a view."""
    top, left, height, width = place
    return lq[:, :, top : top + height, left : left + width]


def tiled_rows(net: Network, read: Callable[[Place], Tensor], grid: Grid, tile_batch: int = 1) -> Iterator[Tensor]:
    """Restore an image in tiles; yield it from the top in strips (B, C', rows, W*scale), each as soon as it is done.

    Args:
        net: Maps (B, C, h, w) to (B, C', h*scale, w*scale).
        read: Gives a part of the LQ image, (B, C, h, w).
        grid: Where the tiles are.
        tile_batch: Tiles of one pass.
    """
    places = [(top, left) for top in grid.tops for left in grid.lefts]
    if len(places) == 1:
        yield net(read((*places[0], *grid.side)))
        return
    batches = [places[first : first + tile_batch] for first in range(0, len(places), tile_batch)]
    inputs = (torch.cat([read((*place, *grid.side)) for place in batch]) for batch in batches)
    strip: _Strip | None = None
    for batch, out in zip(batches, in_order(net, inputs), strict=True):
        images = out.shape[0] // len(batch)
        if strip is None:
            strip = _Strip(out, grid, images)
        for place, patch in zip(batch, out.split(images), strict=True):
            if place[0] > strip.top:
                yield from strip.finish(place[0])
            strip.add(patch, *place)
    assert strip is not None
    yield from strip.finish(grid.size[0])


class _Strip:
    """Weighted sum of the tiles that reach into the rows from `top` on, and the sum of their weights."""

    def __init__(self, like: Tensor, grid: Grid, batch: int) -> None:
        self.top, self.grid = 0, grid
        self.scale = like.shape[3] // grid.side[1]
        self.size = (grid.size[0] * self.scale, grid.size[1] * self.scale)
        self.total = like.new_zeros(batch, *like.shape[1:3], self.size[1])
        self.weight = like.new_zeros(like.shape[2], self.size[1])

    def add(self, tile: Tensor, top: int, left: int) -> None:
        """Add a restored tile whose LQ stands at (top, left), `top` being the strip's."""
        starts = (top * self.scale, left * self.scale)
        ramps = [
            _ramp(length, self.grid.overlap * self.scale, tile, at_start=start == 0, at_end=start + length == full)
            for start, length, full in zip(starts, tile.shape[2:], self.size, strict=True)
        ]
        weight = ramps[0][:, None] * ramps[1]
        columns = slice(starts[1], starts[1] + tile.shape[3])
        self.total[..., columns].addcmul_(tile, weight)
        self.weight[:, columns] += weight

    def finish(self, bottom: int) -> Iterator[Tensor]:
        """The weighted mean of the LQ rows above `bottom`, which no later tile reaches; the strip moves there."""
        end = (bottom - self.top) * self.scale
        for first in range(0, end, STRIP_ROWS * self.scale):
            rows = slice(first, min(end, first + STRIP_ROWS * self.scale))
            yield self.total[:, :, rows] / self.weight[rows]
        for held in (self.total, self.weight):
            rest = held[..., end:, :].clone()
            held.zero_()[..., : rest.shape[-2], :] = rest
        self.top = bottom


def _ramp(length: int, overlap: int, like: Tensor, *, at_start: bool, at_end: bool) -> Tensor:
    """Weight of a tile along one axis: rises over the overlap, except where the tile ends at the image's rim."""
    weight = like.new_ones(length)
    rise = (torch.arange(overlap, device=like.device, dtype=like.dtype) + 0.5) / max(1, overlap)
    if not at_start:
        weight[:overlap] *= rise
    if not at_end:
        weight[length - overlap :] *= rise.flip(0)
    return weight


def halved(net: Network, lq: Tensor, scale: int | None = None) -> Tensor:
    """Restore (B, C, H, W) as the release does: quarters that reach over the middle, recursively, cut hard there.

    Args:
        net: Maps (B, C, h, w) to (B, C', h*scale, w*scale).
        lq: (B, C, H, W).
        scale: What the network enlarges by, on which the size of the parts depends; None lets the first part tell.
    """
    size = (lq.shape[2], lq.shape[3])
    parts, first = list(release_parts(size, enlarging=(scale or 1) > 1)), {}
    if scale is None:
        place = parts[0][0]
        first = {place: net(part_of(lq, place))}
        scale = first[place].shape[2] // place[2]
        parts = list(release_parts(size, enlarging=scale > 1))
    canvas: Tensor | None = None
    for place, kept in parts:
        out = first.pop(place) if place in first else net(part_of(lq, place))
        if canvas is None:
            canvas = out.new_empty(*out.shape[:2], size[0] * scale, size[1] * scale)
        inside = _moved(kept, -place[0], -place[1])
        part_of(canvas, _scaled(kept, scale)).copy_(part_of(out, _scaled(inside, scale)))
    assert canvas is not None
    return canvas


def _scaled(place: Place, scale: int) -> Place:
    top, left, height, width = place
    return top * scale, left * scale, height * scale, width * scale


def release_parts(size: tuple[int, int], *, enlarging: bool) -> Iterator[tuple[Place, Place]]:
    """The parts that the release restores of an image, and what it keeps of each, both in LQ pixels of the image.

    Along an axis of L pixels a part has 4 * floor(floor(L / 2) / 4) + 12; the first begins at 0, the second ends at L.
    The first floor(L / 2) pixels are kept from the first part, the rest from the second. A part never is longer than
    the axis, as it would be below 20 pixels, where the release itself fails.

    Args:
        size: Height and width of the image.
        enlarging: Whether the network does: then parts of up to `RELEASE_PIXELS_ENLARGING` are restored as they are.
    """
    limit = RELEASE_PIXELS_ENLARGING if enlarging else RELEASE_PIXELS
    rows, columns = (_halves(length) for length in size)
    for (top, height), (keep_top, keep_height) in rows:
        for (left, width), (keep_left, keep_width) in columns:
            place, kept = (top, left, height, width), (keep_top, keep_left, keep_height, keep_width)
            if height * width < limit:
                yield place, kept
                continue
            for inner, inner_kept in release_parts((height, width), enlarging=enlarging):
                yield _moved(inner, top, left), _common(_moved(inner_kept, top, left), kept)


def _halves(length: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Start and length of both parts of an axis, and of what is kept of each."""
    half = length // 2
    part = min(length, 4 * (half // 4) + RELEASE_SHAVE)
    return [((0, part), (0, half)), ((length - part, part), (half, length - half))]


def _moved(place: Place, down: int, right: int) -> Place:
    return place[0] + down, place[1] + right, place[2], place[3]


def _common(one: Place, other: Place) -> Place:
    """What two places share; empty if nothing."""
    top, left = max(one[0], other[0]), max(one[1], other[1])
    height = min(one[0] + one[2], other[0] + other[2]) - top
    width = min(one[1] + one[3], other[1] + other[3]) - left
    return top, left, max(0, height), max(0, width)
