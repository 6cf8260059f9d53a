"""What is in the way of a training is moved aside: an earlier run of its name, or what comes after its own state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rnan_plugin.errors import UserError
from rnan_plugin.options.schema import flat
from rnan_plugin.toolbox.api import get_root_logger, get_time_str
from rnan_plugin.training.best import best_file, note_in
from rnan_plugin.training.states import is_unsaved, later_than, states_of


def check_what_is_moved_aside(opt: Mapping[str, Any], *, resumes: bool, may_archive: bool) -> None:
    """Whether the folder of a run's name may be moved aside, where its start does that.

    Args:
        opt: As the launcher gives it.
        resumes: Go on from the last training state, if there is one.
        may_archive: Move a run aside that could go on.

    Raises:
        UserError: A training could go on, or the new run needs a file that is moved aside.
    """
    if opt["is_train"]:
        run = Path(opt["path"]["experiments_root"])
        states = states_of(Path(opt["path"]["training_states"]))
        if opt["path"].get("resume_state") or (resumes and (states or is_unsaved(run))):
            return
        if states and not resumes and not may_archive:
            raise UserError(
                f"{run}: holds a run that can go on; resume it with --auto_resume, or add --archive to move it aside "
                "and start anew"
            )
    else:
        run = Path(opt["path"]["results_root"])
    for key, path in _inputs(opt):
        if Path(path).resolve().is_relative_to(run.resolve()):
            raise UserError(
                f"{key}: {path} lies in {run}, which is moved aside for a new run of this name; give the run another "
                "name, or copy this elsewhere"
            )


def _inputs(opt: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys of an option file, and what is read for them."""
    for key, value in flat({"datasets": opt["datasets"], "path": opt["path"]}):
        if any(part in key.rpartition(".")[2] for part in ("dataroot", "pretrain_network")):
            yield from ((key, one) for one in (value if isinstance(value, list) else [value]) if isinstance(one, str))


def set_later_aside(opt: Mapping[str, Any], iteration: int) -> None:
    """Move checkpoints of later iterations into a folder of their own, where a training goes back to an earlier one.

    By their numbers they would be taken for the last of what is trained from here on.

    Args:
        opt: As the launcher gives it.
        iteration: The last that counts.

    Raises:
        UserError: They can't be moved.
    """
    run, models = Path(opt["path"]["experiments_root"]), Path(opt["path"]["models"])
    files = later_than(Path(opt["path"]["training_states"]), models, iteration)
    best = note_in(best_file(models))  # one without a note is of whatever was trained last
    if best is not None and best.get("iter", iteration + bool(files)) > iteration:
        files.append(best_file(models))
    if not files:
        return
    folder = run / f"after_{iteration}_archived_{get_time_str()}"
    try:
        for file in files:
            (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
            file.rename(folder / file.parent.name / file.name)
    except OSError as error:
        raise UserError(
            f"{folder}: checkpoints after iteration {iteration} can't be moved there ({error.strerror}); check the "
            "folder and the disk"
        ) from None
    get_root_logger().info(f"Going back to iteration {iteration}: {len(files)} later checkpoint(s) are now in {folder}")
