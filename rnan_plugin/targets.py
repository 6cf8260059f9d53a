"""Where paths lead, and whether what a command makes can be written there, told before the work starts."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from rnan_plugin.errors import UserError

ABSENT = "not found"


def real(path: str | Path) -> Path:
    """Where a path leads; of a link that leads to itself the link, for which `Path.resolve` raises."""
    return Path(os.path.realpath(path))


def expanded(path: str | Path) -> str:
    """A path with `~` made the folder that it stands for; where no such user is known it stays as it is."""
    return os.path.expanduser(path)  # noqa: PTH111 - that of Path raises where no such user is known


def with_a_name(folder: str | Path) -> str:
    """The path of a folder, of one such as `.` so that it ends in the folder's own name."""
    return str(folder if Path(folder).name.strip(".") else real(folder))


def absence(path: str | Path) -> str | None:
    """Why there is nothing under a path: `ABSENT`, or what the system says; None if there is something."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except (OSError, ValueError) as error:
        return f"can't be read ({getattr(error, 'strerror', error)})"
    return None


def is_folder(path: Path) -> bool:
    """Whether a path leads to a folder; not if it can't be looked at, where `Path.is_dir` raises."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: Path) -> bool:
    """Whether a path leads to a regular file; not if it can't be looked at, where `Path.is_file` raises."""
    return stat.S_ISREG(_mode(path))


def why_no_folder(path: str | Path, called: str = "folder") -> str | None:
    """Why nothing can be read from a folder, in words that follow its name; None if it can."""
    return _why_not(Path(path), called, needed="folder", rights=os.R_OK | os.X_OK)


def why_no_file(path: str | Path, called: str = "file") -> str | None:
    """Why a file can't be read, in words that follow its name, such as "is a folder, not a file"; None if it can."""
    return _why_not(Path(path), called, needed="file", rights=os.R_OK)


def _why_not(path: Path, called: str, needed: str, rights: int) -> str | None:
    reason = absence(path)
    if reason is not None:
        return f"no such {called}" if reason == ABSENT else reason
    if _kind(path) != f"a {needed}":
        return f"is {_kind(path)}, not a {needed}"
    return None if os.access(path, rights) else f"can't be read ({os.strerror(errno.EACCES)})"


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def check_folder(folder: Path, target: Path | None = None) -> Path:
    """The folder itself, if it is there or can be made, and can be written to.

    Args:
        folder: Where something is to be written.
        target: What that is, to be named if it can't; the folder itself if None.

    Raises:
        UserError: It can't.
    """
    there, named = _nearest(folder), target or folder
    if not is_folder(there):
        raise UserError(f"{named}: {there} is {_kind(there)}, not a folder; name another target")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{named}: no permission to write into {there}; name another target")
    check_names(folder)
    return folder


def check_names(path: Path) -> None:
    """Whether the file system takes those names of a path that are not there yet.

    Raises:
        UserError: One is too long.
    """
    there = _nearest(path)
    for name in path.absolute().relative_to(there).parts:
        try:
            (there / name).lstat()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                told = f"a name of {len(os.fsencode(name))} bytes, more than fit here; choose a shorter one"
                raise UserError(f"{there / name}: {told}") from None


def _nearest(path: Path) -> Path:
    """The path itself or the nearest folder above it that is there."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if os.path.lexists(place))


def check_parent(file: Path) -> None:
    """Whether the folder that a file is to be written into is there, and can be written to.

    Raises:
        UserError: It is not, or can't.
    """
    if absence(file.parent) == ABSENT:
        raise UserError(f"{file}: the folder {file.parent} does not exist; create it first")
    check_folder(file.parent, file)


def check_file(file: Path, inputs: Iterable[str | Path] = ()) -> None:
    """Whether a file can be written, whatever its name holds now.

    Raises:
        UserError: Its folder can't be written, its name is too long, or holds an input or what is no file.
    """
    check_folder(file.parent, file)
    check_names(file)
    if os.path.lexists(file) and not is_file(file):
        raise UserError(f"{file}: is {_kind(file)}, which no file is to replace; name another target")
    if real(file) in map(real, inputs):
        raise UserError(f"{file}: the result would replace its input; name another target")


def check_new_file(file: Path, inputs: Iterable[str | Path] = (), *, overwrite: bool) -> None:
    """As `check_file`, of a file that is not there yet, or may be replaced.

    Raises:
        UserError: It is there, and may not.
    """
    check_file(file, inputs)
    if is_file(file) and not overwrite:
        raise UserError(f"{file}: exists already; name another file, or add --overwrite")


def _kind(path: Path) -> str:
    """What stands there in place of what is needed."""
    if is_folder(path):
        return "a folder"
    if is_file(path):
        return "a file"
    return "a pipe or device" if absence(path) is None else "a link that leads nowhere"
