"""Re-reading an LMDB of images: whether everything its index names is there, undamaged, and of the shape it says."""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from rnan_plugin.data.image_store import META_INFO, LmdbStore, decode_value
from rnan_plugin.errors import UserError, one_line
from rnan_plugin.images.png_rows import chunks
from rnan_plugin.images.raw_codec import Value, is_intact, is_raw
from rnan_plugin.progress import FileProgress

_CRC = struct.Struct(">I")


def check_listing(root: str) -> int:
    """Compare an LMDB's number of images with that of its index; a look at its ends that takes no time.

    Returns:
        Number of images.

    Raises:
        UserError: They differ, an end of the index is not there, or there is no such LMDB, or it is damaged.
    """
    store = LmdbStore(root)
    missing = next((name for name in (store.names[0], store.names[-1]) if not store.holds(name)), None)
    if missing is not None:
        raise UserError(f"{root}: {META_INFO} lists {one_line(missing)}, which it does not hold; pack the LMDB again")
    if (stored := store.stored()) != len(store.names):
        raise UserError(f"{root}: {META_INFO} lists {len(store.names)} images, but it holds {stored}; pack it again")
    return stored


def check_lmdb(root: str) -> tuple[int, list[str]]:
    """Decode every value and compare names, shapes and checksums, on all cores, with progress.

    Checksums are those that the values hold: of a PNG file's chunks, or of a raw image's pixels.

    Returns:
        Number of images named in `meta_info.txt`, and one line for each thing that is wrong.

    Raises:
        UserError: No such LMDB, or its pages or `meta_info.txt` are damaged, so that there is nothing to compare.
    """
    store = LmdbStore(root)
    sizes = store.sizes()
    problems = list(_wrong_keys(store, set(sizes)))
    running: deque[Future[str | None]] = deque()
    with ThreadPoolExecutor() as pool, FileProgress(len(sizes), "verifying") as progress:
        for name, size in sizes.items():
            running.append(pool.submit(_wrong_value, store, name, size))
            if len(running) > 4 * (os.cpu_count() or 1):
                problems += filter(None, [running.popleft().result()])
                progress.step()
        for future in running:
            problems += filter(None, [future.result()])
            progress.step()
    return len(sizes), problems


def _wrong_keys(store: LmdbStore, named: set[str]) -> Iterator[str]:
    with store.begin() as transaction:
        stored = {bytes(key).decode(errors="replace") for key in transaction.cursor().iternext(values=False)}
    yield from (f"{one_line(name)}: named in {META_INFO}, not in the LMDB" for name in sorted(named - stored))
    yield from (f"{one_line(name)}: in the LMDB, not named in {META_INFO}" for name in sorted(stored - named))


def _wrong_value(store: LmdbStore, name: str, size: tuple[int, int]) -> str | None:
    try:
        with store.begin() as transaction:
            value = transaction.get(name.encode())
            return (
                None if value is None else _wrong_image(value, one_line(name), size)
            )  # `_wrong_keys` says if it is missing
    except UserError as error:
        return str(error)


def _wrong_image(value: Value, name: str, size: tuple[int, int]) -> str | None:
    height, width = decode_value(value, name).shape[:2]
    if (height, width) != size:
        return f"{name}: {height}×{width} pixels, {META_INFO} says {size[0]}×{size[1]}"
    intact = is_intact(value) if is_raw(value) else _png_is_intact(value)
    return None if intact else f"{name}: its checksum is wrong"


def _png_is_intact(value: Value) -> bool:
    """Whether each chunk of a PNG file has the checksum written behind it; decoders pass over some."""
    try:
        # The checksum is that of the chunk's kind, 4 bytes, and its content.
        return all(
            zlib.crc32(value[start - 4 : end]) == _CRC.unpack_from(value, end)[0] for _, start, end in chunks(value)
        )
    except struct.error:  # cut short
        return False
