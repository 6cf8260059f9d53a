"""Convolutions with their activation or residual sum in one pass over memory, where oneDNN serves.

On a CPU the separate ReLU and sum cost a quarter of a 3×3 convolution of 64 channels, in bfloat16 on matrix tiles more.
The fused operators are those that torch's own compiler emits; they know no gradient, so that training takes the plain
ones, nor autocast, whose type they are given here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnan_plugin.archs.kernels import private_allowed

_OPERATORS = torch.ops.mkldnn
_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(_OPERATORS, "_convolution_pointwise")  # type: ignore[no-untyped-call]
_NARROW = hasattr(_OPERATORS, "_is_mkldnn_bf16_supported") and _OPERATORS._is_mkldnn_bf16_supported()
_TYPES = {torch.float32, torch.bfloat16} if _NARROW else {torch.float32}


def _type(conv: nn.Conv2d, x: Tensor) -> torch.dtype | None:
    """The type that a layer computes in here, autocast's or its own; None where the input is of another."""
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") if x.dtype in _TYPES else None
    return x.dtype if x.dtype == conv.weight.dtype else None


def serves(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether the fused operators compute the same on `x` as the plain ones would here, and faster."""
    return (
        _AVAILABLE
        and x.device.type == "cpu"
        and _type(conv, x) in _TYPES
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()  # which fuses by itself
        and private_allowed()
        and x.is_contiguous(memory_format=torch.channels_last)
        and not (conv._forward_hooks or conv._forward_pre_hooks)  # the operators do not call the layer
    )


def conv_relu(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """ReLU(conv(x)) for (B, C, H, W)."""
    return _pointwise(conv, x, "relu") if serves(conv, x) else F.relu(conv(x), inplace=True)


def conv_sigmoid(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Logistic function of conv(x) for (B, C, H, W)."""
    return _pointwise(conv, x, "sigmoid") if serves(conv, x) else torch.sigmoid(conv(x))


def conv_add(conv: nn.Conv2d, x: Tensor, residual: Tensor) -> Tensor:
    """conv(x) + residual for (B, C, H, W) and a residual of the output's shape."""
    if not (serves(conv, x) and residual.is_contiguous(memory_format=torch.channels_last)):
        # In place: where autograd records, it needs neither of the two sums' old values.
        return conv(x).add_(residual)
    x, weight, bias = _operands(conv, x)
    addend = residual.to(x.dtype)
    return _OPERATORS._convolution_pointwise.binary(
        x, addend, weight, bias, *_geometry(conv), "add", 1.0, None, [], None
    )


def _pointwise(conv: nn.Conv2d, x: Tensor, function: str) -> Tensor:
    return _OPERATORS._convolution_pointwise(*_operands(conv, x), *_geometry(conv), function, [], "")


def _operands(conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Input, weight and bias, of the type that the layer computes in here."""
    dtype = _type(conv, x)
    return x.to(dtype), conv.weight.to(dtype), None if conv.bias is None else conv.bias.to(dtype)


def _geometry(conv: nn.Conv2d) -> tuple[object, ...]:
    return conv.padding, conv.stride, conv.dilation, conv.groups
