"""The bridge from the authors' released checkpoints (plain state dicts, their names) to `RNAN`.

The released code has no licence and nothing of it is here: the names below were read from checkpoint files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnan_plugin import checkpoints
from rnan_plugin.archs.attention import SoftmaxOver
from rnan_plugin.archs.inferred import arguments_of
from rnan_plugin.archs.rnan_arch import RELEASED, RNAN
from rnan_plugin.errors import UserError, said_by

_RGB_RANGE = 255.0

# Inside an attention block: released name (pattern) -> name in `AttentionBlock`; residual blocks end in body.0, body.2.
_BLOCK_NAMES = [
    (r"RA_MB\.0\.MB_RB1\.0\.(theta|phi|g)\.", r"mask.non_local.\1."),
    (r"RA_MB\.0\.MB_RB1\.0\.W\.", r"mask.non_local.w."),
    (r"RA_MB\.0\.MB_RB1\.(\d+)\.", r"mask.head.\1."),
    (r"RA_MB\.0\.MB_Down\.0\.", r"mask.down."),
    (r"RA_MB\.0\.MB_RB2\.(\d+)\.", r"mask.bottleneck.\1."),
    (r"RA_MB\.0\.MB_Up\.0\.", r"mask.up."),
    (r"RA_MB\.0\.MB_RB3\.(\d+)\.", r"mask.tail.\1."),
    (r"RA_MB\.0\.MB_1x1conv\.0\.", r"mask.conv."),
    (r"RA_RB1\.(\d+)\.", r"head.\1."),
    (r"RA_TB\.0\.body\.(\d+)\.", r"trunk.\1."),
    (r"RA_tail\.(\d+)\.", r"tail.\1."),
]


def load_released(path: str | Path, *, softmax_over: SoftmaxOver = "queries") -> RNAN:
    """Build the network of a released checkpoint and load it, every key matched.

    Args:
        path: A released file such as `RNAN_F64G10P48L2N30.pt`.
        softmax_over: "queries" as the released weights were trained; "keys" is the paper's Eq. 5.

    Returns:
        The network in eval mode on the CPU; images in and out in [0, 1].

    Raises:
        UserError: The file is missing, damaged, holds pickled code, or is not a released RNAN checkpoint.
    """
    released = read_state_dict(path)
    try:
        arguments = infer_arguments(released) | {"softmax_over": softmax_over}
        net = RNAN(**arguments)
        net.load_state_dict(rename(released), strict=True)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        told = f"not a released RNAN checkpoint ({said_by(error, 300)}); use the authors' .pt file"
        raise UserError(f"{path}: {told}") from None
    return net.eval()


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a flat state dict without running pickled code.

    Raises:
        UserError: The file is missing, damaged, or no plain state dict.
    """
    state = checkpoints.read(path)
    if "params" in state:
        raise UserError(f"{path}: a checkpoint of BasicSR; name it in path.pretrain_network_g of an option file")
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: not a plain state dict; use the authors' .pt file")
    return checkpoints.weights_in(state, path)


def pretrained_weights(path: str | Path, key: str | None) -> tuple[dict[str, Tensor], str | None]:
    """The weights that an option file begins with, by the names of the plugin's networks: released ones are renamed.

    Args:
        path: `path.pretrain_network_g`.
        key: `path.param_key_g`; see `checkpoints.key_in`.

    Returns:
        Weights, and the key that they had in the file, if any.

    Raises:
        UserError: The file is missing or damaged, or has no weights of this key.
    """
    checkpoint = checkpoints.read(path)
    weights, taken = checkpoints.weights_in(checkpoint, path, key), checkpoints.key_in(checkpoint, path, key)
    try:
        return rename(weights), taken
    except KeyError:  # no released file
        return weights, taken


def infer_arguments(released: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `RNAN` from a released checkpoint's names and shapes.

    Raises:
        KeyError: A name that every released checkpoint has is missing.
        ValueError: The mean shift is not a shift.
    """
    arguments = arguments_of(rename(released)) | RELEASED
    arguments.pop("img_mean", None)  # they say it
    if "sub_mean.bias" in released:
        arguments["img_mean"] = _mean_shift(released)
    return arguments


def _count(released: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in released if (match := re.match(pattern, name))})


def _mean_shift(released: Mapping[str, Tensor]) -> list[float]:
    """Mean in [0, 1] of the released 1×1 convolutions that subtract and add it."""
    channels = released["sub_mean.bias"].numel()
    identity = torch.eye(channels).view(channels, channels, 1, 1)
    for name in ("sub_mean.weight", "add_mean.weight"):
        if not torch.equal(released[name], identity):
            raise ValueError(f"{name} is not the identity")
    if not torch.equal(released["sub_mean.bias"], -released["add_mean.bias"]):
        raise ValueError("sub_mean.bias and add_mean.bias differ")
    return [round(value / _RGB_RANGE, 6) for value in released["add_mean.bias"].tolist()]


def rename(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate released names to `RNAN`'s; the constant mean shift is left out (it is an argument).

    Raises:
        KeyError: A name that no released checkpoint has.
    """
    num_rab = _count(released, r"body\.(\d+)\.body\.0\.")
    num_stage = _count(released, r"tail\.0\.(\d+)\.weight")
    is_shift = re.compile(r"(sub|add)_mean\.")
    return {_new_name(name, num_rab, num_stage): value for name, value in released.items() if not is_shift.match(name)}


def _new_name(name: str, num_rab: int, num_stage: int) -> str:
    # The body alternates block and convolution; one more convolution stands before the last non-local block.
    last = 2 * num_rab + 3
    if match := re.fullmatch(r"(?:body_nl_(low|high)\.0|body\.(\d+))\.body\.([01])\.(.*)", name):
        level, index, part, rest = match.groups()
        position = {"low": 0, "high": last}[level] if level else 2 * int(index) + 2
        return (
            f"body.{position}.{_block_name(rest, non_local=bool(level))}"
            if part == "0"
            else f"body.{position + 1}.{rest}"
        )
    if match := re.fullmatch(rf"body\.{num_rab}\.(weight|bias)", name):
        return f"body.{last - 1}.{match[1]}"
    if match := re.fullmatch(r"head\.0\.(weight|bias)", name):
        return f"head.{match[1]}"
    if match := re.fullmatch(r"tail\.0\.(\d+\.)?(weight|bias)", name):
        return f"tail.{match[1] or '0.'}{match[2]}"
    if match := re.fullmatch(r"tail\.1\.(weight|bias)", name):
        return f"tail.{2 * num_stage}.{match[1]}"
    raise KeyError(f"unknown name {name}")


def _block_name(name: str, *, non_local: bool) -> str:
    if non_local:  # its mask branch starts with the non-local block, which shifts the residual blocks by one
        name = re.sub(r"(?<=MB_RB1\.)[1-9]\d*", lambda match: str(int(match[0]) - 1), name)
    for pattern, replacement in _BLOCK_NAMES:
        renamed, hits = re.subn("^" + pattern, replacement, name)
        if hits:
            return re.sub(r"\.body\.([02])\.", lambda match: f".conv{int(match[1]) // 2 + 1}.", renamed)
    raise KeyError(f"unknown name {name}")
