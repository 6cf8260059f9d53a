"""Whether an LMDB's file holds all that its pages point to, found out without mapping it into memory.

The lmdb library trusts the file: where it is cut short, or a page number is wrong, reading the memory map ends the
process (SIGBUS) with no error to catch. So the pages are looked through first; there is about one for 150 images.
Writing trusts more: the list of free pages, a tree of its own, and how the nodes lie in their pages.
Format: lmdb.h and mdb.c of LMDB 0.9, data version 1, on a machine of 64 bits.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rnan_plugin.errors import UserError

_PAGE = struct.Struct("=Q4H")  # number, padding, kind, end of the table of nodes, start of the nodes
_NODE = struct.Struct("=4H")  # 16 lower and 16 upper bits of a size or page, flags, length of the key
_META = struct.Struct(
    "=16x2I2Q I2H5Q I2H5Q 2Q"
)  # a page's head, then the environment, its two trees, last page, number
_BRANCH, _LEAF, _VALUE, _META_PAGE, _KINDS = 1, 2, 4, 8, 0x6F
_BIG = 1  # flag of a node whose value has pages of its own
_DATA_VERSION, _MAGIC = 1, 0xBEEFC0DE
_EMPTY = 2**64 - 1  # page of the root of an empty tree
_NUMBERED = 8  # flag of a tree whose keys are numbers
_NUMBER = 8  # bytes of one
_DEEPEST = 31


class _DamageError(Exception):
    """What is wrong with a file."""


class _Tree(NamedTuple):
    """What a head says of one of its trees."""

    flags: int
    depth: int
    entries: int
    root: int


class _Meta(NamedTuple):
    """One of the two heads of an LMDB: the newer one counts."""

    version: int
    page_size: int
    free: _Tree
    main: _Tree
    last_page: int
    transaction: int


class _Node(NamedTuple):
    """A node: where it and its value begin in the file, the value's length, and the page that it leads to, if any."""

    place: int
    start: int
    length: int
    flags: int
    page: int

    @property
    def end(self) -> int:
        """Where the next node of the page may begin: at an even place."""
        end = self.start + (_NUMBER if self.flags == _BIG else self.length)
        return end + end % 2


def check_pages(file: Path, *, for_writing: bool = False) -> None:
    """Look through all pages that lead to the values of an LMDB.

    Args:
        file: Its `data.mdb`.
        for_writing: Look at what only writing goes by as well.

    Raises:
        UserError: It can't be read, is cut short, or a page is damaged so that reading on could end the process.
    """
    try:
        with file.open("rb") as data:
            _check(data, for_writing)
    except OSError as error:
        raise UserError(f"{file}: can't be read ({error.strerror}); check the file and its permissions") from None
    except (_DamageError, struct.error) as error:
        reason = "cut short" if isinstance(error, struct.error) else error
        raise UserError(f"{file}: damaged ({reason}); pack the LMDB again") from None


def _check(data: BinaryIO, for_writing: bool) -> None:
    size = os.fstat(data.fileno()).st_size
    meta = _newest(data)
    if meta.version != _DATA_VERSION and not for_writing:
        return  # the library refuses it
    wanted = (meta.last_page + 1) * meta.page_size
    if size < wanted:
        raise _DamageError(f"cut short: {size} bytes of {wanted}")
    look = _Look(data, meta, for_writing)
    leaves = look.leaves(meta.main, 0)
    if for_writing:
        _check_free(look, look.leaves(meta.free, _NUMBERED), leaves)


def _newest(data: BinaryIO) -> _Meta:
    first = _meta(data, 0)
    size = first.page_size
    if size & (size - 1) or not 2**8 <= size <= 2**16:
        raise _DamageError(f"pages of {size} bytes")
    second = _meta(data, size)
    if second[:2] != first[:2]:
        raise _DamageError("two heads of different kinds")
    return max(first, second, key=lambda meta: meta.transaction)


def _meta(data: BinaryIO, position: int) -> _Meta:
    data.seek(position)
    page = data.read(_META.size)
    magic, version, _, _, page_size, *trees, last, number = _META.unpack(page)
    if magic != _MAGIC or not _PAGE.unpack_from(page)[2] & _META_PAGE:
        raise _DamageError("no head of an LMDB")
    free, main = _Tree(*trees[:2], *trees[5:7]), _Tree(*trees[8:10], *trees[13:15])
    return _Meta(version, page_size, free, main, last, number)


