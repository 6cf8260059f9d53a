"""The self-ensemble (RNAN+): mean of a network's outputs over the eight flips and transposes of its input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from rnan_plugin.inference.tiling import STRIP_ROWS, Grid, Network, Place, tiled_rows


class Turn(NamedTuple):
    """A transpose or none, then flips of the turned image: dimensions of (B, C, H, W)."""

    transpose: bool
    dims: tuple[int, ...]


TURNS = [Turn(transpose, dims) for transpose, dims in product((False, True), ((), (2,), (3,), (2, 3)))]


def turned(net: Network, turn: Turn) -> Network:
    """The network that sees its input turned, and whose output is turned back."""

    def run(img: Tensor) -> Tensor:
        out = net((img.transpose(2, 3) if turn.transpose else img).flip(turn.dims).contiguous()).flip(turn.dims)
        return out.transpose(2, 3) if turn.transpose else out

    return run


def self_ensembled(net: Network, lq: Tensor) -> Tensor:
    """Mean of a network's outputs over the eight flips and transposes of its input, each turned back.

    Summed in float64, where eight float32 values of like size add up without rounding: the order does not matter, so
    that the ensemble of a flipped image is the flipped ensemble, to the last bit. (MPS has no float64.)
    """
    return _mean((turned(net, turn)(lq) for turn in TURNS), lq.dtype)


def _mean(outputs: Iterator[Tensor], dtype: torch.dtype) -> Tensor:
    """Mean of the eight, each of which may go when it is added."""
    total: Tensor | None = None
    for out in outputs:
        wide = torch.float32 if out.device.type == "mps" else torch.float64
        total = out.to(wide, copy=True) if total is None else total.add_(out)
    assert total is not None
    return (total / len(TURNS)).to(dtype)


def ensembled_rows(net: Network, read: Callable[[Place], Tensor], grid: Grid, tile_batch: int = 1) -> Iterator[Tensor]:
    """As `tiled_rows`, each strip the mean over the eight turns of the whole image, all of which go on side by side."""
    strips = [
        _blocks(tiled_rows(turned(net, turn), read, _grid_of_turned(grid, turn), tile_batch), grid.size[1])
        for turn in TURNS
    ]
    for blocks in zip(*strips, strict=True):
        yield _mean(iter(blocks), blocks[0].dtype)


def _grid_of_turned(grid: Grid, turn: Turn) -> Grid:
    """Where the tiles of the turned image lie on the image itself."""
    down, across = (3, 2) if turn.transpose else (2, 3)
    return grid.mirrored(down=down in turn.dims, across=across in turn.dims)


def _blocks(strips: Iterator[Tensor], width: int) -> Iterator[Tensor]:
    """Cut strips of an image of so many LQ columns into blocks of `STRIP_ROWS`, wherever the strips end."""
    held: Tensor | None = None
    for strip in strips:
        rows = STRIP_ROWS * (strip.shape[3] // width)
        held = strip if held is None else torch.cat([held, strip], dim=2)
        while held.shape[2] >= rows:
            yield held[:, :, :rows]
            held = held[:, :, rows:]
    if held is not None and held.shape[2]:
        yield held
