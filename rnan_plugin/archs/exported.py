"""The attention in operators that other programs know, for graphs of `torch.export` and ONNX."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rnan_plugin.archs.attention import SoftmaxOver


def is_exporting() -> bool:
    """Whether torch is making a graph for others; before 2.7 it does not say."""
    told = getattr(torch.compiler, "is_exporting", None)
    return told is not None and bool(told())


def exported_attention(query: Tensor, key: Tensor, value: Tensor, softmax_over: SoftmaxOver) -> Tensor:
    """What `non_local_attention` computes, for any number of positions; the memory is the runtime's choice.

    Args:
        query: (B, N, C).
        key: (B, N, C).
        value: (B, N, C).
        softmax_over: "keys" becomes one attention operator; "queries", which none has, holds all N×N weights.

    Returns:
        (B, N, C).
    """
    narrow, wide = query.dtype, torch.promote_types(query.dtype, torch.float32)
    query, key, value = query.to(wide), key.to(wide), value.to(wide)  # narrow logits would be wrong by whole units
    if softmax_over == "keys":
        heads = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        return F.scaled_dot_product_attention(*heads, scale=1.0).squeeze(1).to(narrow)
    weights = torch.softmax(key @ query.transpose(1, 2), dim=-1)
    return (weights.transpose(1, 2) @ value).to(narrow)
