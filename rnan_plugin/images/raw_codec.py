"""Uncompressed 8-bit images as LMDB values: 32 bytes of header, then the pixels row by row.

Read through the memory map, a crop touches the pages of its own rows alone; PNG has to be decoded whole.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from rnan_plugin.errors import UserError

Value = bytes | memoryview

_MAGIC = b"RNANraw1"
_HEADER = struct.Struct("<8s4I8x")  # magic, height, width, channels, CRC-32 of the pixels


def encode_raw(img: NDArray[np.uint8]) -> bytes:
    """Encode (H, W, C), 0..255."""
    pixels = img.tobytes()
    return _HEADER.pack(_MAGIC, *img.shape, zlib.crc32(pixels)) + pixels


def is_raw(value: Value) -> bool:
    """Whether a value was written by `encode_raw`."""
    return bytes(value[: len(_MAGIC)]) == _MAGIC


def decode_raw(value: Value, source: str) -> NDArray[np.uint8]:
    """View a value as an image, without copying or checking its pixels.

    Args:
        value: What `encode_raw` gave.
        source: Key, for errors.

    Returns:
        (H, W, C), read-only, valid as long as `value` is.

    Raises:
        UserError: The value is cut short.
    """
    shape = _HEADER.unpack_from(value)[1:4] if len(value) >= _HEADER.size else (-1,)
    if len(value) != _HEADER.size + np.prod(shape, dtype=np.int64):
        raise UserError(f"{source}: a damaged value of {len(value)} bytes; pack the LMDB again")
    return np.frombuffer(value, np.uint8, offset=_HEADER.size).reshape(shape)


def is_intact(value: Value) -> bool:
    """Whether the pixels are those that were written, by their checksum."""
    return len(value) >= _HEADER.size and zlib.crc32(value[_HEADER.size :]) == _HEADER.unpack_from(value)[4]
