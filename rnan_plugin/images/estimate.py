"""What a file or an image tells of how it was degraded: the quality of a JPEG, the sigma of noise."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pywt  # type: ignore[import-untyped]
from numpy.typing import NDArray

from rnan_plugin.images.codec import opened_by_pillow
from rnan_plugin.images.color import LUMA_SPAN, Pixels, full_scale
from rnan_plugin.images.jpeg_segments import begins_with_luma, is_jpeg, luma_steps

# The luminance table that libjpeg scales by quality, row by row (ITU-T T.81, Annex K.1).
_LUMA = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
)
_PATCH = 128  # side of the patches that noise is looked for in
_MOST_PATCHES = 256  # that are looked at, evenly over the image: a large one says no more by all of them
_SMALL, _LARGE = 8, 32  # coefficients a side of the blocks in which noise is found, and its level
_MAD = 0.6744897501960817  # median of the size of a standard normal variable
_MEAN = 0.7978845608028654  # and the mean
_CLIPPED = 0.05  # share of black and white samples above which a block tells nothing
# What noise looks like in the flattest blocks, its sigma by the mean over that by the median, and how much of it is
# clipped: with noise of 2 to 75 on Kodak24, Classic5, Set5, BSD400 and T91 0.97 to 1.14, and up to 0.31. Letters,
# whose page is flat between their edges, have 1.6 and more, and 0.6; mosaics 0.8 and 0.67, halftones 1.
_TAILS, _MOST_CLIPPED = (0.9, 1.3), 0.5
_FEW = 16  # values, such as drawings and screens have: noise makes more
# Clipping takes some of strong noise: the median of what is measured at a true sigma, on 64 images of BSD400.
_TRUE = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0)
_MEASURED = (0.0, 10.0, 19.5, 28.9, 38.3, 47.0, 55.1, 62.0, 68.8)


def luma_table(quality: int) -> NDArray[np.int64]:
    """The 64 steps of libjpeg's luminance table at a quality from 1 to 100, row by row."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((_LUMA * scale + 50) // 100, 1, 255)


def quality_in_luma(quality: float) -> float:
    """The quality that a JPEG file shows a network for luma, 1 to 100.

    Files quantise 256 levels between black and white. Brought to the 219 of luma, as networks for Y take it, steps and
    artefacts are as much smaller.
    """
    scale = (5000 / quality if quality < 50 else 200 - 2 * quality) * LUMA_SPAN / 255
    return 5000 / scale if scale > 100 else 100 - scale / 2


def jpeg_quality(code: bytes) -> int | None:
    """The quality, 1 to 100, of a JPEG file: libjpeg's own, or the one whose table is nearest to another encoder's.

    Args:
        code: The file's content.

    Returns:
        None for other files, and for those that can't be read.
    """
    found = np.array(_first_steps(code), dtype=np.float64)
    if not found.size:
        return None
    # Ratios of steps say how visible a difference is.
    return 1 + int(np.square(np.log(found) - _log_tables()).sum(axis=1).argmin())


@cache
def _log_tables() -> NDArray[np.float64]:
    return np.log([luma_table(quality) for quality in range(1, 101)])


def steps_of_luma(code: bytes) -> list[int]:
    """The 64 steps, row by row, by which a JPEG file's luma was quantised; empty where there is none, or not so told.

    Args:
        code: The file's content.
    """
    return _first_steps(code, of_luma_alone=True)


def _first_steps(code: bytes, *, of_luma_alone: bool = False) -> list[int]:
    """Of a JPEG file's first component."""
    if not is_jpeg(code):
        return []
    try:
        with opened_by_pillow(io.BytesIO(code)) as file:
            steps = luma_steps(file) if begins_with_luma(file) or not of_luma_alone else []
    except Exception:  # whatever a damaged file makes Pillow raise: it tells nothing
        return []
    return steps if len(steps) == _LUMA.size and min(steps) > 0 else []


