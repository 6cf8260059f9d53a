"""Exact attention of all pairs of N positions in memory linear in N, normalised over keys or over queries.

With W = softmax over the columns of `row @ colᵀ`, everything RNAN needs is one of three operations, none of which holds
the N×N matrix W:

    gather    W y        attention normalised over the keys: rows are queries
    scatter   Wᵀ x       attention normalised over the queries: rows are keys
    backward  gradients of Σ x_r · W_rc y_c with respect to row and col, for both

On CPUs and GPUs torch's fused kernels do the first, the last as the gradient of the first, and the second in
`two_passes`. On the CPU in float32 `onednn_attention` does them faster, the last with few threads; on processors with
matrix tiles only the second. Elsewhere, or where the kernels can't serve, they run in plain torch on blocks of rows.

All tensors are (B, N, C), where rows and columns may differ in N; W is never scaled (Eq. 4 of the paper has no 1/√C).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from rnan_plugin.archs import onednn_attention, two_passes
from rnan_plugin.archs.kernels import has_matrix_tiles, private_allowed
from rnan_plugin.device import is_out_of_memory

SoftmaxOver = Literal["keys", "queries"]

# On a CPU these are computed in float32: torch's kernels are slower for them, and older ones round float16's logits.
_NARROW = {torch.bfloat16, torch.float16}
# What torch's CPU kernel attends in without gradient where there are matrix tiles: those multiply bfloat16.
_IN_TILES = {torch.float32, torch.bfloat16}

_FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]
# Elsewhere, on Apple's MPS for one, torch takes the N×N way whatever it is told.
_FUSED_DEVICES = {"cpu", "cuda", "xpu"}
# `sdpa_kernel` switches for the whole process, and replicas of a network run in threads.
_sdpa_lock = threading.Lock()
_CPU_FORWARD: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)

# Values in one block of rows of W: 4 MB in float32 stay in a CPU's cache, 256 MB keep an accelerator busy.
_BLOCK_VALUES = {"cpu": 2**20}
_BLOCK_VALUES_ELSEWHERE = 2**26
_BLOCKS_AT_ONCE = 2  # the logits and their softmax, in float32


def block_bytes(positions: int, device_type: str, batch: int = 1) -> int:
    """Bytes of the parts of W that attention without gradient holds at once, at most."""
    row = batch * positions
    values = _BLOCK_VALUES.get(device_type, _BLOCK_VALUES_ELSEWHERE)
    return _BLOCKS_AT_ONCE * 4 * min(positions * row, max(values, row))


def non_local_attention(query: Tensor, key: Tensor, value: Tensor, softmax_over: SoftmaxOver) -> Tensor:
    """Weighted sum of all positions, the weights being a softmax of dot products.

    Args:
        query: (B, N, C), the embedding u(x_i) of Eq. 4; float64, float32, bfloat16 or float16.
        key: (B, M, C), the embedding v(x_j) of Eq. 4; of as many positions as the query, or others.
        value: (B, M, C), the embedding g(x_j).
        softmax_over: "keys" normalises over j (Eq. 3–5), "queries" over i (the released code).

    Returns:
        (B, N, C), without N×M intermediate values, forward or backward.
    """
    # No fused kernel takes a last dimension that is not contiguous.
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    with _without_autocast(query.device.type):  # the inputs' type is the caller's choice
        if softmax_over == "keys" and (in_tiles := _in_matrix_tiles(query, key, value)) is not None:
            return in_tiles
        if query.device.type == "cpu" and query.dtype in _NARROW:
            return non_local_attention(query.float(), key.float(), value.float(), softmax_over).to(query.dtype)
        if softmax_over == "queries":
            return _OverQueries.apply(query, key, value)
        if onednn_attention.serves(query) and not _needs_gradient(query, key, value):
            return onednn_attention.gather(query, key, value)
        out = None if onednn_attention.differentiates(query) else _fused_over_keys(query, key, value)
        return _OverKeys.apply(query, key, value)[0] if out is None else out


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    # Some versions of torch know no autocast for some devices, and say so with an error.
    available = torch.amp.is_autocast_available(device_type)
    return torch.autocast(device_type, enabled=False) if available else nullcontext()


def _in_matrix_tiles(query: Tensor, key: Tensor, value: Tensor) -> Tensor | None:
    """Attention over the keys without gradient by torch's CPU kernel, or None where that is not the fastest way.

    It is called by itself: its public name would need `_sdpa_lock`, for which threads with tiles of an image wait.
    """
    serves = has_matrix_tiles() and query.dtype in _IN_TILES and _cpu_kernel_serves(query)
    if not serves or _needs_gradient(query, key, value):
        return None
    heads = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
    return _unless_refused(lambda: _cpu_attend(*heads, None)[0].squeeze(1))


def _fused_over_keys(query: Tensor, key: Tensor, value: Tensor) -> Tensor | None:
    """Torch's fused kernel, or None where there is none for the device, type or size."""
    if query.device.type not in _FUSED_DEVICES:
        return None

    def run() -> Tensor:
        with _sdpa_lock, sdpa_kernel(_FUSED):
            heads = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
            return F.scaled_dot_product_attention(*heads, scale=1.0).squeeze(1)

    return _unless_refused(run)


