"""Training states: where a run's are, which of them are whole, and the last; the old ones are removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rnan_plugin.checkpoints import USUAL_KEYS, is_intact, read, weights_in
from rnan_plugin.errors import UserError, shown
from rnan_plugin.targets import ABSENT, absence, is_folder, why_no_folder

_STATE_KEYS = {"epoch", "iter", "optimizers", "schedulers"}
_UNSAVED = ".unsaved"  # in a run's folder, until its first state is written


def load_state(path: Path, models: Path) -> dict[str, Any]:
    """Read a training state, and verify it and the weights that belong to it.

    Args:
        path: `training_states/ITER.state`.
        models: Folder of the run's weights.

    Raises:
        UserError: Missing, damaged, or foreign.
    """
    state = read(path)
    if not state.keys() >= _STATE_KEYS:
        raise UserError(f"{path}: not a readable training state, it holds no {', '.join(sorted(_STATE_KEYS))}")
    wrong = next((key for key, legal in _STATE_PARTS.items() if key in state and not legal(state[key])), None)
    if wrong is not None:
        raise UserError(f"{path}: not a readable training state, its '{wrong}' is {shown(state[wrong])}")
    named = next(iter(_numbered([path])), state["iter"])
    if named != state["iter"]:
        raise UserError(f"{path}: is the state of iteration {state['iter']}; give it its name, {state['iter']}.state")
    weights = models / f"net_g_{state['iter']}.pth"
    for file in (path, weights):
        if not is_intact(file):
            raise UserError(f"{file}: {'damaged' if file.exists() else 'missing'}; resume from another state")
    checkpoint = read(weights)
    for key in [key for key in USUAL_KEYS if key in checkpoint] or ["params"]:
        weights_in(checkpoint, weights, key)
    return state


_LARGEST = 2**31  # of iterations
_DEEPEST = 20  # of an option file's sections


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < _LARGEST


def _is_list_of_states(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value is one that an option file can hold."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return depth < _DEEPEST and all(_is_plain(item, depth + 1) for item in value)
    return value is None or isinstance(value, str | int | float)


def _are_options(value: Any) -> bool:
    seed = value.get("manual_seed", 0) if isinstance(value, dict) else None
    legal = type(seed) is int and 0 <= seed < 2**32
    return legal and _is_plain(value) and all(isinstance(key, str) for key in value)


def is_best(value: Any) -> bool:
    """Whether a value is BasicSR's record of the best: `{SET: {METRIC: {better, val, iter}}}`."""
    sets = value.values() if isinstance(value, dict) else [None]
    rows = [row for metrics in sets for row in (metrics.values() if isinstance(metrics, dict) else [None])]
    return all(
        isinstance(row, dict)
        and isinstance(row.get("better"), str)
        and isinstance(row.get("val"), float | int)
        and _is_whole(row.get("iter"))
        for row in rows
    )


# What the parts of a training state may be; those of other programs than the plugin hold no more than the first four.
_STATE_PARTS: dict[str, Callable[[Any], bool]] = {
    "epoch": _is_whole,
    "iter": _is_count,
    "optimizers": _is_list_of_states,
    "schedulers": _is_list_of_states,
    "scaler": lambda value: isinstance(value, dict),
    "draws": lambda value: type(value) is int and 0 <= value < _LARGEST * _LARGEST,
    "validated": _is_whole,
    "best": is_best,
    "skipped_steps": _is_count,
    "options": _are_options,
}


def _numbered(files: Iterable[Path], before: str = "") -> dict[int, Path]:
    """Files that are called by an iteration, with `before` in front of it, by that iteration, the last first.

    A copy that someone has made (`net_g_good_5000.pth`, `5000_old.state`) is no checkpoint of the run.
    """
    stems = {file: file.stem.removeprefix(before) for file in files if file.stem.startswith(before)}
    found = {int(stem): file for file, stem in stems.items() if stem.isascii() and stem.isdigit()}
    return {number: file for number, file in sorted(found.items(), reverse=True) if stems[file] == str(number)}


def states_of(folder: Path) -> dict[int, Path]:
    """A run's training states by iteration, the last first.

    Raises:
        UserError: The folder is there and can't be read: nobody may take it for one without states, and begin anew.
    """
    if absence(folder) in (None, ABSENT) and not is_folder(folder):
        return {}  # where something else has its name, making the folder says so
    if reason := why_no_folder(folder):
        raise UserError(f"{folder}: {reason}; give yourself the right to read it, or the run another name")
    return _numbered(folder.glob("*.state"))


def place_of_run(option_file: str | Path, name: str) -> Path:
    """The folder that a run is to go on in: the current one, or the next above its option file that has its states.

    A run of this name that was begun in the current folder comes first, also before it has saved anything.

    Args:
        option_file: Of the run.
        name: The run's.
    """
    here, run = Path.cwd(), Path("experiments", name)
    if absence(run) != ABSENT:
        return here
    above = Path(option_file).absolute().parents
    return next((one for one in above if _has_states(one / run / "training_states")), here)


def _has_states(folder: Path) -> bool:
    try:
        return bool(states_of(folder))
    except UserError:  # nothing that this user could go on with
        return False


def mark_unsaved(run: Path) -> None:
    """Note in the folder of a run that is begun that it has no state yet."""
    (run / _UNSAVED).touch()


def mark_saved(run: Path) -> None:
    """Take that note back: a state is written."""
    (run / _UNSAVED).unlink(missing_ok=True)


def is_unsaved(run: Path) -> bool:
    """Whether a run without states was killed before its first: what weights it has are then of a save cut short.

    Weights in a folder without the note, whose states are gone, are worth keeping.
    """
    weights = any((run / "models").glob("[!.]*"))
    return run.is_dir() and ((run / _UNSAVED).exists() or not weights)


def newest_state(states: Path, models: Path) -> tuple[Path, dict[str, Any], list[str]] | None:
    """Find the last training state that is whole.

    Returns:
        Its path, its content, and why later ones were passed over; None where there is no state at all.

    Raises:
        UserError: There are states, but not one is whole, or they can't be read.
    """
    problems: list[str] = []
    for path in states_of(states).values():
        try:
            return path, load_state(path, models), problems
        except UserError as error:
            problems.append(str(error))
        except Exception as error:  # whatever it is: not whole
            problems.append(f"{path}: not a readable training state ({type(error).__name__})")
    if problems:
        raise UserError(f"{states}: no training state is whole; the last: {problems[0]}")
    return None


def later_than(states: Path, models: Path, iteration: int) -> list[Path]:
    """The numbered checkpoints of later iterations, states before their weights."""
    kinds = (states_of(states), _numbered(models.glob("*.pth"), "net_g_"))
    return [path for files in kinds for number, path in files.items() if number > iteration]


def remove_old(states: Path, models: Path, keep: int, last: int) -> None:
    """Remove what is older than the last `keep` training states, states before their weights.

    Args:
        states: Folder of the training states.
        models: Folder of the weights.
        keep: How many stay.
        last: Iteration that was saved last; checkpoints of later ones, which can only be damaged, do not count.
    """
    kept = [iteration for iteration in states_of(states) if iteration <= last][:keep]
    oldest = kept[-1] if kept else 0
    for files in (states_of(states), _numbered(models.glob("*.pth"), "net_g_")):
        for iteration, path in files.items():
            if iteration < oldest:
                path.unlink(missing_ok=True)
