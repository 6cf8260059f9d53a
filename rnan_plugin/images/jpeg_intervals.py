"""What a JPEG file says of the image that it was made of, which a restored one must not contradict.

Each coefficient of its luma was rounded to a multiple of a step, so that the image's lay within half a step of it.
Projecting a result on these intervals is as old as Zakhor (1992). Here they say as well whether a network knows what it
sees: of photographs next to nothing of a change lies outside; of letters and drawings, whose edges look like artefacts
to a network of photographs, much does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rnan_plugin.images.color import Pixels
from rnan_plugin.images.jpeg_blocks import BLOCK, Floats, coefficients, jpeg_luma, of_coefficients
from rnan_plugin.images.jpeg_history import JpegSource

_STRIP_PIXELS = 2**18
_REACH = 5  # blocks a side that are judged together
# Share of a change outside of the intervals up to which it is believed, and from which on it is not: at the same
# quality photographs have up to 0.03 (quality 90) and 0.12 (95), what a network makes worse 0.1 to 0.7.
_BELIEVED, _REFUSED = 0.05, 0.15
_SLIGHT = 0.2  # mean square of a change, in levels², that tells nothing by itself


def bring_within(decoded: Pixels, restored: Pixels, source: JpegSource) -> float:
    """Bring a restored image into the intervals of its file; where it was far outside, make it what was decoded.

    Args:
        decoded: (H, W, 3) RGB or (H, W, 1) grey, 8 bits.
        restored: The same, restored; changed in place, for large images take gigabytes.
        source: The file, whose steps are known.

    Returns:
        The share of the image, 0 to 1, that is what was decoded.
    """
    table = np.array(source.steps, np.float32).reshape(BLOCK, BLOCK)
    decoded, restored = (img[source.top :, source.left :] for img in (decoded, restored))
    rows, columns = (side // BLOCK for side in decoded.shape[:2])
    if not rows or not columns:
        return 0.0
    judged = [_judge(decoded[strip], restored[strip], table)[:2] for strip in _strips(rows, decoded.shape[1])]
    believed = _believed(*map(np.concatenate, zip(*judged, strict=True)))
    for strip in _strips(rows, decoded.shape[1]):
        part = slice(strip.start, None if strip.stop == rows * BLOCK else strip.stop)  # with the last rows
        share = _of_pixels(believed, part, decoded.shape[:2])
        restored[part] = _merged(decoded[part], restored[part], table, share)
    return float(1 - believed.mean())


def _strips(rows: int, width: int) -> Iterator[slice]:
    """Of pixel rows, whole blocks each, so that their floats stay few."""
    step = max(1, _STRIP_PIXELS // (BLOCK * width))
    for top in range(0, rows, step):
        yield slice(top * BLOCK, min(rows, top + step) * BLOCK)


def _judge(decoded: Pixels, restored: Pixels, table: Floats) -> tuple[Floats, Floats, Floats]:
    """Of blocks (h, w): mean squares of what lies outside, and of the whole change; and what would bring it inside."""
    before, after = coefficients(jpeg_luma(decoded)), coefficients(jpeg_luma(restored))
    middle = np.rint(before / table) * table
    middle[..., 0, 0] = before[..., 0, 0]  # the means: any brightening moved them off their multiples
    inside = np.clip(after, middle - table / 2, middle + table / 2)
    outside, change = (np.square(difference).mean(axis=(2, 3)) for difference in (inside - after, after - before))
    return outside, change, inside - after


def _believed(outside: Floats, change: Floats) -> NDArray[np.float32]:
    """Share, 0 to 1, of each block (h, w) that is taken from the restored image."""
    near = [cv2.blur(squares, (_REACH, _REACH), borderType=cv2.BORDER_REPLICATE) for squares in (outside, change)]
    share = near[0] / (near[1] + _SLIGHT)
    return np.clip((_REFUSED - share) / (_REFUSED - _BELIEVED), 0, 1).astype(np.float32)


def _of_pixels(believed: NDArray[np.float32], part: slice, size: tuple[int, ...]) -> NDArray[Any]:
    """(h, W, 1) for some rows of pixels: between the middles of blocks it goes over, beyond the last it stays."""
    top, bottom = part.start // BLOCK, len(believed) if part.stop is None else part.stop // BLOCK
    above = min(top, 1)
    some = believed[top - above : bottom + 1]
    smooth = cv2.resize(some, (BLOCK * some.shape[1], BLOCK * some.shape[0]), interpolation=cv2.INTER_LINEAR)
    height = (size[0] if part.stop is None else part.stop) - part.start
    smooth = smooth[above * BLOCK :][:height]
    return np.pad(smooth, [(0, height - len(smooth)), (0, size[1] - smooth.shape[1])], mode="edge")[..., None]


def _merged(decoded: Pixels, restored: Pixels, table: Floats, believed: NDArray[Any]) -> Pixels:
    """The restored image with its luma inside (the same for R, G and B), as far as it is believed."""
    correction = of_coefficients(_judge(decoded, restored, table)[2])
    new = restored.astype(np.float32)
    new[: correction.shape[0], : correction.shape[1]] += correction[..., None]
    merged: Pixels = np.clip(np.rint(decoded + believed * (new - decoded)), 0, 255).astype(np.uint8)
    return merged