class _OverKeys(torch.autograd.Function):
    """Attention normalised over the keys, in blocks of queries."""

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The result, and what its rows were normalised by (empty where `backward` finds it again)."""
        log_norm = query.new_empty(query.shape[:2] if onednn_attention.differentiates(query) else 0)
        if log_norm.numel():
            return onednn_attention.gather(query, key, value, log_norm), log_norm
        return gather(query, key, value), log_norm

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, *output)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_out: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, out, log_norm = ctx.saved_tensors  # type: ignore[attr-defined]
        args = query, key, grad_out.contiguous(), value
        with _without_autocast(query.device.type):
            if log_norm.numel():
                return onednn_attention.backward(*args, out, log_norm)
            return backward(*args)[:3]


class _OverQueries(torch.autograd.Function):
    """Attention normalised over the queries: W's rows are the keys."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, value)
        if onednn_attention.serves(query):
            return onednn_attention.scatter(key, query, value)
        out = _fused_over_queries(query, key, value)
        return scatter(key, query, value) if out is None else out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = ctx.saved_tensors  # type: ignore[attr-defined]
        args = key, query, value, grad_out.contiguous()
        with _without_autocast(query.device.type):
            grad_key, grad_query, _, grad_value = _onednn_backward(*args) or fused_backward(*args) or backward(*args)
        return grad_query, grad_key, grad_value


def _onednn_backward(row: Tensor, col: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Compute what `backward` does by `onednn_attention`, but for y; None where it does not serve."""
    if not onednn_attention.differentiates(row):
        return None
    log_norm = row.new_empty(row.shape[:2])
    out = onednn_attention.gather(row, col, y, log_norm)
    return *onednn_attention.backward(row, col, x, y, out, log_norm, of_y=False), out


def _fused_over_queries(query: Tensor, key: Tensor, value: Tensor) -> Tensor | None:
    """Two passes of torch's fused kernel, or None where there is none for the device, type or size."""
    run = fused_scatter if _cpu_kernel_serves(query) else two_passes.scatter_for(query)
    return None if run is None else _unless_refused(lambda: run(key, query, value))


def _unless_refused(kernel: Callable[[], Tensor]) -> Tensor | None:
    """What a kernel gives, or None where it refuses its arguments."""
    try:
        return kernel()
    except RuntimeError as error:  # "No available kernel"
        if is_out_of_memory(error):
            raise
        return None


def _cpu_kernel_serves(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and _CPU_FORWARD is not None and private_allowed()


def _needs_gradient(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def fused_scatter(row: Tensor, col: Tensor, x: Tensor) -> Tensor:
    """Compute Wᵀ x with torch's CPU kernel."""
    return two_passes.by_bias(row, col, x, _cpu_attend)


def _cpu_attend(query: Tensor, key: Tensor, value: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    mask = None if shift is None else shift[:, None, None].contiguous()
    out, log_sum = _CPU_FORWARD(query, key, value, attn_mask=mask, scale=1.0)  # the second float32 also for bfloat16
    return out, log_sum.squeeze(1)


def fused_backward(row: Tensor, col: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Compute what `backward` does as the gradient of torch's fused kernel, or None where there is none."""
    with torch.enable_grad():
        inputs = [tensor.detach().requires_grad_() for tensor in (row, col, y)]
        out = _fused_over_keys(*inputs)
    if out is None:
        return None
    grad_row, grad_col, grad_y = torch.autograd.grad(out, inputs, x)
    return grad_row, grad_col, grad_y, out.detach()


def _weights(row: Tensor, col: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of rows of W, (B, block, M), in float32 or wider: narrow logits would be wrong by whole units."""
    wide = torch.promote_types(row.dtype, torch.float32)
    col_t = col.to(wide).transpose(1, 2)
    values = _BLOCK_VALUES.get(row.device.type, _BLOCK_VALUES_ELSEWHERE)
    step = max(1, values // (col.shape[0] * col.shape[1]))
    for start in range(0, row.shape[1], step):
        rows = slice(start, start + step)
        yield rows, torch.softmax(row[:, rows].to(wide) @ col_t, dim=-1)


def gather(row: Tensor, col: Tensor, y: Tensor) -> Tensor:
    """Compute W y, (B, N, C), in blocks of rows."""
    out = torch.empty_like(row[..., :1]).expand(-1, -1, y.shape[2]).contiguous()
    for rows, weight in _weights(row, col):
        out[:, rows] = (weight @ y.to(weight)).to(out.dtype)
    return out


def scatter(row: Tensor, col: Tensor, x: Tensor) -> Tensor:
    """Compute Wᵀ x, (B, M, C), in blocks of rows."""
    out = None
    for rows, weight in _weights(row, col):
        part = weight.transpose(1, 2) @ x[:, rows].to(weight)
        out = part if out is None else out.add_(part)
    assert out is not None
    return out.to(x.dtype)


def backward(row: Tensor, col: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of Σ x_r · W_rc y_c with respect to row, col and y, and W y, which is the one for x."""
    wide = torch.promote_types(row.dtype, torch.float32)
    grad_col, grad_y = (torch.zeros_like(tensor, dtype=wide) for tensor in (col, y))
    grad_row, grad_x = torch.empty_like(row), torch.empty_like(x)
    col, y = col.to(wide), y.to(wide)
    for rows, weight in _weights(row, col):
        x_rows = x[:, rows].to(wide)
        out = weight @ y
        grad_x[:, rows] = out.to(x.dtype)
        grad_y += weight.transpose(1, 2) @ x_rows
        # Softmax backward: dS = W (dW - Σ_c W dW), and that sum is x_r · (W y)_r.
        grad_logit = (x_rows @ y.transpose(1, 2)).sub_((x_rows * out).sum(-1, keepdim=True)).mul_(weight)
        grad_row[:, rows] = (grad_logit @ col).to(row.dtype)
        grad_col += grad_logit.transpose(1, 2) @ row[:, rows].to(wide)
    return grad_row, grad_col.to(row.dtype), grad_y.to(x.dtype), grad_x
