"""JPEG files (ITU-T T.81, Annex B): whether one is whole, and how its luminance was quantised."""

from __future__ import annotations

import re

from PIL import Image as PillowImage

_START_OF_IMAGE = b"\xff\xd8"
_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)  # any number of fill bytes may stand before the kind
# In entropy-coded data FF 00 is a value, and FF D0 to FF D7 are restart markers.
_AFTER_SCAN = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)
_END, _SCAN = 0xD9, 0xDA
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


def is_jpeg(code: bytes) -> bool:
    """Whether a file's content begins as a JPEG's."""
    return code[:2] == _START_OF_IMAGE


def is_whole(code: bytes) -> bool:
    """Whether a JPEG file reaches its end-of-image marker, that of the image itself and not of a thumbnail within.

    What follows the marker, such as further pictures or a film, is not looked at.
    """
    position, pattern, scanned = len(_START_OF_IMAGE), _MARKER, False
    while match := pattern.search(code, position):
        kind, position = match[1][0], match.end()
        if kind == _END:
            return scanned
        if kind not in _WITHOUT_LENGTH:
            position += int.from_bytes(code[position : position + 2], "big")
        scanned |= kind == _SCAN
        pattern = _AFTER_SCAN if kind == _SCAN else _MARKER
    return False


def begins_with_luma(image: PillowImage.Image) -> bool:
    """Whether an opened JPEG file's first component is luma at full size: not red, and no ink."""
    components: list[tuple[int, ...]] = getattr(image, "layer", [])
    is_rgb = image.info.get("adobe_transform") == 0 or bytes(component[0] for component in components) == b"RGB"
    if image.mode not in {"L", "RGB"} or (is_rgb and image.mode == "RGB"):
        return False
    return all(part[1] <= components[0][1] and part[2] <= components[0][2] for part in components)


def luma_steps(image: PillowImage.Image) -> list[int]:
    """The 64 steps, row by row, by which an opened JPEG file's first component was quantised; empty if there are none.

    It may have any of the tables that the file holds.
    """
    tables, components = getattr(image, "quantization", {}), getattr(image, "layer", None)
    return list(tables.get(components[0][3] if components else 0, []))
