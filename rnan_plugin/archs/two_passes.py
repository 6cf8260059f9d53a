"""Wᵀ x, attention normalised over the queries, by fused kernels that normalise over the keys.

W is the softmax over the columns of `row @ colᵀ`. The first pass gives the log-normaliser z_r of each row; Wᵀ x then is
attention of the columns over the rows, whose logits are shifted by -z_r, times that attention's own normaliser.

A kernel for float32 takes the shift as a bias. Torch's kernel for narrow types on CUDA takes none: there three channels
are added to each row, parts of -z_r that sum to it. One part would err by 2.5 for a logit of 1000 in bfloat16. Products
are summed in float32, z_r and the normalisers are float32; results are rounded to their type twice.

The kernels' log-sum-exp is not public: `private_allowed` switches them off. Nothing of them was run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rnan_plugin.archs.kernels import private_allowed

# Maps query, key, value (B, 1, N, C) and what is added to each key's logits, (B, N) or None, to attention and the
# log-sum-exp of each query's logits, (B, N).
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
Scatter = Callable[[Tensor, Tensor, Tensor], Tensor]

_EFFICIENT: Any = getattr(torch.ops.aten, "_scaled_dot_product_efficient_attention", None)
_FLASH: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention", None)

# Kernels on CUDA want channels, and the stride of a bias, in multiples of 16 bytes.
_ALIGNED = 8
# Parts of a shift, and what their channel is multiplied by: so shifts of a million are finite in float16.
_PARTS, _SCALE = 3, 16.0
_FLASH_CAPABILITY = (8, 0)


def scatter_for(tensor: Tensor) -> Scatter | None:
    """The way to compute Wᵀ x of such tensors on a GPU, or None where there is none: on other devices, of float64."""
    if tensor.device.type != "cuda" or not private_allowed():
        return None
    if tensor.dtype in {torch.float16, torch.bfloat16} and _FLASH is not None:
        if torch.version.hip or torch.cuda.get_device_capability(tensor.device) >= _FLASH_CAPABILITY:
            return by_channels
        return lambda row, col, x: by_bias(row.float(), col.float(), x.float()).to(x.dtype)
    return by_bias if tensor.dtype == torch.float32 and _EFFICIENT is not None else None


def by_bias(row: Tensor, col: Tensor, x: Tensor, attend: Attend | None = None) -> Tensor:
    """Compute Wᵀ x with a kernel that takes a bias.

    Args:
        row: (B, N, C).
        col: (B, M, C).
        x: (B, N, C).
        attend: The kernel; left out, torch's for CUDA.

    Returns:
        (B, M, C).
    """
    attend = attend or _efficient
    row, col, heads = row.unsqueeze(1), col.unsqueeze(1), x.unsqueeze(1)
    _, log_norm = attend(row, col, col, None)
    return _unnormalised(*attend(col, row, heads, -log_norm), x)


def by_channels(row: Tensor, col: Tensor, x: Tensor, attend: Attend | None = None) -> Tensor:
    """Compute what `by_bias` does with a kernel that takes none, for narrow types."""
    attend = attend or _flash
    _, log_norm = attend(row.unsqueeze(1), col.unsqueeze(1), col.unsqueeze(1), None)
    row = torch.cat([row, _parts(-log_norm / _SCALE, row.dtype)], dim=2)
    col = torch.cat([col, col.new_full((*col.shape[:2], _PARTS), _SCALE)], dim=2)
    return _unnormalised(*attend(col.unsqueeze(1), row.unsqueeze(1), x.unsqueeze(1), None), x)


def _unnormalised(out: Tensor, log_sum: Tensor, like: Tensor) -> Tensor:
    # Each exponent is at most log N.
    return (out.squeeze(1)[..., : like.shape[2]] * log_sum.exp().unsqueeze(-1)).to(like.dtype)


def _parts(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Float32 values (B, N) as sums of narrow ones, (B, N, _PARTS)."""
    parts = []
    for _ in range(_PARTS):
        parts.append(values.to(dtype))
        values = values - parts[-1].float()
    return torch.stack(parts, dim=2)


def _widened(*tensors: Tensor) -> list[Tensor]:
    """Tensors as wide as the widest and a multiple of `_ALIGNED`, by zeros, which change no product."""
    width = -(-max(tensor.shape[-1] for tensor in tensors) // _ALIGNED) * _ALIGNED
    return [F.pad(tensor, (0, width - tensor.shape[-1])) if tensor.shape[-1] < width else tensor for tensor in tensors]


def _efficient(query: Tensor, key: Tensor, value: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    bias = None if shift is None else _as_bias(shift, query.shape[2])
    out, log_sum, *_ = _EFFICIENT(*_widened(query, key, value), bias, True, scale=1.0)
    return out, log_sum[:, 0, : query.shape[2]]  # which the kernel pads to a multiple of 32


def _as_bias(shift: Tensor, queries: int) -> Tensor:
    """(B, N) as (B, 1, queries, N) in the memory of (B, N), at an alignment that the kernel takes."""
    batch, keys = shift.shape
    (aligned,) = _widened(shift)
    return aligned[:, None, None, :keys].expand(batch, 1, queries, keys)


def _flash(query: Tensor, key: Tensor, value: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor]:
    out, log_sum, *_ = _FLASH(*_widened(query, key, value), scale=1.0)
    return out, log_sum[:, 0]
