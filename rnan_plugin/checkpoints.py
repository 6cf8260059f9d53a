"""Checkpoints that are whole or not there: written aside and renamed, verified when read, the old ones removed."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from rnan_plugin.errors import UserError
from rnan_plugin.files import atomic_path

_STATE_KEYS = {"epoch", "iter", "optimizers", "schedulers"}


def save_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, complete and on disk under its name, or not at all.

    Raises:
        UserError: It can't be written.
    """
    try:
        with atomic_path(path) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as the latter
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: can't be written ({reason}); free disk space or check the folder") from None


def is_intact(path: Path) -> bool:
    """Whether a file is one that torch wrote, with every checksum right (torch itself does not check them)."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error):
        return False


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; pickled code in it does not run.

    Raises:
        UserError: Missing, damaged, or not a checkpoint.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; check the path")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a readable checkpoint ({reason}); take another") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a checkpoint, it holds a {type(content).__name__}; take another")
    return content


def load_state(path: Path, models: Path) -> dict[str, Any]:
    """Read a training state, and verify it and the weights that belong to it.

    Args:
        path: `training_states/ITER.state`.
        models: Folder of the run's weights.

    Raises:
        UserError: Missing, damaged, or foreign.
    """
    state = load_checkpoint(path)
    if not state.keys() >= _STATE_KEYS:
        raise UserError(f"{path}: not a readable training state, it holds no {', '.join(sorted(_STATE_KEYS))}")
    weights = models / f"net_g_{state['iter']}.pth"
    for file in (path, weights):
        if not is_intact(file):
            raise UserError(f"{file}: {'damaged' if file.exists() else 'missing'}; resume from another state")
    return state


def iterations(files: Iterable[Path]) -> dict[int, Path]:
    """Files by the iteration that their names end in (`5000.state`, `net_g_5000.pth`), the last first."""
    found = {int(file.stem.rpartition("_")[2]): file for file in files if file.stem.rpartition("_")[2].isdigit()}
    return dict(sorted(found.items(), reverse=True))


def newest_state(states: Path, models: Path) -> tuple[Path, dict[str, Any], list[str]] | None:
    """Find the last training state that is whole.

    Returns:
        Its path, its content, and why later ones were passed over; None where there is no state at all.

    Raises:
        UserError: There are states, but not one is whole.
    """
    problems: list[str] = []
    for path in iterations(states.glob("*.state")).values():
        try:
            return path, load_state(path, models), problems
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError(f"{states}: no training state is whole; the last: {problems[0]}")
    return None


def remove_old(states: Path, models: Path, keep: int) -> None:
    """Remove all but the last `keep` numbered checkpoints, states before their weights."""
    for files in (states.glob("*.state"), models.glob("net_g_*.pth")):
        for path in list(iterations(files).values())[keep:]:
            path.unlink(missing_ok=True)
