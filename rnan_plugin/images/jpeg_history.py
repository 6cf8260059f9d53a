"""Whether the image in a JPEG file was a JPEG of larger steps before, and was saved again.

Its coefficients still lie near multiples of the larger steps (Lukáš and Fridrich, 2003), in blocks of the first file's
grid, which a crop has moved. Such a file's own steps say little of the image that it was made of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rnan_plugin.images.color import Pixels
from rnan_plugin.images.estimate import sample_patches
from rnan_plugin.images.jpeg_blocks import BLOCK, Floats, coefficients, jpeg_luma

_PATCHES = 64  # that are looked at
_FREQUENCIES = [(row, column) for row in range(5) for column in range(5 - row) if row + column]  # the lowest
_FEWEST = 30  # coefficients of a frequency, not 0, that tell anything
_COARSER = 1.5  # times the file's steps, from which on multiples stand apart
_LARGEST_STEP = 255
_NEAR = 0.7  # levels by which rounding to 8 bits moves a coefficient
_MISSED = 0.05  # share of coefficients that clipping and what else was done put elsewhere
_EVIDENCE = 15.0  # log-likelihood ratio of a frequency; of up to 250 steps the best is taken
# Share of the frequencies that must show it: resaved at 20 to 85 and 75 to 95 they are 0.4 to 1, of files that were
# saved once, photographs and letters, up to 0.2.
_SHOWN = 0.3
_FINE_STEP = 2.0  # on which coefficients of another grid are counted
_MOST_RISE = 8.0  # levels at a border of blocks; more is an edge


def was_coarser(img: Pixels, steps: Sequence[int]) -> bool:
    """Whether a JPEG file's image was a JPEG of larger luma steps before.

    Args:
        img: (H, W, 3) RGB or (H, W, 1) grey, 8 bits, as the file holds it, not turned.
        steps: The 64 by which the file's luma was quantised, row by row.
    """
    table = np.array(steps, np.float32).reshape(BLOCK, BLOCK)
    lumas = [jpeg_luma(patch) for patch in sample_patches(img, _PATCHES)]
    if _shows_multiples(lumas, table, table / 2 + _NEAR):
        return True
    top, left = (_grid([luma if axis else luma.T for luma in lumas]) for axis in (0, 1))
    if not top and not left:
        return False
    moved = [luma[top:, left:] for luma in lumas]
    return _shows_multiples(moved, np.full_like(table, _FINE_STEP), np.maximum(table / 2, _NEAR) + _FINE_STEP / 2)


def _shows_multiples(lumas: Sequence[Floats], table: Floats, near: Floats) -> bool:
    counts = np.concatenate([np.rint(coefficients(luma) / table).reshape(-1, BLOCK, BLOCK) for luma in lumas])
    counts = np.abs(np.unique(counts.astype(np.int32), axis=0))  # of patterns, such as screens have, each block once
    shown = []
    for place in _FREQUENCIES:
        values = counts[(slice(None), *place)]
        if len(values := values[values > 0]) >= _FEWEST:
            shown.append(_evidence(np.bincount(values)[1:], float(table[place]), float(near[place])) > _EVIDENCE)
    return bool(shown) and float(np.mean(shown)) >= _SHOWN


def _evidence(histogram: NDArray[np.int64], step: float, near: float) -> float:
    """How much likelier coefficients are with a larger step before than by the file's alone, as a logarithm.

    Args:
        histogram: How often 1, 2 ... steps occur.
        step: The file's.
        near: How far from a multiple of the larger step a coefficient may lie.
    """
    sizes = step * np.arange(1, len(histogram) + 1)
    larger = np.arange(np.ceil(_COARSER * step), _LARGEST_STEP + 1)[:, None]
    at = np.abs(sizes - np.rint(sizes / larger) * larger) <= near
    at = at[at.sum(axis=1) > 1]
    if not len(at):
        return 0.0
    total = histogram.sum()
    by_chance = np.clip(at @ _smooth(histogram), 1e-3, 1 - 1e-3)
    hits = at @ histogram
    gain = hits * np.log((1 - _MISSED) / by_chance) + (total - hits) * np.log(_MISSED / (1 - by_chance))
    return float(gain.max())


def _smooth(histogram: NDArray[np.int64]) -> Floats:
    """The shares that sizes have where nothing favours any: falling off evenly, with the same mean."""
    sizes = np.arange(1, len(histogram) + 1)
    ratio = max(1e-3, 1 - histogram.sum() / (histogram @ sizes))
    shares: Floats = ratio ** (sizes - 1.0)
    return shares / shares.sum()


def _grid(lumas: Sequence[Floats]) -> int:
    """The column, 0 to 7, at which blocks begin: where neighbours differ more than those beside them."""
    rises = np.zeros(BLOCK)
    for luma in lumas:
        steps = np.abs(np.diff(luma, axis=1))
        above = steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2  # between columns 1 and 2, 2 and 3 ...
        means = np.clip(above, -_MOST_RISE, _MOST_RISE).mean(axis=0)
        for column in range(BLOCK):
            rises[column] += means[(column - 2) % BLOCK :: BLOCK].sum()
    return int(rises.argmax())
