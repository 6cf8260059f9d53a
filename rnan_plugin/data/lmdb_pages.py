"""Whether an LMDB's file holds all that its pages point to, found out without mapping it into memory.

The lmdb library trusts the file: where it is cut short, or a page number is wrong, reading the memory map ends the
process (SIGBUS) with no error to catch. So the pages are looked through first; there is about one for 150 images.
Format: lmdb.h and mdb.c of LMDB 0.9, data version 1, on a machine of 64 bits.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rnan_plugin.errors import UserError

_PAGE = struct.Struct("=Q4H")  # number, padding, kind, end of the table of nodes, start of the nodes
_NODE = struct.Struct("=4H")  # 16 lower and 16 upper bits of a size or page, flags, length of the key
_META = struct.Struct(
    "=16x2I2Q I2H5Q I2H5Q 2Q"
)  # a page's head, then the environment, its two trees, last page, number
_BRANCH, _LEAF, _META_PAGE, _KINDS = 1, 2, 8, 0x6F
_BIG = 1  # flag of a node whose value has pages of its own
_DATA_VERSION, _MAGIC = 1, 0xBEEFC0DE
_EMPTY = 2**64 - 1  # page of the root of an empty tree
_DEEPEST = 31


class _DamageError(Exception):
    """What is wrong with a file."""


class _Meta(NamedTuple):
    """One of the two heads of an LMDB: the newer one counts."""

    version: int
    page_size: int
    flags: int
    depth: int
    root: int
    last_page: int
    transaction: int


def check_pages(file: Path) -> None:
    """Look through all pages that lead to the values of an LMDB.

    Args:
        file: Its `data.mdb`.

    Raises:
        UserError: It can't be read, is cut short, or a page is damaged so that reading on could end the process.
    """
    try:
        with file.open("rb") as data:
            _check(data)
    except OSError as error:
        raise UserError(f"{file}: can't be read ({error.strerror}); check the file and its permissions") from None
    except (_DamageError, struct.error) as error:
        reason = "cut short" if isinstance(error, struct.error) else error
        raise UserError(f"{file}: damaged ({reason}); pack the LMDB again") from None


def _check(data: BinaryIO) -> None:
    size = os.fstat(data.fileno()).st_size
    meta = _newest(data)
    if meta.version != _DATA_VERSION:
        return  # the library refuses it
    wanted = (meta.last_page + 1) * meta.page_size
    if size < wanted:
        raise _DamageError(f"cut short: {size} bytes of {wanted}")
    if meta.root == _EMPTY:
        return
    if meta.flags or not 0 < meta.depth <= _DEEPEST:
        raise _DamageError("its head")
    seen: set[int] = set()
    level = [meta.root]
    for height in reversed(range(meta.depth)):
        level = [child for number in level for child in _children(data, meta, number, height, seen)]


def _newest(data: BinaryIO) -> _Meta:
    first = _meta(data, 0)
    size = first.page_size
    if size & (size - 1) or not 2**8 <= size <= 2**16:
        raise _DamageError(f"pages of {size} bytes")
    return max(first, _meta(data, size), key=lambda meta: meta.transaction)._replace(page_size=size)


def _meta(data: BinaryIO, position: int) -> _Meta:
    data.seek(position)
    page = data.read(_META.size)
    magic, version, _, _, page_size, _, _, *_, flags, depth, _, _, _, _, root, last, number = _META.unpack(page)
    if magic != _MAGIC or not _PAGE.unpack_from(page)[2] & _META_PAGE:
        raise _DamageError("no head of an LMDB")
    return _Meta(version, page_size, flags, depth, root, last, number)


def _children(data: BinaryIO, meta: _Meta, number: int, height: int, seen: set[int]) -> list[int]:
    """Check a page and its nodes; return the numbers of the pages below it, if it is a branch."""
    if number in seen or not 1 < number <= meta.last_page:
        raise _DamageError(f"a wrong page number, {number}")
    seen.add(number)
    data.seek(number * meta.page_size)
    page = data.read(meta.page_size)
    own, _, kind, table_end, _ = _PAGE.unpack_from(page)
    wanted = _BRANCH if height else _LEAF
    count = (table_end - _PAGE.size) // 2
    # The library ends the process at a branch with fewer than two nodes.
    if own != number or kind & _KINDS != wanted or count < (2 if height else 1):
        raise _DamageError(f"page {number}")
    return [_child(page, meta, offset, height) for offset in struct.unpack_from(f"={count}H", page, _PAGE.size)]


def _child(page: bytes, meta: _Meta, offset: int, height: int) -> int:
    """Check a node; return the number of the page that a branch's node leads to."""
    low, high, flags, key_length = _NODE.unpack_from(page, offset)
    end = offset + _NODE.size + key_length
    if end > meta.page_size:
        raise _DamageError("a key outside its page")
    if not height:
        _check_value(page, meta, end, low | high << 16, flags)
    return low | high << 16 | flags << 32


def _check_value(page: bytes, meta: _Meta, start: int, length: int, flags: int) -> None:
    """Whether a value lies inside its page, or its own pages inside the file."""
    if flags == _BIG:
        (number,) = struct.unpack_from("=Q", page, start)
        end = number * meta.page_size + _PAGE.size + length
        inside = number > 1 and end <= (meta.last_page + 1) * meta.page_size
    else:
        inside = not flags and start + length <= meta.page_size
    if not inside:
        raise _DamageError("a value outside its page")
