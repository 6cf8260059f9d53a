"""Reading 8-bit images by name from a folder or from an LMDB in the toolbox's format, its values PNG or raw."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import lmdb
import numpy as np
from numpy.typing import NDArray

from rnan_plugin.data.image_files import index_by_stem, list_images
from rnan_plugin.data.lmdb_pages import check_pages
from rnan_plugin.errors import UserError, collect, one_line, shown
from rnan_plugin.files import readable
from rnan_plugin.images.codec import read_file
from rnan_plugin.images.degradations import Box
from rnan_plugin.images.eight_bit import decode_image, image_size
from rnan_plugin.images.png_rows import decode_rows, read_header
from rnan_plugin.images.raw_codec import Value, decode_raw, is_raw
from rnan_plugin.targets import ABSENT, absence, is_folder, why_no_file, why_no_folder

META_INFO = "meta_info.txt"

_META_LINE = re.compile(r"(?P<key>.+)\.png \((?P<h>\d{1,9}),(?P<w>\d{1,9}),(?P<c>\d{1,9})\) \d+\r?")

# One environment per real path: lmdb refuses to open a file twice in one process. Beside it the process that opened
# it, since an environment must not be used across a fork.
_environments: dict[str, tuple[int, lmdb.Environment]] = {}


class ImageStore(Protocol):
    """Named images. Picklable, and safe to use in worker processes however they are started."""

    names: Sequence[str]

    def read(self, name: str, box: Box | None = None) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB or (H, W, 1) grey, 0..255, or a box of it, which may cost less; the caller's own."""

    def path(self, name: str) -> str:
        """Where the image is, for messages and results."""

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width by name, without decoding the images."""


def decode_value(value: Value, source: str) -> NDArray[np.uint8]:
    """Decode an LMDB's value of either codec: PNG as by `decode_image`, raw as by `decode_raw` (a view)."""
    return decode_raw(value, source) if is_raw(value) else decode_image(bytes(value), source)


def decode_box(value: Value, box: Box, source: str) -> NDArray[np.uint8]:
    """Decode a box of an LMDB's value, at the cost of the box (raw) or of the rows above its lower edge (plain PNG).

    Returns:
        (bottom - top, right - left, C), the caller's own.

    Raises:
        UserError: As `decode_value`, or the image is smaller than the box.
    """
    top, left, bottom, right = box
    rows = None if is_raw(value) else decode_rows(value, top, bottom)
    if rows is None:
        rows = decode_value(value, source)[top:bottom]
    crop = rows[:, left:right].copy()
    if crop.shape[:2] != (bottom - top, right - left):
        raise UserError(f"{source}: smaller than {META_INFO} says; pack the LMDB again")
    return crop


def shape_of(value: Value, source: str) -> tuple[int, ...]:
    """Shape (H, W, C) of an LMDB's value, by its header."""
    header = None if is_raw(value) else read_header(value)
    return header.shape if header is not None else decode_value(value, source).shape


class FolderStore:
    """Image files below a folder, named by relative path without ending; see `index_by_stem`.

    Raises:
        UserError: No such folder, no image in it, or two images of one name.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._files = index_by_stem(list_images(Path(root)), Path(root))
        self.names: Sequence[str] = list(self._files)

    def read(self, name: str, box: Box | None = None) -> NDArray[np.uint8]:
        """See `ImageStore`."""
        img = decode_image(read_file(self._files[name]), self.path(name))
        return img if box is None else img[box[0] : box[2], box[1] : box[3]]

    def path(self, name: str) -> str:
        """See `ImageStore`."""
        return readable(str(self._files[name]))

    def file(self, name: str) -> Path:
        """The file of an image."""
        return self._files[name]

    def sizes(self) -> dict[str, tuple[int, int]]:
        """See `ImageStore`; all files that are no such images are told at once."""
        found: dict[str, tuple[int, int]] = {}

        def look(name: str) -> None:
            found[name] = image_size(self._files[name])

        collect(partial(look, name) for name in self._files)
        return found


class LmdbStore:
    """An LMDB in the toolbox's format: values, PNG or raw, and their names and shapes in `meta_info.txt`.

    Raises:
        UserError: No such LMDB, or it is incomplete, cut short or damaged.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        _check_files(Path(root))
        self._sizes = _read_meta_info(Path(root, META_INFO))
        self.names: Sequence[str] = list(self._sizes)
        check_pages(Path(root, "data.mdb"))

    @contextmanager
    def begin(self) -> Iterator[lmdb.Transaction]:
        """A reading transaction; its keys and values are views of the memory map.

        Raises:
            UserError: The LMDB is damaged, as far as the library notices.
        """
        try:
            with _environment(self.root).begin(buffers=True) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise UserError(f"{self.root}: damaged ({error}); pack the LMDB again") from None

    def holds(self, name: str) -> bool:
        """Whether there is a value under a name."""
        with self.begin() as transaction:
            return transaction.get(name.encode()) is not None

    def stored(self) -> int:
        """Number of values in the LMDB, named in `meta_info.txt` or not."""
        with self.begin():
            return int(_environment(self.root).stat()["entries"])

    def read(self, name: str, box: Box | None = None) -> NDArray[np.uint8]:
        """See `ImageStore`."""
        source = one_line(self.path(name))
        with self.begin() as transaction:
            value = transaction.get(name.encode())
            if value is None:
                raise UserError(f"{self.root}: key {shown(name)} of {META_INFO} is not in the LMDB; pack it again")
            if box is not None:
                return decode_box(value, box, source)
            img = decode_value(value, source)
            return img if img.flags.writeable else img.copy()  # raw pixels belong to the memory map

    def path(self, name: str) -> str:
        """See `ImageStore`."""
        return f"{self.root}/{name}.png"

    def sizes(self) -> dict[str, tuple[int, int]]:
        """See `ImageStore`."""
        return self._sizes


