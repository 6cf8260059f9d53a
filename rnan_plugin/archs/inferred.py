"""Arguments of `RNAN` from a state dict in its own names, for files that don't say them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rnan_plugin.archs.rnan_arch import DIV2K_MEAN, RELEASED


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments that build the network of a state dict.

    Layers and their shapes tell all but five of them. Of these `softmax_over`, `mask_skip` and `img_range` are taken
    as the authors' release has them where the layers are the release's, else as the paper's text has them;
    `attention_residual` is the default, and `img_mean` is DIV2K's for enlarging in colour. A network that was trained
    otherwise has to say so: files of `rnan export` do.

    Args:
        state: As `RNAN.state_dict()` gives it.

    Raises:
        KeyError: A layer that every RNAN has is missing.
    """
    num_feat, num_in_ch = state["head.weight"].shape[:2]
    convs = _numbers(state, r"body\.(\d+)\.weight")
    blocks = _numbers(state, r"body\.(\d+)\.") - convs
    upscale = _upscale(state, num_feat)
    arguments: dict[str, Any] = {
        "num_in_ch": num_in_ch,
        "num_out_ch": num_in_ch,
        "num_feat": num_feat,
        "upscale": upscale,
    }
    arguments |= _blocks(state, len(blocks), len(convs))
    arguments |= {f"num_{part}_res": _count(state, rf"body\.0\.{part}\.(\d+)\.") for part in ("head", "trunk", "tail")}
    arguments |= _mask(state)
    if convs and arguments.get("upscale_kernel") == RELEASED["upscale_kernel"]:
        arguments |= {name: RELEASED[name] for name in ("softmax_over", "mask_skip", "img_range")}
    if upscale > 1 and num_in_ch == len(DIV2K_MEAN):
        arguments["img_mean"] = list(DIV2K_MEAN)
    return arguments


def _numbers(state: Mapping[str, Tensor], pattern: str) -> set[int]:
    return {int(match[1]) for name in state if (match := re.match(pattern, name))}


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len(_numbers(state, pattern))


def _upscale(state: Mapping[str, Tensor], num_feat: int) -> int:
    """1 for a tail of one layer; ×3 is a stage of its own, ×2 and ×4 are one and two stages."""
    stages = _count(state, r"tail\.(\d+)\.weight") - 1
    return 3 if stages == 1 and state["tail.0.weight"].shape[0] == 9 * num_feat else 2**stages


def _blocks(state: Mapping[str, Tensor], num_block: int, num_conv: int) -> dict[str, Any]:
    """How many there are of each kind, and whether convolutions stand between them."""
    num_rnab = _count(state, r"body\.(\d+)\.(?:mask\.non_local|trunk_non_local)\.theta\.weight")
    found: dict[str, Any] = {"conv_after_block": num_conv > 0}
    if not num_rnab and num_conv > num_block:  # the one that stands before a last block that was to be non-local
        num_rnab, found["non_local"] = 2, False
    return found | {"num_rab": num_block - num_rnab, "num_rnab": num_rnab}


def _mask(state: Mapping[str, Tensor]) -> dict[str, Any]:
    up = state.get("body.0.mask.up.weight")
    if up is None:
        return {"mask_branch": False}
    return {"num_mask_res": _count(state, r"body\.0\.mask\.head\.(\d+)\."), "upscale_kernel": up.shape[-1]}