def noise_sigma(img: Pixels) -> float:
    """Estimate the standard deviation of white noise in an image, on the 0..255 scale.

    A median of diagonal wavelet coefficients (Donoho and Johnstone, by PyWavelets), first in small blocks for whether
    there is any noise, then in larger ones for how much: in the flattest of them, since texture counts as noise too.
    Where texture alone might be what is seen, there is none; nor where it is not distributed as noise is.

    Args:
        img: (H, W, 3) RGB or (H, W, 1) grey, of 8 or 16 bits.

    Returns:
        0 where nothing is seen that could not be texture.
    """
    white = full_scale(img)
    patches = sample_patches(img)
    if sum(np.logical_or.reduce([_values(patch) for patch in patches])) <= _FEW:
        return 0.0
    details = [(_details(patch), _clipped(patch, white)) for patch in patches]
    small, large = (_in_blocks(details, side) for side in (_SMALL, _LARGE))
    seen, sigma = (np.percentile(by[:, 0], share) * 255 / white for by, share in ((small, 2), (large, 10)))
    if seen <= _texture(len(small)) or not _is_like_noise(large[large[:, 0] <= np.percentile(large[:, 0], 10)]):
        return 0.0
    return float(np.interp(sigma, _MEASURED, _TRUE))


def _values(img: Pixels) -> NDArray[np.bool_]:
    """Which values of its type an image has."""
    return np.bincount(img.ravel(), minlength=full_scale(img) + 1) > 0


def _is_like_noise(flattest: NDArray[np.float64]) -> bool:
    by_median, by_mean, clipped = flattest.mean(axis=0)
    return bool(clipped <= _MOST_CLIPPED and _TAILS[0] <= by_mean / max(by_median, 1e-9) <= _TAILS[1])


def _texture(blocks: int) -> float:
    """What texture may be taken for in the flattest of so many blocks, in levels of 0..255.

    Above the most on clean images of Kodak24: 1.9 on whole ones (1500 blocks), 4.5, 5.9 and 6.6 on parts of 256², 128²
    and 64² pixels.
    """
    return min(7.0, 2.2 * max(1.0, 1000 / blocks) ** 0.55)


def _details(img: Pixels) -> NDArray[np.float32]:
    """Sizes of the finest diagonal wavelet coefficients, (h, w, C), half as many each way."""
    img = np.pad(img, [(0, max(0, 4 - length)) for length in img.shape[:2]] + [(0, 0)], mode="edge")
    _, (_, _, diagonal) = pywt.dwt2(img.astype(np.float32), "db2", axes=(0, 1))
    sizes: NDArray[np.float32] = np.abs(diagonal)
    return sizes


def _clipped(img: Pixels, white: int) -> NDArray[np.float32]:
    """Share of black and white samples about each coefficient of `_details`, (h, w, 1)."""
    share = ((img == 0) | (img == white)).mean(axis=2, dtype=np.float32)
    height, width = ((max(4, length) + 3) // 2 for length in img.shape[:2])
    rows, columns = (
        np.minimum(2 * np.arange(count), length - 1) for count, length in ((height, len(img)), (width, img.shape[1]))
    )
    return share[np.ix_(rows, columns)][..., None]


def _in_blocks(details: list[tuple[NDArray[np.float32], NDArray[np.float32]]], side: int) -> NDArray[np.float64]:
    """Of each block of so many coefficients a side that is hardly clipped, or of the quarter least so.

    Returns:
        (blocks, 3): sigma by the median and by the mean, and the share that is clipped.
    """
    by_median = np.concatenate([np.median(_blocks(sizes, side), axis=1).mean(axis=1) / _MAD for sizes, _ in details])
    by_mean = np.concatenate([_blocks(sizes, side).mean(axis=(1, 2)) / _MEAN for sizes, _ in details])
    clipped = np.concatenate([_blocks(share, side).mean(axis=(1, 2)) for _, share in details])
    kept = clipped <= max(_CLIPPED, np.percentile(clipped, 25))
    return np.stack([by_median, by_mean, clipped], axis=1)[kept]


def _blocks(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """(h, w, C) as blocks (count, values of a block, C); all as one where none fits."""
    rows, columns = (max(1, length // side) for length in values.shape[:2])
    height, width = (
        length // count * count if length < side else count * side
        for length, count in zip(values.shape, (rows, columns), strict=False)
    )
    cut = values[:height, :width].reshape(rows, height // rows, columns, width // columns, -1)
    return cut.transpose(0, 2, 1, 3, 4).reshape(rows * columns, -1, values.shape[2])


def sample_patches(img: Pixels, most: int = _MOST_PATCHES) -> list[Pixels]:
    """Patches of 128×128 pixels, evenly over a large image; an image of no more of them itself."""
    tops, lefts = (range(0, length - _PATCH + 1, _PATCH) for length in img.shape[:2])
    places = [(top, left) for top in tops for left in lefts]
    if len(places) <= most:
        return [img]
    return [img[top : top + _PATCH, left : left + _PATCH] for top, left in places[:: -(-len(places) // most)]]
