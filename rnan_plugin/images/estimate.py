"""What a file or an image tells of how it was degraded: the quality of a JPEG, the sigma of noise."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray

from rnan_plugin.errors import UserError
from rnan_plugin.images.codec import opened_by_pillow
from rnan_plugin.images.jpeg_segments import is_jpeg

# The luminance table that libjpeg scales by quality, row by row (ITU-T T.81, Annex K.1).
_LUMA = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
)
CLEAN_SIGMA = 5.0  # what texture alone may be taken for: the most on twelve clean photographs of Kodak24 was 4.7
_PATCH = 64  # side of the patches that noise is looked for in
_MOST_PATCHES = 256  # that are looked at, evenly over the image: a large one says no more by all of them
_SHARE = 10  # percentile of the patches' estimates: the flattest, where no texture is taken for noise
_CLIPPED = 0.05  # share of black and white samples above which a patch tells nothing


def luma_table(quality: int) -> NDArray[np.int64]:
    """The 64 steps of libjpeg's luminance table at a quality from 1 to 100, row by row."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((_LUMA * scale + 50) // 100, 1, 255)


def jpeg_quality(code: bytes) -> int | None:
    """The quality, 1 to 100, of a JPEG file: libjpeg's own, or the one whose table is nearest to another encoder's.

    Args:
        code: The file's content.

    Returns:
        None for other files, and for those that can't be read.
    """
    found = _tables(code)
    if found is None:
        return None
    # Ratios of steps say how visible a difference is.
    return 1 + int(np.square(np.log(found) - _log_tables()).sum(axis=1).argmin())


@cache
def _log_tables() -> NDArray[np.float64]:
    return np.log([luma_table(quality) for quality in range(1, 101)])


def _tables(code: bytes) -> NDArray[np.float64] | None:
    if not is_jpeg(code):
        return None
    try:
        with opened_by_pillow(io.BytesIO(code)) as file:
            tables = getattr(file, "quantization", {})
    except Exception:  # whatever a damaged file makes Pillow raise: it tells nothing
        return None
    first = np.array(tables.get(0, []), dtype=np.float64)
    return first if first.size == _LUMA.size and (first > 0).all() else None


def noise_sigma(img: NDArray[np.uint8]) -> float:
    """Estimate the standard deviation of white noise in an image, on the 0..255 scale.

    A median of wavelet coefficients (Donoho and Johnstone, by scikit-image) in the flattest patches. Measured on twelve
    photographs of Kodak24 with clipped noise of sigma 0, 5, 10, 25, 50, 70: 1.6, 5.3, 10.0, 24.0, 47.0, 60.5 in the
    mean (clipping to 8 bits takes some of the strongest).

    Args:
        img: (H, W, 3) RGB or (H, W, 1) grey, 0..255.

    Raises:
        UserError: scikit-image is not installed.
    """
    patches = [patch for patch in _patches(img) if np.isin(patch, (0, 255)).mean() <= _CLIPPED]
    # Small, or clipped everywhere: all of it has to do.
    return float(np.percentile([_sigma(patch) for patch in patches or [img]], _SHARE))


def _sigma(img: NDArray[np.uint8]) -> float:
    """Scikit-image's estimate, mean over the channels; it knows none for a channel of one value."""
    try:
        from skimage.restoration import estimate_sigma
    except ImportError:
        raise UserError("finding the level of noise needs scikit-image: pip install scikit-image, or --level") from None
    channels = [img[..., channel] for channel in range(img.shape[2])]
    found = [estimate_sigma(channel.astype(np.float32)) if np.ptp(channel) else 0.0 for channel in channels]
    return float(np.nan_to_num(np.mean(found)))


def _patches(img: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Patches side by side; what is left over at the rim tells nothing more."""
    tops, lefts = (range(0, length - _PATCH + 1, _PATCH) for length in img.shape[:2])
    places = [(top, left) for top in tops for left in lefts]
    chosen = places[:: -(-len(places) // _MOST_PATCHES)] if places else []
    return [img[top : top + _PATCH, left : left + _PATCH] for top, left in chosen]
