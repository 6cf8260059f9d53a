"""One process at a time works on a run."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from rnan_plugin.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Closing such a file would release its lock; a forked process does not inherit it.
_held: dict[tuple[int, Path], TextIO] = {}


def hold_run(run: Path) -> None:
    """Keep other processes from starting a run until this one ends, in whatever way.

    The lock is a hidden file beside the run, whose folder may be moved aside. Where there are no file locks, as on
    Windows and on some network file systems, nothing is kept.

    Args:
        run: The run's folder, `experiments/NAME`; it need not exist.

    Raises:
        UserError: Another process works on it, or the folder above it can't be written.
    """
    path = run.absolute().with_name(f".{run.name}.lock")
    if fcntl is None or (os.getpid(), path) in _held:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{run}: can't be made ({error.strerror}); check the folder above it") from None
    if _locked(file, run):
        _held[os.getpid(), path] = file
        with suppress(OSError):  # a full disk: the lock holds without its owner's name
            file.truncate(0)
            file.write(f"{os.getpid()} on {socket.gethostname()}\n")
            file.flush()


def _locked(file: TextIO, run: Path) -> bool:
    """Lock a file; False where the file system has no locks."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # systems differ in which
        file.seek(0)
        owner = file.read().strip() or "of unknown number"
        file.close()
        raise UserError(
            f"{run}: is being trained already, by process {owner}; wait for it, stop it, or choose another name"
        ) from None
    except OSError:
        file.close()
        return False
    return True