def _check_files(root: Path) -> None:
    lacking = next((file for file in ("data.mdb", META_INFO) if absence(root / file) == ABSENT), None)
    if absence(root) == ABSENT or (is_folder(root) and lacking):
        state = f"incomplete, {lacking} is missing" if is_folder(root) else "no such LMDB"
        raise UserError(f"{root}: {state}; {_remedy(root)}")
    if reason := why_no_folder(root):
        raise UserError(f"{root}: {reason}; check the path")
    for file in ("data.mdb", META_INFO):
        if reason := why_no_file(root / file):
            raise UserError(f"{root / file}: {reason}; check the file and its permissions")


def _remedy(root: Path) -> str:
    """What to do where there is no LMDB."""
    ending = root.with_name(f"{root.name}.lmdb")
    if root.suffix != ".lmdb" and is_folder(ending):
        return f"did you mean {ending}?"
    if is_folder(root) and absence(root / "data.mdb") == ABSENT and root.suffix != ".lmdb":
        return f"an LMDB of its images is made with: rnan prepare {root} {ending}"
    return f"pack it with: rnan prepare FOLDER {root if root.suffix == '.lmdb' else ending}"


def _read_meta_info(path: Path) -> dict[str, tuple[int, int]]:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check the file and its permissions") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: damaged (not UTF-8 at byte {error.start}); pack the LMDB again") from None
    if not text:
        raise UserError(f"{path}: no images listed; pack the LMDB again")
    sizes = {}
    # By "\n" alone: names may hold what Python takes for an end of a line, too.
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        match = _META_LINE.fullmatch(line)
        if match is None:
            raise UserError(f"{path}:{number}: {shown(line)} is not 'NAME.png (H,W,C) LEVEL'; pack the LMDB again")
        sizes[match["key"]] = (int(match["h"]), int(match["w"]))
    return sizes


def close(root: str | Path) -> None:
    """Close this process's environment of an LMDB, before its files are moved or changed."""
    _, environment = _environments.pop(os.path.realpath(root), (0, None))
    if environment is not None:
        environment.close()


def _environment(root: str) -> lmdb.Environment:
    """Open environment of this process for an LMDB, opened when first needed."""
    real = os.path.realpath(root)
    pid, environment = _environments.get(real, (0, None))
    if pid == os.getpid() and environment is not None:
        return environment
    if environment is not None:
        environment.close()  # this process's copy of the one inherited by a fork; the parent's stays open
    try:
        environment = lmdb.open(real, readonly=True, lock=False, readahead=False, subdir=True)
    except lmdb.Error as error:
        raise UserError(f"{root}: can't be opened ({error}); pack it again if it is damaged") from None
    _environments[real] = (os.getpid(), environment)
    return environment


def is_lmdb(root: str) -> bool:
    """Whether a name is an LMDB's, as the toolbox names them: `NAME.lmdb`."""
    return Path(root).suffix == ".lmdb"


def open_store(root: str, *, is_lmdb: bool) -> ImageStore:
    """Open a folder or an LMDB of images; see `FolderStore` and `LmdbStore` for errors."""
    return LmdbStore(root) if is_lmdb else FolderStore(root)


class JoinedStore:
    """Several folders and LMDBs as one: names begin with the number of their root, so that equal ones do not clash.

    Args:
        roots: Folders, and LMDBs called `NAME.lmdb`.

    Raises:
        UserError: See `FolderStore` and `LmdbStore`.
    """

    def __init__(self, roots: Sequence[str]) -> None:
        self._stores = {str(number): open_store(root, is_lmdb=is_lmdb(root)) for number, root in enumerate(roots)}
        self.names: Sequence[str] = [
            f"{number}/{name}" for number, store in self._stores.items() for name in store.names
        ]

    def _find(self, name: str) -> tuple[ImageStore, str]:
        number, _, own = name.partition("/")
        return self._stores[number], own

    def read(self, name: str, box: Box | None = None) -> NDArray[np.uint8]:
        """See `ImageStore`."""
        store, own = self._find(name)
        return store.read(own, box)

    def path(self, name: str) -> str:
        """See `ImageStore`."""
        store, own = self._find(name)
        return store.path(own)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """See `ImageStore`."""
        return {
            f"{number}/{name}": size for number, store in self._stores.items() for name, size in store.sizes().items()
        }
