"""Writing files so that nothing half-written is ever left under the final name."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rnan_plugin.errors import UserError, shown

_LONGEST_NAME = 200  # file systems allow 255; endings and dates are added to names


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it is flushed to disk and renamed on success, removed on failure.

    Raises:
        UserError: The folder does not exist or can't be written.
    """
    final = Path(path)
    if not final.parent.is_dir():
        raise UserError(f"{final}: the folder {final.parent} does not exist; create it first")
    if not os.access(final.parent, os.W_OK):
        raise UserError(f"{final}: no permission to write into {final.parent}")
    # The ending is kept: image writers choose the format by it.
    temporary = final.with_name(f".{final.stem}.{uuid.uuid4().hex[:8]}.partial{final.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing by `atomic_path`."""
    for path in folder.glob(".*.partial*"):
        path.unlink(missing_ok=True)


def one_component(name: object, where: str) -> str:
    """A name that a folder is to be called by, checked to be one component of a path.

    Raises:
        UserError: Empty, with a separator or NUL, "." or "..", too long, or not a text.
    """
    if not isinstance(name, str):
        raise UserError(f"{where}: {shown(name)} is not a text; folders are called by it")
    forbidden = next((part for part in ("/", "\\", "\0", "\n", "\r") if part in name), None)
    if forbidden is not None or name.strip() in ("", ".", "..") or len(os.fsencode(name)) > _LONGEST_NAME:
        raise UserError(
            f"{where}: {shown(name)} can't be the name of a folder; use letters, digits, - and _, "
            f"at most {_LONGEST_NAME} bytes"
        )
    return name
