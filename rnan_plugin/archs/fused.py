"""Convolutions with their activation or residual sum in one pass over memory, where oneDNN serves.

On a CPU the separate ReLU and sum cost a quarter of a 3×3 convolution of 64 channels. The fused operators are those
that torch's own compiler emits; they know no gradient, so that training takes the plain ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnan_plugin.archs.kernels import private_allowed

_OPERATORS = torch.ops.mkldnn
_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(_OPERATORS, "_convolution_pointwise")  # type: ignore[no-untyped-call]


def serves(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether the fused operators compute the same on `x` as the plain ones would here, and faster."""
    return (
        _AVAILABLE
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")  # the operators do not take part in it
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
    return _OPERATORS._convolution_pointwise.binary(
        x, residual, conv.weight, conv.bias, *_geometry(conv), "add", 1.0, None, [], None
    )


def _pointwise(conv: nn.Conv2d, x: Tensor, function: str) -> Tensor:
    return _OPERATORS._convolution_pointwise(x, conv.weight, conv.bias, *_geometry(conv), function, [], "")


def _geometry(conv: nn.Conv2d) -> tuple[object, ...]:
    return conv.padding, conv.stride, conv.dilation, conv.groups
