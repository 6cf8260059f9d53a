"""What a network's attention looks at: rows of the non-local blocks, and the mixed attention masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rnan_plugin.archs.non_local import NonLocalBlock
from rnan_plugin.archs.rnan_arch import MaskBranch
from rnan_plugin.errors import UserError

# Logits of one block of rows held at once: 16 MiB in float32.
_BLOCK_VALUES = 2**22


@torch.no_grad()
def non_local_maps(net: nn.Module, lq: Tensor, row: int, column: int) -> dict[str, Tensor]:
    """How much the non-local blocks take from each position for one position: a row of the N×N matrix of each.

    Memory is linear in the number of positions: normalised over the queries, the matrix passes by in blocks of rows.

    Args:
        net: Has non-local blocks.
        lq: One image, (1, C, H, W).
        row: Of the position looked from, 0 to H-1.
        column: Of the position looked from, 0 to W-1.

    Returns:
        By name of the block: (H, W) weights. Over keys they sum to 1.

    Raises:
        UserError: The position lies outside the image, or the network has no non-local block.
    """
    height, width = lq.shape[2:]
    if not (0 <= row < height and 0 <= column < width):
        raise UserError(f"position {row}, {column} lies outside the image of {height}×{width} pixels")
    maps = {}
    with _inputs_of(net, NonLocalBlock) as inputs:
        net(lq)
    for name, (block, feat) in inputs.items():
        query, key = (embed(feat)[0].flatten(1).t() for embed in (block.theta, block.phi))  # (N, C)
        logits = key @ query[row * width + column]
        normaliser = logits.logsumexp(0) if block.softmax_over == "keys" else _log_sums(query, key)
        maps[name] = (logits - normaliser).exp().view(height, width)
    if not maps:
        raise UserError("the network has no non-local block to look into")
    return maps


def _log_sums(query: Tensor, key: Tensor) -> Tensor:
    """For each key the logarithm of its summed exponentials over all queries."""
    step = max(1, _BLOCK_VALUES // len(query))
    parts = [torch.logsumexp(part @ query.t(), dim=1) for part in key.split(step)]
    return torch.cat(parts)


@torch.no_grad()
def mixed_masks(net: nn.Module, lq: Tensor) -> dict[str, Tensor]:
    """The masks of all attention blocks, (num_feat, H, W) in (0, 1) each, by name of the block."""
    outputs: dict[str, Tensor] = {}
    with _outputs_of(net, MaskBranch, outputs):
        net(lq)
    return outputs


@contextmanager
def _inputs_of(net: nn.Module, kind: type[nn.Module]) -> Iterator[dict[str, tuple[Any, Tensor]]]:
    """Collect module and input of every module of a kind that runs."""
    found: dict[str, tuple[Any, Tensor]] = {}
    handles = [
        module.register_forward_pre_hook(lambda module, args, name=name: found.update({name: (module, args[0])}))
        for name, module in net.named_modules()
        if isinstance(module, kind)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _outputs_of(net: nn.Module, kind: type[nn.Module], outputs: dict[str, Tensor]) -> Iterator[None]:
    """Collect the output of every module of a kind that runs."""
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output[0]}))
        for name, module in net.named_modules()
        if isinstance(module, kind)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
