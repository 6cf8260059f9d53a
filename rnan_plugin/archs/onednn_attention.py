"""Attention of all pairs in float32 on the CPU with oneDNN's products, in blocks, and its gradients.

W, never held whole, is the softmax over the columns of `row @ colᵀ`. Faster than torch's fused kernel by its
products' rate, and because exponentials to the base of 2 cost a third of those to the base of e: blocks of rows
are multiplied by log₂ e.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rnan_plugin.archs.kernels import has_matrix_tiles, private_allowed

_LINEAR: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)

# Values of a block of W, 4 MB that stay in cache (8 MB of the longest rows); fewest rows, which make a product
# worthwhile; columns of a block, whose number is no power of 2: the second product took twice as long with 1024 of them
# (AMD EPYC with AVX-512; 384 to 4096 others were within 5 % of one another).
_BLOCK_VALUES, _ROWS, _COLUMNS = 2**20, 64, 3 * 2**8
# Rows of a block of the backward pass, which holds two blocks, each of less than 2 MB: for larger ones the system's
# allocator fetched new pages each time. No power of 2 either.
_BACKWARD_ROWS = 9 * 2**6
_THREADS = 2  # at most, for backward passes
# A scatter needs a row's sum before its weights are of use: it keeps whole rows up to this length, and goes through
# longer ones twice, because caches do not hold enough of them.
_LONGEST = 2**15
_LOG2_E = math.log2(math.e)
# Logits known to be no larger than this, to the base of 2, need not be compared: neither their exponentials nor sums of
# values weighted by those leave float32's range.
_BOUND = 30.0
# Below this exponent a weight is nothing in float32, but takes exp2 several times as long.
_LEAST = -126.0


def serves(tensor: Tensor) -> bool:
    """Whether this version of torch, the device and the type allow it."""
    available = _LINEAR is not None and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and tensor.device.type == "cpu" and tensor.dtype == torch.float32 and private_allowed()


def differentiates(tensor: Tensor) -> bool:
    """Whether it serves backward passes faster than torch's fused kernel.

    That shares the positions among the threads, here the threads share each product: with one thread it takes about
    twice as long as this, with two 1.2 to 1.5 times; with more it was not measured, and gains on it. On processors with
    matrix tiles it takes half as long as this, with one thread or two.
    """
    return serves(tensor) and torch.get_num_threads() <= _THREADS and not has_matrix_tiles()


def gather(row: Tensor, col: Tensor, y: Tensor, log_norm: Tensor | None = None) -> Tensor:
    """Compute W y.

    Args:
        row: (B, N, C), float32 on the CPU.
        col: (B, M, C).
        y: (B, M, C).
        log_norm: (B, N), takes the logarithms to the base of 2 of the sums of each row's exponentials.

    Returns:
        (B, N, C), without gradient.
    """
    out = y.new_empty(*row.shape[:2], y.shape[2])
    for item in range(len(row)):
        _gather_rows(row[item], col[item], y[item], out[item], None if log_norm is None else log_norm[item])
    return out


def scatter(row: Tensor, col: Tensor, x: Tensor) -> Tensor:
    """Compute Wᵀ x, (B, M, C), for x of (B, N, C) and the others of `gather`."""
    add = _add_short_rows if col.shape[1] <= _LONGEST else _add_long_rows
    out = x.new_zeros(*col.shape[:2], x.shape[2])
    for item in zip(row, col, x, out, strict=True):
        add(*item)
    return out


def _bounded(row: Tensor, col: Tensor) -> bool:
    """Whether no logit of the rows and columns exceeds `_BOUND`, by their lengths; False with NaN among them."""
    return bool(_LOG2_E * row.norm(dim=1).max() * col.norm(dim=1).max() <= _BOUND)


def _rows_of_a_block(columns: int) -> int:
    """A multiple of `_ROWS`, because reductions over columns are several times slower for odd numbers of rows."""
    return _ROWS * math.ceil(_BLOCK_VALUES / columns / _ROWS)


def _gather_rows(row: Tensor, col: Tensor, y: Tensor, out: Tensor, log_norm: Tensor | None) -> None:
    """Write W y, (N, C), to `out`, and what it was normalised by, in blocks of rows and columns of W."""
    cols, values = torch.split(col, _COLUMNS), torch.split(y, _COLUMNS)
    step, bounded = _rows_of_a_block(min(len(col), _COLUMNS)), _bounded(row, col)
    for start in range(0, len(row), step):
        rows = slice(start, start + step)
        sums = _RowSums(row[rows] * _LOG2_E, bounded, y.shape[1])
        for col_part, value in zip(cols, values, strict=True):
            sums.add(col_part, value)
        torch.div(sums.total, sums.norm, out=out[rows])
        if log_norm is not None:
            log_norm[rows] = sums.log_norm()


def backward(
    row: Tensor, col: Tensor, x: Tensor, y: Tensor, out: Tensor, log_norm: Tensor, *, of_y: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of Σ x_r · W_rc y_c with respect to row, col and y.

    Args:
        row: (B, N, C), as of `gather`.
        col: (B, M, C).
        x: (B, N, C).
        y: (B, M, C).
        out: (B, N, C), what `gather` gave.
        log_norm: (B, N), what `gather` filled.
        of_y: False leaves the gradient of y zero.

    Returns:
        Of the shapes of row, col and y.
    """
    grad_row, grad_col, grad_y = torch.empty_like(row), torch.zeros_like(col), torch.zeros_like(y)
    for item in range(len(row)):
        for start in range(0, row.shape[1], _BACKWARD_ROWS):
            rows = slice(start, start + _BACKWARD_ROWS)
            of_rows = row[item, rows], x[item, rows], out[item, rows], log_norm[item, rows]
            of_all = col[item], y[item], grad_col[item], grad_y[item] if of_y else None
            grad_row[item, rows] = _backward_rows(*of_rows, *of_all)
    return grad_row, grad_col, grad_y


