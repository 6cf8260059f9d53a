"""The JPEG file that an image comes from, whatever it was saved as since.

Its coefficients still lie near multiples of that file's steps (Lukáš and Fridrich, 2003), in blocks of its grid, which
a crop has moved: so a PNG file that was a JPEG is known, and a JPEG file that was one of larger steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rnan_plugin.images.color import Pixels
from rnan_plugin.images.estimate import jpeg_quality, luma_table, sample_patches, steps_of_luma
from rnan_plugin.images.jpeg_blocks import BLOCK, Floats, coefficients, jpeg_luma

_PATCHES, _PATCHES_FOR_GRID = 64, 16  # that are looked at, evenly over the image
_FREQUENCIES = [(row, column) for row in range(5) for column in range(5 - row) if row + column]  # the lowest
# Coefficients of a frequency, not 0, that tell anything; of 63 other grids the best is taken, so that it takes more.
_FEWEST, _FEWEST_MOVED = 30, 100
_FEWEST_FREQUENCIES = 4  # that have so many
# What an earlier step is at least: times the file's, whose grid it has; times `near` in another grid, where the file's
# own steps show as nothing else. What is less of files saved once at quality 5 to 20 looks like one.
_COARSER, _COARSER_MOVED = 1.5, 4.0
_LARGEST_STEP = _WHITE = 255
_NEAR = 0.7  # levels by which rounding to 8 bits moves a coefficient
_MISSED = 0.05  # share of coefficients that clipping and what else was done put elsewhere
# Log-likelihood ratio of a frequency, of up to 250 steps the best; and for each coefficient: that sizes do not fall off
# as evenly as assumed gives up to 0.015, an earlier file 0.03 and more.
_EVIDENCE, _EVIDENCE_EACH = 15.0, 0.02
# Share of the frequencies that must show it: resaved at 20 to 85 and 75 to 95 they are 0.4 to 1, of files that were
# saved once, photographs and letters, up to 0.2.
_SHOWN = 0.3
_SAME = 0.5  # share of the steps that were seen, from which on a table is libjpeg's


@dataclass(frozen=True)
class JpegSource:
    """A JPEG file that an image was decoded from, now or before.

    Args:
        quality: 1 to 100: libjpeg's own, or the one whose luma table is nearest to another encoder's.
        steps: The 64 of its luma, row by row; empty where they are not known.
        top: The image's row, 0 to 7, at which the file's blocks begin.
        left: The column.
    """

    quality: int
    steps: tuple[int, ...] = ()
    top: int = 0
    left: int = 0


def jpeg_source(code: bytes, img: Pixels) -> JpegSource | None:
    """The JPEG file that says most of an image: an earlier one of larger steps, or its own.

    Args:
        code: The file's content; empty for an image without one.
        img: (H, W, 3) RGB or (H, W, 1) grey, as the file holds it, not turned.

    Returns:
        None where there is none to be seen; of 16 bits none is looked for.
    """
    steps, quality = steps_of_luma(code), jpeg_quality(code)
    if img.dtype == np.uint8 and (found := earlier_source(img, steps)):
        return found
    return JpegSource(quality, tuple(steps)) if quality is not None else None


def earlier_source(img: Pixels, steps: Sequence[int] = ()) -> JpegSource | None:
    """Find the JPEG file that an image was, before it was saved as it is.

    Args:
        img: (H, W, 3) RGB or (H, W, 1) grey, 8 bits, as the file holds it, not turned.
        steps: The 64 by which the luma of its own file was quantised, row by row; empty if it is no JPEG.

    Returns:
        None where nothing is seen of one whose steps were larger than the file's own.
    """
    own = np.array(steps or [0] * BLOCK**2, np.float32).reshape(BLOCK, BLOCK)
    near = own / 2 + _NEAR
    lumas = [_luma(patch) for patch in sample_patches(img, _PATCHES)]
    if found := _found(lumas, np.maximum(own, 1), near, _COARSER * own, _FEWEST):
        return JpegSource(*found)
    top, left = _grid([_luma(patch) for patch in sample_patches(img, _PATCHES_FOR_GRID)], near)
    moved = [luma[top:, left:] for luma in lumas]
    # In another grid the file's own steps are not seen: what they did to a coefficient is any amount up to half of one.
    found = _found(moved, np.ones_like(own), near, _COARSER_MOVED * near, _FEWEST_MOVED)
    return JpegSource(*found, top, left) if found else None


def _luma(patch: Pixels) -> Floats:
    """(H, W), not a number where a sample may be clipped, so that the coefficients of its block tell nothing."""
    luma = jpeg_luma(patch)
    luma[((patch == 0) | (patch == _WHITE)).any(axis=2)] = np.nan
    return luma


def _found(
    lumas: Sequence[Floats], unit: Floats, near: Floats, least: Floats, fewest: int
) -> tuple[int, tuple[int, ...]] | None:
    """Quality and steps of an earlier file with this grid.

    Args:
        lumas: (H, W) each.
        unit: Of each frequency, by which its coefficients are counted.
        near: How far from a multiple of an earlier step a coefficient may lie.
        least: The smallest step that is looked for.
        fewest: Coefficients of a frequency that tell anything.
    """
    blocks = np.concatenate([(coefficients(luma) / unit).reshape(-1, BLOCK, BLOCK) for luma in lumas])
    counts = np.rint(blocks[np.isfinite(blocks).all(axis=(1, 2))])
    counts = np.abs(np.unique(counts.astype(np.int32), axis=0))  # of patterns, such as screens have, each block once
    looked_at, seen = 0, {}
    for place in _FREQUENCIES:
        values = counts[(slice(None), *place)]
        if len(values := values[values > 0]) >= fewest:
            looked_at += 1
            if step := _step(np.bincount(values)[1:], *(float(table[place]) for table in (unit, near, least))):
                seen[place] = step
    if looked_at < _FEWEST_FREQUENCIES or len(seen) < _SHOWN * looked_at:
        return None
    return _table(seen)


def _step(histogram: NDArray[np.int64], unit: float, near: float, least: float) -> int:
    """The step before, near whose multiples coefficients are much likelier than by chance; 0 if there is none.

    Args:
        histogram: How often 1, 2 ... units occur.
        unit: In levels.
        near: How far from a multiple of the step a coefficient may lie.
        least: The smallest step that is looked for; 2 if it is less.
    """
    sizes = unit * np.arange(1, len(histogram) + 1)
    steps = np.arange(max(2, np.ceil(least)), _LARGEST_STEP + 1)
    at = np.abs(sizes - np.rint(sizes / steps[:, None]) * steps[:, None]) <= near
    steps, at = steps[at.sum(axis=1) > 1], at[at.sum(axis=1) > 1]
    if not len(at):
        return 0
    total = histogram.sum()
    by_chance = np.clip(at @ _smooth(histogram), 1e-3, 1 - 1e-3)
    hits = at @ histogram
    gain = hits * np.log((1 - _MISSED) / by_chance) + (total - hits) * np.log(_MISSED / (1 - by_chance))
    best = int(gain.argmax())
    return int(steps[best]) if gain[best] > max(_EVIDENCE, _EVIDENCE_EACH * total) else 0


def _table(seen: Mapping[tuple[int, int], int]) -> tuple[int, tuple[int, ...]]:
    """Quality, and steps if they are libjpeg's, of the luma table that has the steps that were seen at some places."""
    steps, places = list(seen.values()), tuple(zip(*seen, strict=True))
    upright = np.array([luma_table(quality).reshape(BLOCK, BLOCK) for quality in range(1, 101)])
    tables = np.concatenate([upright.swapaxes(1, 2), upright])  # an image may have been turned since
    there = tables[:, places[0], places[1]]
    same = (there == steps).mean(axis=1)
    best = len(same) - 1 - int(same[::-1].argmax())  # of qualities with the same steps there the highest
    if same[best] >= _SAME:
        return 1 + best % len(upright), tuple(tables[best].ravel().tolist())
    return 1 + int(np.square(np.log(steps / there)).sum(axis=1).argmin()) % len(upright), ()


def _smooth(histogram: NDArray[np.int64]) -> Floats:
    """The shares that sizes have where nothing favours any: falling off evenly, with the same mean."""
    sizes = np.arange(1, len(histogram) + 1)
    ratio = max(1e-3, 1 - histogram.sum() / (histogram @ sizes))
    shares: Floats = ratio ** (sizes - 1.0)
    return shares / shares.sum()


def _grid(lumas: Sequence[Floats], near: Floats) -> tuple[int, int]:
    """The row and column, 0 to 7, where blocks begin, of all but the first: in which most coefficients are about 0.

    Args:
        lumas: (H, W) each.
        near: Of each frequency, what counts as 0.
    """
    zeros = np.zeros((BLOCK, BLOCK), np.int64)
    for luma in lumas:
        height, width = (side // BLOCK * BLOCK - BLOCK for side in luma.shape)  # as many blocks in each grid
        for top, left in np.ndindex(zeros.shape):
            block = luma[top : top + height, left : left + width]
            zeros[top, left] += np.count_nonzero(np.abs(coefficients(block)) <= near)
    zeros[0, 0] = 0
    top, left = np.unravel_index(zeros.argmax(), zeros.shape)
    return int(top), int(left)
