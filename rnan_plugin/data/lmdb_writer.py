"""Packing images into an LMDB in the toolbox's format: PNG values, names and shapes in `meta_info.txt`."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import lmdb
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rnan_plugin.data.image_store import META_INFO, decode_image, encode_png, index_by_stem, list_images, read_file
from rnan_plugin.errors import UserError

PNG_LEVEL = 1  # the toolbox's: larger levels cost much time and save little

Entry = tuple[str, tuple[int, ...], bytes]  # key, shape (H, W, C), PNG


def sub_image_starts(length: int, size: int, step: int, min_rest: int = 0) -> list[int]:
    """Starts of sub-images along one axis, as the toolbox's `extract_subimages.py` places them.

    One every `step` pixels while it fits, and one at the end if more than `min_rest` pixels would be left out.
    An axis shorter than `size` is taken whole.
    """
    if length < size:
        return [0]
    starts = list(range(0, length - size + 1, step))
    if length - (starts[-1] + size) > min_rest:
        starts.append(length - size)
    return starts


def sub_images(img: NDArray[np.uint8], name: str, size: int, step: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield (name_s001, crop), … of an image (H, W, C), row by row."""
    number = 0
    for top in sub_image_starts(img.shape[0], size, step):
        for left in sub_image_starts(img.shape[1], size, step):
            number += 1
            yield f"{name}_s{number:03d}", img[top : top + size, left : left + size]


def pack_folder(folder: str | Path, lmdb_path: str | Path, crop_size: int | None = None, step: int = 240) -> int:
    """Pack all images below a folder.

    The LMDB is built beside its place and moved there when complete; nothing is left behind otherwise.

    Args:
        folder: Images of any known ending; each key is the path below the folder, without ending.
        lmdb_path: New folder whose name ends in `.lmdb`.
        crop_size: Side of sub-images in pixels; None packs whole images.
        step: Distance of neighbouring sub-images in pixels.

    Returns:
        Number of images in the LMDB.

    Raises:
        UserError: An unreadable image, a wrong size, or an LMDB already there; names the file and the remedy.
    """
    final = Path(lmdb_path)
    _check_arguments(final, crop_size, step)
    files = index_by_stem(list_images(Path(folder)), Path(folder))
    final.parent.mkdir(parents=True, exist_ok=True)
    partial_path = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        count = _write(partial_path, _encode_all(files, crop_size, step))
        partial_path.rename(final)
    finally:
        shutil.rmtree(partial_path, ignore_errors=True)
    return count


def _check_arguments(final: Path, crop_size: int | None, step: int) -> None:
    if final.suffix != ".lmdb":
        raise UserError(f"{final}: the name must end in .lmdb, by which the toolbox knows it")
    if final.exists():
        raise UserError(f"{final}: exists already; remove it or choose another name")
    if crop_size is not None and (crop_size < 1 or step < 1):
        raise UserError(f"crop size {crop_size} and step {step} must be 1 or more")


def _encode_all(files: dict[str, Path], crop_size: int | None, step: int) -> Iterator[Entry]:
    """Decode, cut and encode on all cores, in order, a few images ahead of the writer."""
    encode = partial(_encode, crop_size=crop_size, step=step)
    ahead = 2 * (os.cpu_count() or 1)
    names = list(files)
    with ThreadPoolExecutor() as pool, tqdm(total=len(names), unit="image", desc="packing") as progress:
        for start in range(0, len(names), ahead):  # bounds what is in memory
            for entries in pool.map(encode, names[start : start + ahead], map(files.get, names[start : start + ahead])):
                progress.update()
                yield from entries


def _encode(name: str, file: Path, *, crop_size: int | None, step: int) -> list[Entry]:
    img = decode_image(read_file(file), str(file))
    crops = [(name, img)] if crop_size is None else sub_images(img, name, crop_size, step)
    return [(key, crop.shape, encode_png(np.ascontiguousarray(crop), PNG_LEVEL)) for key, crop in crops]


def _write(path: Path, entries: Iterable[Entry]) -> int:
    environment = lmdb.open(str(path), map_size=2**26, sync=False)  # synced once, at the end
    lines = []
    try:
        for key, shape, value in entries:
            if len(key.encode()) > environment.max_key_size():
                limit = environment.max_key_size()
                raise UserError(f"{key}: longer than {limit} bytes, the most an LMDB takes; shorten the file's path")
            _put(environment, key.encode(), value)
            lines.append(f"{key}.png ({','.join(map(str, shape))}) {PNG_LEVEL}\n")
        environment.sync(True)
    finally:
        environment.close()
    (path / META_INFO).write_text("".join(lines), encoding="utf-8")
    return len(lines)


def _put(environment: lmdb.Environment, key: bytes, value: bytes) -> None:
    """Store a value, doubling the map when it is full."""
    while True:
        try:
            with environment.begin(write=True) as transaction:
                transaction.put(key, value)
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"] + len(value))
        else:
            return
