"""Checkpoints: the only place that reads and writes them, and puts weights into networks.

They are whole or not there: written aside and renamed, verified when read, the old ones removed.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rnan_plugin.errors import UserError, shown
from rnan_plugin.files import atomic_path
from rnan_plugin.portable import ENDING, packed, read_packed

_STATE_KEYS = {"epoch", "iter", "optimizers", "schedulers"}


def save_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, complete and on disk under its name, or not at all.

    Raises:
        UserError: It can't be written.
    """
    _write(path, lambda temporary: torch.save(content, temporary))


def save_safetensors(weights: Mapping[str, Tensor], network: Mapping[str, Any], path: Path) -> None:
    """Write weights as a safetensors file that says what their network is, or nothing at all.

    Raises:
        UserError: It can't be written, or the package safetensors is not installed.
    """
    save_bytes(packed(weights, network), path)


def save_bytes(content: bytes, path: Path) -> None:
    """Write a network of another form, complete or not at all; errors as of `save_checkpoint`."""
    _write(path, lambda temporary: temporary.write_bytes(content))


def _write(path: Path, write: Callable[[Path], object]) -> None:
    try:
        with atomic_path(path) as temporary:
            write(temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as the latter
        full = isinstance(error, RuntimeError) and "unexpected pos" in str(error)
        reason = "not all of it found room" if full else " ".join(str(error).split())
        raise UserError(f"{path}: can't be written ({reason}); free disk space or check the folder") from None


def is_intact(path: Path) -> bool:
    """Whether a file is one that torch wrote, with every checksum right (torch itself does not check them)."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # whatever a damaged file makes its reader raise
        return False


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # one that is said to have several parts
        return True


def read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, its checksums verified; pickled code in it does not run.

    Args:
        path: A file of torch, or a safetensors file (`.safetensors`), which has no checksums.

    Raises:
        UserError: Missing, damaged, with pickled code, or not a dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    if path.suffix.lower() == ENDING:
        return read_packed(path)
    # Files of torch before 1.6 are no zip files and have no checksums.
    if _is_zip(path) and not is_intact(path):
        raise UserError(f"{path}: damaged, a checksum is wrong; take another copy")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own words advise to load it all the same
        raise UserError(f"{path}: damaged, or holds more than tensors, which is never loaded; take another") from None
    except Exception:  # a damaged file may make the reader raise anything
        raise UserError(f"{path}: damaged, or not a checkpoint of torch; take another") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a checkpoint, it holds a {type(content).__name__}; take another")
    return content


def weights_in(checkpoint: Mapping[str, Any], path: str | Path, key: str | None = None) -> dict[str, Tensor]:
    """The weights in a checkpoint's content.

    Args:
        checkpoint: As `read` gives it: `{"params": …, "params_ema": …}` as the toolbox writes, or a flat state dict.
        path: The file, for errors.
        key: Which to take. None takes the average, `params_ema`, where there is one, since validation scores it.

    Raises:
        UserError: There are none, or they are not finite; names the tensor.
    """
    wanted = [key, "params"] if key is not None else ["params_ema", "params"]
    found = next((checkpoint[name] for name in wanted if name in checkpoint), checkpoint)
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        there = ", ".join(map(str, checkpoint))[:100]
        raise UserError(f"{path}: no weights '{key or 'params'}' in it (path.param_key_g); it has {there or 'nothing'}")
    for name, value in found.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"{path}: {name} holds NaN or infinite values; take another checkpoint")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def load_weights(net: nn.Module, path: str | Path, key: str | None = None) -> None:
    """Put the weights of a checkpoint into a network, every one; see `weights_in` for which.

    Raises:
        UserError: The file is missing or damaged, or its weights are of another network.
    """
    fill(net, weights_in(read(path), path, key), path)


def fill(net: nn.Module, weights: Mapping[str, Tensor], path: str | Path, *, strict: bool = True) -> str:
    """Put weights that were read from a file into a network; errors as of `fitting`, whose report it returns."""
    found, told = fitting(net, weights, path, strict=strict)
    try:
        net.load_state_dict(found, strict=strict)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: weights of another network than network_g ({reason})") from None
    return told


def fitting(
    net: nn.Module, weights: Mapping[str, Tensor], path: str | Path, *, strict: bool
) -> tuple[dict[str, Tensor], str]:
    """Those of a file's weights that a network has by the same name and of the same shape, and a report in numbers.

    Args:
        net: The network; on the meta device it will do.
        weights: As read from the file.
        path: The file, for errors.
        strict: Every weight of either has to be found in the other.

    Raises:
        UserError: Not a single one fits, or with `strict` not all of them do.
    """
    own = net.state_dict()
    found = {name: weights[name] for name in own if name in weights and weights[name].shape == own[name].shape}
    counted = {name: value.numel() for name, value in own.items()}
    share = sum(counted[name] for name in found) / max(1, sum(counted.values()))
    left_over = {
        "not in the file": [name for name in own if name not in weights],
        "other shapes": [
            f"{name} ({_size(weights[name])} in the file, {_size(own[name])} in network_g)"
            for name in own
            if name in weights and name not in found
        ],
        "not in network_g": [name for name in weights if name not in own],
    }
    told = "; ".join(
        [
            f"matched {len(found)} of {len(own)} tensors ({_percent(share)} of the parameters)",
            *(f"{what}: {_first(names)}" for what, names in left_over.items() if names),
        ]
    )
    if strict and any(left_over.values()):
        raise UserError(f"{path}: weights of another network than network_g ({told})")
    if not found:
        raise UserError(f"{path}: none of its weights fit network_g ({told}); take another file, or start without")
    return found, told


def _size(value: Tensor) -> str:
    return "×".join(map(str, value.shape)) or "one number"


def _percent(share: float) -> str:
    """To a tenth, but 100 % where nothing is missing alone."""
    return f"{min(share, 0.999) if share < 1 else 1:.1%}".replace("%", " %").replace("100.0", "100")


_MOST_NAMED = 5  # tensors in a report


def _first(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


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
    named = next(iter(iterations([path])), state["iter"])
    if named != state["iter"]:
        raise UserError(f"{path}: is the state of iteration {state['iter']}; give it its name, {state['iter']}.state")
    weights = models / f"net_g_{state['iter']}.pth"
    for file in (path, weights):
        if not is_intact(file):
            raise UserError(f"{file}: {'damaged' if file.exists() else 'missing'}; resume from another state")
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


def _is_best(value: Any) -> bool:
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
    "best": _is_best,
    "skipped_steps": _is_count,
    "options": _are_options,
}


def iterations(files: Iterable[Path]) -> dict[int, Path]:
    """Files by the iteration that their names end in (`5000.state`, `net_g_5000.pth`), the last first."""
    ends = {file: file.stem.rpartition("_")[2] for file in files}
    found = {int(end): file for file, end in ends.items() if end.isascii() and end.isdigit()}
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
        except Exception as error:  # whatever it is: not whole
            problems.append(f"{path}: not a readable training state ({type(error).__name__})")
    if problems:
        raise UserError(f"{states}: no training state is whole; the last: {problems[0]}")
    return None


def remove_old(states: Path, models: Path, keep: int) -> None:
    """Remove all but the last `keep` numbered checkpoints, states before their weights."""
    for files in (states.glob("*.state"), models.glob("net_g_*.pth")):
        for path in list(iterations(files).values())[keep:]:
            path.unlink(missing_ok=True)
