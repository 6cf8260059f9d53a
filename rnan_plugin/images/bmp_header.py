"""What the header of a BMP file says of its pixels, and whether OpenCV goes by it."""

from __future__ import annotations

import struct

_MASKS = struct.Struct("<14xI12xI32xI")  # size of the header, compression, mask of alpha
_HEAD = struct.Struct("<14xI10xHI20x3I")  # size, bits of a pixel, compression, masks of red, green, blue
_V1, _V3, _ALPHA_BITFIELDS = 40, 56, 6
_BITFIELDS = {3, _ALPHA_BITFIELDS}
_BGR_MASKS = (0xFF0000, 0xFF00, 0xFF)


def has_alpha(code: bytes) -> bool:
    """Whether a BMP file of 32 bits says which of them are alpha; True for all other files."""
    if not code.startswith(b"BM") or len(code) < _MASKS.size:
        return True
    size, compression, alpha = _MASKS.unpack_from(code)
    return bool(alpha) and (size >= _V3 or compression == _ALPHA_BITFIELDS)


def is_right_by_opencv(code: bytes) -> bool:
    """Whether a file is no BMP, or one that OpenCV reads right: 24 and 32 bits in the usual order, and palettes.

    It takes colours of the oldest header for grey, passes over masks, and knows few files of 16 bits.
    """
    if not code.startswith(b"BM"):
        return True
    size, bits, compression, *masks = _HEAD.unpack_from(code.ljust(_HEAD.size, b"\0"))
    if size < _V1 or bits == 16:
        return False
    return compression not in _BITFIELDS or tuple(masks) == _BGR_MASKS
