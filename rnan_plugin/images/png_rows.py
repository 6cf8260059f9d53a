"""PNG a few rows at a time: the upper rows of an image whose rows are unfiltered, and writing images of any size.

PNG can only be decoded from the top, and most of the time goes into inflating. A random crop ends on average a little
below the middle, and where rows are unfiltered (as this plugin packs them) there is nothing else to do.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnan_plugin.images.color import Pixels

Value = bytes | memoryview

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")
_IHDR = struct.Struct(">IIBBBBB")
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette decodes to colour
_PLAIN = {0, 2}  # grey and RGB


class Header(NamedTuple):
    """What a PNG file says of its image."""

    width: int
    height: int
    bits: int
    colour: int
    compression: int
    filtering: int
    interlace: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the decoded image."""
        return self.height, self.width, _CHANNELS.get(self.colour, 0)


def read_header(value: Value) -> Header | None:
    """Header of a PNG file, or None if it is none."""
    start = len(_SIGNATURE) + _CHUNK.size
    if bytes(value[: len(_SIGNATURE)]) != _SIGNATURE or len(value) < start + _IHDR.size:
        return None
    return Header(*_IHDR.unpack_from(value, start))


def decode_rows(value: Value, first: int, last: int) -> NDArray[np.uint8] | None:
    """Decode rows `first` to `last` (exclusive) of a PNG file.

    Returns:
        (last - first, W, C), RGB or grey, read-only; None if the file is not of 8 bits, grey or RGB, with unfiltered
        rows, or is damaged: another decoder can say more.
    """
    header = read_header(value)
    if header is None or header.bits != 8 or header.colour not in _PLAIN or header.interlace:
        return None
    _, width, num_channel = header.shape
    length = 1 + width * num_channel  # a byte for the row's filter
    try:
        rows = zlib.decompressobj().decompress(_compressed(value), last * length)
    except (zlib.error, struct.error):
        return None
    if len(rows) != last * length:
        return None
    table = np.frombuffer(rows, np.uint8).reshape(last, length)
    if table[:, 0].any():
        return None
    return table[first:, 1:].reshape(last - first, width, num_channel)


def _compressed(value: Value) -> bytes:
    """The compressed stream: the contents of all IDAT chunks."""
    return b"".join(value[start:end] for kind, start, end in chunks(value) if kind == b"IDAT")


def chunks(value: Value) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of each chunk of a PNG file; its checksum, 4 bytes, follows.

    Raises:
        struct.error: The file ends within a chunk's head.
    """
    position = len(_SIGNATURE)
    while position < len(value):
        length, kind = _CHUNK.unpack_from(value, position)
        start = position + _CHUNK.size
        yield kind, start, start + length
        position = start + length + 4


def transparent_colour(value: Value, header: Header) -> tuple[int, ...] | None:
    """The colour that a PNG file of grey or RGB shows transparent, as its decoded samples tell it."""
    length, white = 2 * _CHANNELS.get(header.colour, 0), 2**header.bits - 1
    for kind, start, end in chunks(value):
        if kind == b"IDAT":
            return None
        if kind == b"tRNS" and header.colour in _PLAIN and end - start == length:
            stored = struct.unpack(f">{length // 2}H", value[start:end])
            decoded = max(255, white)  # fewer bits are spread over eight
            return tuple((sample & white) * decoded // white for sample in stored)
    return None


_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of channels
_PIECE_PIXELS = 2**20
_SUB = 1  # the filter that keeps each sample's difference from the same of the pixel before


def png_pieces(img: Pixels, level: int, metadata: Iterable[tuple[bytes, bytes]] = ()) -> Iterator[bytes]:
    """Yield the parts of a PNG file of an image of any size, without holding all of it.

    Args:
        img: (H, W, C) of 8 or 16 bits, or a view of one: grey or RGB, the last channel alpha where C is 2 or 4.
        level: Compression level of zlib, 0..9.
        metadata: Kind and content of chunks to stand before the pixels.
    """
    height, width, num_channel = img.shape
    bits = 8 * img.dtype.itemsize
    yield _SIGNATURE
    yield _chunk(b"IHDR", _IHDR.pack(width, height, bits, _COLOUR_TYPES[num_channel], 0, 0, 0))
    for kind, content in metadata:
        yield _chunk(kind, content)
    packer = zlib.compressobj(level)
    rows, step = max(1, _PIECE_PIXELS // width), num_channel * img.dtype.itemsize
    for top in range(0, height, rows):
        samples = np.ascontiguousarray(img[top : top + rows], dtype=img.dtype.newbyteorder(">"))
        piece = samples.reshape(-1, width * num_channel).view(np.uint8)
        filtered = np.empty((len(piece), 1 + piece.shape[1]), np.uint8)
        filtered[:, 0] = _SUB
        filtered[:, 1 : 1 + step] = piece[:, :step]
        np.subtract(piece[:, step:], piece[:, :-step], out=filtered[:, 1 + step :])
        if data := packer.compress(filtered.tobytes()):
            yield _chunk(b"IDAT", data)
    yield _chunk(b"IDAT", packer.flush())
    yield _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return _CHUNK.pack(len(content), kind) + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