class _Look:
    """A look through trees, which share no page.

    Args:
        data: The file.
        meta: Its head.
        is_strict: Let nothing pass that the library would not have written.
    """

    def __init__(self, data: BinaryIO, meta: _Meta, is_strict: bool) -> None:
        self.data, self.meta, self.is_strict = data, meta, is_strict
        self.seen: set[int] = set()

    def leaves(self, tree: _Tree, flags: int) -> list[_Node]:
        """The nodes that hold a tree's values, checked with all above them."""
        nodes: list[_Node] = []
        if tree.root != _EMPTY:
            if tree.flags != flags or not 0 < tree.depth <= _DEEPEST:
                raise _DamageError("its head")
            level = [tree.root]
            for height in reversed(range(tree.depth)):
                nodes = [node for number in level for node in self._nodes(number, height)]
                level = [node.page for node in nodes]
            for node in nodes:
                self._check_value(node)
        if self.is_strict and (len(nodes) != tree.entries or tree.flags != flags or (not nodes and tree.depth)):
            raise _DamageError("its head")
        return nodes

    def _nodes(self, number: int, height: int) -> list[_Node]:
        """Check a page and read its nodes."""
        meta, place = self.meta, number * self.meta.page_size
        if number in self.seen or not 1 < number <= meta.last_page:
            raise _DamageError(f"a wrong page number, {number}")
        self.seen.add(number)
        self.data.seek(place)
        page = self.data.read(meta.page_size)
        own, _, kind, table_end, begin = _PAGE.unpack_from(page)
        wanted = _BRANCH if height else _LEAF
        count = (table_end - _PAGE.size) // 2
        # The library ends the process at a branch with fewer than two nodes.
        if own != number or kind & _KINDS != wanted or count < (2 if height else 1):
            raise _DamageError(f"page {number}")
        offsets = struct.unpack_from(f"={count}H", page, _PAGE.size)
        nodes = [_node(page, place, offset, height, meta.page_size) for offset in offsets]
        if self.is_strict and not (table_end <= begin and _fill(nodes, place + begin, place + meta.page_size)):
            raise _DamageError(f"page {number}")
        return nodes

    def _check_value(self, node: _Node) -> None:
        """Whether a value lies inside its page, or its own pages inside the file."""
        size = self.meta.page_size
        if node.flags == _BIG:
            end = node.page * size + _PAGE.size + node.length
            inside = node.page > 1 and end <= (self.meta.last_page + 1) * size
        else:
            inside = not node.flags and node.start + node.length <= (node.place // size + 1) * size
        if not inside:
            raise _DamageError("a value outside its page")


def _node(page: bytes, place: int, offset: int, height: int, size: int) -> _Node:
    """The node at an offset in a page that begins at a place of the file; its key is checked to lie inside."""
    low, high, flags, key_length = _NODE.unpack_from(page, offset)
    end = offset + _NODE.size + key_length
    if end > size:
        raise _DamageError("a key outside its page")
    if height:  # the flags are the highest bits of a page's number
        return _Node(place + offset, place + end, 0, 0, low | high << 16 | flags << 32)
    (big,) = struct.unpack_from("=Q", page, end) if flags == _BIG else (0,)
    return _Node(place + offset, place + end, low | high << 16, flags, big)


def _fill(nodes: list[_Node], begin: int, end: int) -> bool:
    """Whether nodes lie side by side from a place to another, as the library keeps them."""
    lying = sorted(nodes)
    return lying[0].place == begin and lying[-1].end == end and all(a.end == b.place for a, b in pairwise(lying))


def _check_free(look: _Look, records: list[_Node], values: list[_Node]) -> None:
    """Whether the pages that are said to be free are in the file, named once, and not in use."""
    free = sorted(number for record in records for number in _numbers(look, record))
    if any(a == b for a, b in pairwise(free)) or not look.seen.isdisjoint(free):
        raise _DamageError("its free pages")
    if free and not 1 < free[0] <= free[-1] <= look.meta.last_page:
        raise _DamageError("its free pages")
    for node in (*records, *values):
        if node.flags == _BIG:
            found = bisect_left(free, node.page)
            if found < len(free) and free[found] < node.page + _pages(look.meta, node):
                raise _DamageError("its free pages")


def _pages(meta: _Meta, node: _Node) -> int:
    """How many pages of its own a value has."""
    return -(-(_PAGE.size + node.length) // meta.page_size)


def _numbers(look: _Look, record: _Node) -> tuple[int, ...]:
    """The pages that a record of free ones names, the highest first, behind their number."""
    place, data = record.start, look.data
    if record.flags == _BIG:
        place = record.page * look.meta.page_size
        data.seek(place)
        own, _, kind, low, high = _PAGE.unpack(data.read(_PAGE.size))
        if (own, kind & _KINDS, low | high << 16) != (record.page, _VALUE, _pages(look.meta, record)):
            raise _DamageError(f"page {record.page}")
        place += _PAGE.size
    data.seek(place)
    count, *numbers = struct.unpack(f"={record.length // _NUMBER}Q", data.read(record.length // _NUMBER * _NUMBER))
    named = tuple(numbers[:count])
    if (
        record.start - record.place != _NODE.size + _NUMBER
        or count > len(numbers)
        or list(named) != sorted(named)[::-1]
    ):
        raise _DamageError("its free pages")
    return named
