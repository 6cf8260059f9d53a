"""Writing files so that nothing half-written is ever left under the final name; what files are called, and hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rnan_plugin.errors import UserError, shown
from rnan_plugin.targets import check_parent

_MOST_BYTES = 255  # of a name, in all usual file systems
_LONGEST_NAME = 200  # of a run: endings and dates are added to it


def readable(name: str | Path) -> str:
    r"""A file's name as text that can be written anywhere: bytes that are no UTF-8 become \xe9 and the like."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def shortened(stem: str, ending: str) -> str:
    """A file's name of a stem and an ending, which is at least as long as its dot; cut where it would be too long.

    A cut stem ends in a checksum of the whole, so that two long names that begin alike stay apart.
    """
    room = _MOST_BYTES - len(os.fsencode(ending))
    code = os.fsencode(stem)
    if len(code) <= room:
        return stem + ending
    mark = f"~{zlib.crc32(code):08x}"
    return code[: room - len(mark)].decode("utf-8", "ignore") + mark + ending


def sha256_of(file: Path) -> str:
    """The hash of a file's content, 64 hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it is flushed to disk and renamed on success, removed on failure.

    Raises:
        UserError: The folder does not exist or can't be written.
    """
    final = Path(path)
    check_parent(final)
    temporary = _temporary(final, final.suffix)  # image writers choose the format by the ending
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`, which takes its name on success, and is removed on failure.

    The folder above is made; what killed processes left in it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        try:
            temporary.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise UserError(f"{path}: has been made meanwhile; remove it or choose another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yield a new folder whose files take their places in `folder`, which is made, on success; else they are removed.

    Raises:
        UserError: The folder can't be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        temporary = _temporary(folder / "new")
        temporary.mkdir()
    try:
        with _told_without(temporary, folder):
            yield temporary
        with writing(folder):
            for file in sorted(path for path in temporary.rglob("*") if path.is_file()):
                target = folder / file.relative_to(temporary)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):  # made for nothing
            folder.rmdir()


@contextmanager
def _told_without(temporary: Path, folder: Path) -> Iterator[None]:
    """Let errors name files by the place that they are written for."""
    try:
        yield
    except UserError as error:
        raise UserError(*(str(line).replace(str(temporary), str(folder)) for line in error.args)) from None


def _temporary(final: Path, ending: str = "") -> Path:
    """A name beside the final one, which `remove_leftovers` knows; it fits however long that is."""
    stem = final.name.removesuffix(ending)
    return final.with_name(shortened(f".{stem}", f".{uuid.uuid4().hex[:8]}-{os.getpid()}.partial{ending}"))


@contextmanager
def writing(target: str | Path) -> Iterator[None]:
    """Tell in one line that a target can't be written.

    Raises:
        UserError: The disk is full, and the like.
    """
    try:
        yield
    except OSError as error:
        raise UserError(cannot_write(target, error)) from None


def cannot_write(target: str | Path, error: OSError) -> str:
    """What is told of a target that can't be written."""
    return f"{target}: can't be written ({error.strerror or error}); make room, or name another target"


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write files, whose folders are made: all of them, or none where one can't be written.

    Raises:
        UserError: One can't.
    """
    with ExitStack() as stack:
        for file, text in texts.items():
            stack.enter_context(writing(file))
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(atomic_path(file)).write_bytes(text.encode("utf-8", "backslashreplace"))


def write_whole(pieces: Iterable[bytes], file: Path) -> None:
    """Write a file whose folder is made; it appears whole or not at all.

    Raises:
        UserError: Its folder can't be written.
        OSError: The disk is full, and the like.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary, temporary.open("wb") as out:
        out.writelines(pieces)


_PARTIAL = re.compile(r"\..*\.[0-9a-f]{8}(?:-(?P<process>\d+))?\.partial(\.[^.]*)?", re.DOTALL)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing by `atomic_path` or `atomic_folder`; what others write now stays."""
    for path in folder.glob(".*.partial*"):
        match = _PARTIAL.fullmatch(path.name)
        if not match or (match["process"] and _is_running(int(match["process"]))):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name == "nt":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8: half of a pair of UTF-16 can't."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def one_component(name: object, where: str) -> str:
    """A name that a folder is to be called by, checked to be one component of a path.

    Raises:
        UserError: Empty, with a separator or NUL, "." or "..", too long, or not a text.
    """
    if not isinstance(name, str):
        raise UserError(f"{where}: {shown(name)} is not a text; folders are called by it")
    forbidden = any(part in name for part in ("/", "\\", "\0", "\n", "\r")) or not _is_text(name)
    if forbidden or name.strip() in ("", ".", "..") or len(os.fsencode(name)) > _LONGEST_NAME:
        raise UserError(
            f"{where}: {shown(name)} can't be the name of a folder; use letters, digits, - and _, "
            f"at most {_LONGEST_NAME} bytes"
        )
    return name
