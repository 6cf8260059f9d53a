"""Whether an image file is as long as it says, by a few bytes of it: a copy that was interrupted is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from PIL import Image as PillowImage

_END_OF_JPEG = b"\xff\xd9"
_END_OF_PNG = b"\0\0\0\0IEND\xaeB`\x82"  # the chunk, which is empty, and its checksum
_OFFSETS_AND_COUNTS = ((273, 279), (324, 325))  # TIFF's tags, of strips and of tiles


def ends_as_told(path: Path, image: PillowImage.Image) -> bool:
    """Whether the file of an opened image reaches to its end; False also where something follows that hides it.

    What is missing or wrong before the end only decoding tells.
    """
    rule = _RULES.get(image.format or "")
    if rule is None:
        return False
    with path.open("rb") as file:
        return rule(file, image)


def _jpeg(file: BinaryIO, _: PillowImage.Image) -> bool:
    return _last(file, _END_OF_JPEG)


def _png(file: BinaryIO, _: PillowImage.Image) -> bool:
    return _last(file, _END_OF_PNG)


def _last(file: BinaryIO, end: bytes) -> bool:
    file.seek(-len(end), os.SEEK_END)
    return file.read() == end


def _webp(file: BinaryIO, _: PillowImage.Image) -> bool:
    return 8 + int.from_bytes(file.read(8)[4:], "little") <= _length(file)


def _bmp(file: BinaryIO, _: PillowImage.Image) -> bool:
    told = int.from_bytes(file.read(6)[2:], "little")
    return 0 < told <= _length(file)


def _tiff(file: BinaryIO, image: PillowImage.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    ends = [
        offset + count
        for offsets, counts in _OFFSETS_AND_COUNTS
        for offset, count in zip(tags.get(offsets, ()), tags.get(counts, ()), strict=True)
    ]
    return bool(ends) and max(ends) <= _length(file)


def _length(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


_RULES: dict[str, Callable[[BinaryIO, PillowImage.Image], bool]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "BMP": _bmp,
    "TIFF": _tiff,
}
