"""Attention within windows of a map instead of over all of it: what large tiles of an image are restored with.

Convolutions are fastest on large tiles, attention on small ones: its cost for each position is the number of positions
that it is compared with. In windows that number stays the same, however large the tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import ceil

from torch import Tensor

from rnan_plugin.archs.attention import non_local_attention

Area = tuple[slice, slice]  # rows and columns of a map

_side: ContextVar[int | None] = ContextVar("side of the windows of attention", default=None)


@contextmanager
def attention_windows(side: int | None) -> Iterator[None]:
    """Let non-local blocks that run in here attend within windows of a side; None: over all positions.

    Blocks that normalise over the queries do so over all positions. What recomputes blocks in a backward pass does it
    outside, so that windows are for passes without gradients.
    """
    token = _side.set(side)
    try:
        yield
    finally:
        _side.reset(token)


def windowed(function: Callable[[Tensor], Tensor], side: int | None) -> Callable[[Tensor], Tensor]:
    """A network, the non-local blocks of which attend within windows of a side; None: over all positions."""

    def run(img: Tensor) -> Tensor:
        with attention_windows(side):
            return function(img)

    return run


def window_side() -> int | None:
    """Side of the windows that attention is asked for here, if it is."""
    return _side.get()


def windows(size: tuple[int, int], side: int) -> Iterator[tuple[Area, Area]]:
    """The cores that a map is divided into, of at most two thirds of a side (1 of 1), and the window around each.

    A window has the side wherever the map has: at the map's rim it is moved inside.

    Args:
        size: Height and width of the map.
        side: Of the windows, in positions.
    """
    for rows, rows_around in _along(size[0], side):
        for columns, columns_around in _along(size[1], side):
            yield (rows, columns), (rows_around, columns_around)


def _along(length: int, side: int) -> Iterator[tuple[slice, slice]]:
    side = min(side, length)
    count = 1 if side == length else ceil(length / max(1, 2 * side // 3))
    for index in range(count):
        start, stop = index * length // count, (index + 1) * length // count
        first = min(max((start + stop - side) // 2, 0), length - side)
        yield slice(start, stop), slice(first, first + side)


def attention_in_windows(query: Tensor, key: Tensor, value: Tensor, side: int) -> Tensor:
    """Attention, normalised over the keys, of the positions of each core with those of the window around it.

    Normalised over the queries there is none: a query would get the weights of as many keys as there are cores whose
    windows it lies in, by chance more or fewer.

    Args:
        query: (B, C, H, W).
        key: (B, C, H, W).
        value: (B, C, H, W).
        side: Of the windows, in positions; maps that are no larger are one window.

    Returns:
        (B, C, H, W).
    """
    query, key, value = (part.permute(0, 2, 3, 1) for part in (query, key, value))
    out = value.new_empty(value.shape)
    for core, around in windows((value.shape[1], value.shape[2]), side):
        attended = non_local_attention(_flat(query, core), _flat(key, around), _flat(value, around), "keys")
        place = out[:, core[0], core[1]]
        place.copy_(attended.reshape(place.shape))
    return out.permute(0, 3, 1, 2)


def _flat(maps: Tensor, area: Area) -> Tensor:
    """An area of (B, H, W, C), as (B, positions, C)."""
    return maps[:, area[0], area[1]].flatten(1, 2)
