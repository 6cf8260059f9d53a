"""Which image files are below a folder, and what they are called."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rnan_plugin.errors import UserError
from rnan_plugin.files import readable
from rnan_plugin.images.codec import IMAGE_ENDINGS
from rnan_plugin.targets import absence, is_file, is_folder, why_no_folder


def list_images(folder: Path) -> list[Path]:
    """Image files below a folder and the folders linked into it, sorted; what is hidden, and no regular file, is not.

    Raises:
        UserError: No such folder, no image in it, or a folder below it can't be read.
    """
    if reason := why_no_folder(folder):
        raise UserError(f"{folder}: {reason}; check the path")
    files = sorted(path for path in files_below(folder) if path.suffix.lower() in IMAGE_ENDINGS)
    if not files:
        raise no_images_in(folder)
    return files


def no_images_in(*places: str | Path) -> UserError:
    """The error of folders or archives that hold no images."""
    named = ", ".join(map(str, places))
    if any(is_file(Path(place, "data.mdb")) for place in places):
        return UserError(f"{named}: an LMDB, which training and scoring read; name a folder of images here")
    return UserError(f"{named}: no images in it; known endings are {' '.join(sorted(IMAGE_ENDINGS))}")


def files_below(root: Path, unreadable: Callable[[str], object] | None = None) -> Iterator[Path]:
    """Files below a folder and the folders linked into it; what is hidden, and no regular file, is left out.

    Each folder is entered once, however many links lead to it, and by its own name if it has one below `root`.

    Args:
        root: The folder.
        unreadable: Gets a line for each folder that can't be read; without it that is an error.

    Raises:
        UserError: A folder below it can't be read.
    """
    folders, links, entered = [root], list[Path](), set[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        for path in _visible(folder, unreadable):
            if is_folder(path):
                (links if path.is_symlink() else folders).append(path)
            elif is_file(path) or absence(path) is not None:
                yield path  # a link that leads nowhere, or to what is closed: reading it says so


def _visible(folder: Path, unreadable: Callable[[str], object] | None) -> list[Path]:
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        if not os.access(folder, os.X_OK):  # its names may be read, and nothing of what they stand for
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return files
    except OSError as error:
        told = f"{readable(folder)}: can't be read ({error.strerror}); check the folder's permissions"
        if unreadable is None:
            raise UserError(told) from None
        unreadable(told)
        return []


def index_by_stem(files: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Map each file's path below `folder`, without its ending and `readable`, to the file.

    Raises:
        UserError: Two files differ in their ending alone.
    """
    index: dict[str, Path] = {}
    for file in files:
        name = readable(file.relative_to(folder).with_suffix("").as_posix())
        if name in index:
            raise UserError(f"{file} and {index[name]}: two images of one name; rename one")
        index[name] = file
    return index