def _backward_rows(
    row: Tensor,
    x: Tensor,
    out: Tensor,
    log_norm: Tensor,
    col: Tensor,
    y: Tensor,
    grad_col: Tensor,
    grad_y: Tensor | None,
) -> Tensor:
    """Gradient of a block of rows, (rows, C); its part of the others' is added to them."""
    base2, row_t, grad_row_t = row * _LOG2_E, row.t(), torch.zeros_like(row.t())
    x_t = (x + 0 * log_norm.unsqueeze(1)).t()  # NaN, which `_shares` loses
    # Softmax backward: dS = W (dW - Σ_c W dW), and that sum is x_r · (W y)_r.
    shift = -(x * out).sum(1)
    for start in range(0, len(col), _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        weight = _shares(base2, col[columns], log_norm)
        if grad_y is not None:
            grad_y[columns] += _linear(weight, x_t)
        grad_logit = _LINEAR(y[columns], x, shift, "none", [], "").mul_(weight)
        grad_col[columns] += _linear(grad_logit, row_t)
        grad_row_t += _linear(col[columns].t().contiguous(), grad_logit.t())
    return grad_row_t.t()


def _add_short_rows(row: Tensor, col: Tensor, x: Tensor, out: Tensor) -> None:
    """Add Wᵀ x to `out`, (N, C), in blocks of whole rows of W."""
    step, bounded = _rows_of_a_block(len(col)), _bounded(row, col)
    for rows, x_part in zip(torch.split(row, step), torch.split(x, step), strict=True):
        out.add_(_scatter_block(rows * _LOG2_E, col, x_part, bounded))


def _scatter_block(row: Tensor, col: Tensor, x: Tensor, bounded: bool) -> Tensor:
    logit = _linear(col, row)  # transposed
    if not bounded:
        logit.sub_(logit.amax(0)).clamp_(min=_LEAST)
    weight = logit.exp2_()
    return _linear(weight, (x / weight.sum(0).unsqueeze(1)).t())


def _add_long_rows(row: Tensor, col: Tensor, x: Tensor, out: Tensor) -> None:
    """Do what `_add_short_rows` does in blocks of columns too: once for the rows' sums, once for the weights."""
    cols, parts = torch.split(col, _COLUMNS), torch.split(out, _COLUMNS)
    step, bounded = _rows_of_a_block(_COLUMNS), _bounded(row, col)
    for rows, x_part in zip(torch.split(row, step), torch.split(x, step), strict=True):
        base2 = rows * _LOG2_E
        sums = _RowSums(base2, bounded)
        for col_part in cols:
            sums.add(col_part)
        log_norm = sums.log_norm()
        x_t = (x_part + 0 * log_norm.unsqueeze(1)).t()  # NaN, which `_shares` loses
        for col_part, part in zip(cols, parts, strict=True):
            part.add_(_linear(_shares(base2, col_part, log_norm), x_t))


def _shares(row: Tensor, col: Tensor, log_norm: Tensor) -> Tensor:
    """Weights of a block of columns, transposed: (columns, rows)."""
    # "hardtanh" clips; oneDNN's takes NaN for the lower end.
    return _LINEAR(col, row, -log_norm, "hardtanh", [_LEAST, 0.0], "").exp2_()


class _RowSums:
    """Sums over the columns of exponentials, and of their products with values, for each row.

    They are relative to each row's largest logit so far, unless all are bounded. No block outlives its addition, so
    that the next one gets the same memory: new pages for each would cost more than the products.
    """

    def __init__(self, row: Tensor, bounded: bool, width: int = 0) -> None:
        self._row, self._bounded = row, bounded
        self._largest = row.new_full((len(row), 1), 0 if bounded else -torch.inf)
        self.norm, self.total = row.new_zeros(len(row), 1), row.new_zeros(len(row), width)

    def add(self, col: Tensor, value: Tensor | None = None) -> None:
        """Add a block of columns, (columns, C), with their values, (columns, width)."""
        logit = _linear(self._row, col)
        if not self._bounded:
            self._shift(logit)
        weight = logit.exp2_()
        self.norm.add_(weight.sum(1, keepdim=True))
        if value is not None:
            self.total.add_(_linear(weight, value.t()))

    def _shift(self, logit: Tensor) -> None:
        """Make logits, and the sums so far, relative to the largest of both; NaN stays."""
        largest = torch.maximum(self._largest, logit.amax(1, keepdim=True))
        logit.sub_(largest).clamp_(min=_LEAST)
        scale = torch.exp2(self._largest - largest)
        self.norm.mul_(scale)
        self.total.mul_(scale)
        self._largest = largest

    def log_norm(self) -> Tensor:
        """Logarithms of the sums, (rows,)."""
        return (self._largest + self.norm.log2()).squeeze(1)


def _linear(matrix: Tensor, weight: Tensor) -> Tensor:
    """Compute `matrix @ weightᵀ`; with some CPUs twice as fast as torch's own product.

    A matrix that is not contiguous goes through slow reference code of oneDNN; a weight may be a transpose.
    """
    return _LINEAR(matrix, weight, None, "none", [], "")
