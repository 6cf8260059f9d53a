"""The hidden folder that an LMDB grows in, beside its place, until it is complete, verified, and takes its name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import lmdb

from rnan_plugin.data.image_store import close
from rnan_plugin.data.lmdb_check import check_lmdb
from rnan_plugin.data.lmdb_pages import check_pages
from rnan_plugin.errors import UserError
from rnan_plugin.files import atomic_path, shortened
from rnan_plugin.targets import check_folder, check_names

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: two runs at once are not noticed there
    fcntl = None

PACK_INFO = "pack_info.json"
# What the lmdb library says of damage that looking through its pages did not find.
DAMAGES = (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.PanicError, lmdb.VersionMismatchError)
DATA = "data.mdb"


def check_target(lmdb_path: str | Path) -> Path:
    """The path of an LMDB to be made.

    Raises:
        UserError: It does not end in `.lmdb`, is there already, or can't be written.
    """
    final = Path(lmdb_path)
    if final.suffix != ".lmdb":
        raise UserError(f"{final}: the name must end in .lmdb, by which BasicSR knows it")
    if os.path.lexists(final):
        raise UserError(f"{final}: exists already; remove it or choose another name")
    check_folder(final.parent, final)
    check_names(final)
    return final


@contextmanager
def work_folder(final: Path, job: dict[str, object]) -> Iterator[Path]:
    """Yield the folder, with what an earlier call of the same job left in it; locked meanwhile.

    Args:
        final: The LMDB's place.
        job: What has to be the same for a later call to go on with the work.

    Raises:
        UserError: Another process is packing the same LMDB.
    """
    work = final.with_name(shortened(f".{final.name}", ".partial"))
    work.mkdir(exist_ok=True)
    with _locked(work, final):
        try:
            if not _is_begun(work, job):
                _begin(work, job)
            yield work
        except DAMAGES:
            (work / DATA).unlink(missing_ok=True)
            raise
        finally:
            if work.exists() and not (work / DATA).exists():
                shutil.rmtree(work)


@contextmanager
def _locked(work: Path, final: Path) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    handle = os.open(work, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{final}: another process is packing it; wait for that one") from None
        yield
    finally:
        os.close(handle)


def _is_begun(work: Path, job: dict[str, object]) -> bool:
    """Whether the folder holds a sound beginning of the same job."""
    try:
        if json.loads((work / PACK_INFO).read_text(encoding="utf-8")) != job:
            return False
        if (work / DATA).exists():
            check_pages(work / DATA, for_writing=True)
    except (OSError, ValueError, RecursionError):  # missing or damaged; a UserError is a ValueError
        return False
    return True


def _begin(work: Path, job: dict[str, object]) -> None:
    for path in work.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    with atomic_path(work / PACK_INFO) as temporary:
        temporary.write_text(json.dumps(job) + "\n", encoding="utf-8")


def verify_and_name(work: Path, final: Path) -> None:
    """Read everything back, and give the LMDB its name; all of it is on disk.

    Raises:
        UserError: Something is not what was packed; nothing of it is kept.
    """
    try:
        _, problems = check_lmdb(str(work))
    except UserError as error:
        problems = [str(error)]
    finally:
        close(work)
    if problems:
        (work / DATA).unlink()
        told = f"read back, {len(problems)} damaged, the first: {problems[0]}"
        raise UserError(f"{final}: not made ({told}); check the disk and start the same command again")
    work.rename(final)
    with suppress(PermissionError):  # Windows opens no folders
        handle = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
