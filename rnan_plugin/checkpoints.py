"""Checkpoints: the only place that reads and writes them, and puts weights into networks.

They are whole or not there: written aside and renamed, verified when read. What a training state has to hold is told
in `rnan_plugin.training.states`.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rnan_plugin.errors import UserError, said_by
from rnan_plugin.files import atomic_path
from rnan_plugin.portable import ENDING, packed, read_packed
from rnan_plugin.targets import why_no_file

USUAL_KEYS = ("params_ema", "params")  # of the weights in a checkpoint of BasicSR: the average first


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
        reason = "not all of it found room" if full else said_by(error)
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
    if not str(path):
        raise UserError("the name of the weights' file is empty; name one")
    path = Path(path)
    if reason := why_no_file(path):
        raise UserError(f"{path}: {reason}; check the path")
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
    taken = key_in(checkpoint, path, key)
    found = checkpoint if taken is None else checkpoint[taken]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path}: no weights '{key or 'params'}' in it (path.param_key_g); it has {_keys(checkpoint)}")
    for name, value in found.items():
        _check_tensor(value, f"{path}: {name}")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def key_in(checkpoint: Mapping[str, Any], path: str | Path, key: str | None = None) -> str | None:
    """The key of the weights to take from a checkpoint; None where it is a flat state dict. Arguments as `weights_in`.

    `params_ema` gives way to `params`, as in BasicSR, which asks for the one by itself where it averages weights.

    Raises:
        UserError: A key of another name is not in the file.
    """
    if key not in (None, *USUAL_KEYS):
        if key not in checkpoint:
            raise UserError(f"{path}: no weights '{key}' in it (path.param_key_g); it has {_keys(checkpoint)}")
        return key
    wanted = USUAL_KEYS if key is None else (key, "params")
    return next((name for name in wanted if name in checkpoint), None)


def _keys(checkpoint: Mapping[str, Any]) -> str:
    return ", ".join(map(str, checkpoint))[:100] or "nothing"


def _check_tensor(value: Tensor, where: str) -> None:
    """Weights are plain tensors of finite real numbers; whole ones are counters, which some layers keep."""
    if value.layout != torch.strided or value.is_meta or value.is_complex() or value.is_quantized:
        kind = "without values" if value.is_meta else f"{value.layout}, {value.dtype}".replace("torch.", "")
        raise UserError(f"{where} is a tensor {kind}, which no network has here; take another checkpoint")
    if value.is_floating_point() and not value.isfinite().all():
        raise UserError(f"{where} holds NaN or infinite values; take another checkpoint")


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
        raise UserError(f"{path}: weights of another network than network_g ({said_by(error, 300)})") from None
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
    of_numbers = next(
        (name for name in found if found[name].is_floating_point() != own[name].is_floating_point()), None
    )
    if of_numbers is not None:
        kinds = f"{found[of_numbers].dtype} in the file, {own[of_numbers].dtype} in network_g".replace("torch.", "")
        raise UserError(f"{path}: {of_numbers} is of {kinds}; take another checkpoint")
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
