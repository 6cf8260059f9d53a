"""Attention of all pairs in float32 on the CPU with oneDNN's products, in blocks; forward alone.

W, never held whole, is the softmax over the columns of `row @ colᵀ`. Faster than torch's fused kernel by its products'
rate, and because exponentials to the base of 2 cost a third of those to the base of e.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_LINEAR: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)

# Values of a block of W, 4 MB that stay in cache; rows that make a product worthwhile; columns of a block.
_BLOCK_VALUES, _ROWS, _COLUMNS = 2**20, 64, 2**10
# A scatter needs a row's sum before its weights are of use: it keeps whole rows up to this length, and goes through
# longer ones twice, because caches do not hold enough of them.
_LONGEST = 2**14
_LOG2_E = math.log2(math.e)
# Below this exponent a weight is nothing in float32, but takes exp2 several times as long.
_LEAST = -126.0


def serves(tensor: Tensor) -> bool:
    """Whether this version of torch, the device and the type allow it."""
    available = _LINEAR is not None and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and tensor.device.type == "cpu" and tensor.dtype == torch.float32


@torch.compiler.disable  # type: ignore[untyped-decorator]
def gather(row: Tensor, col: Tensor, y: Tensor) -> Tensor:
    """Compute W y.

    Args:
        row: (B, N, C), float32 on the CPU.
        col: (B, N, C).
        y: (B, N, C).

    Returns:
        (B, N, C), without gradient.
    """
    out = torch.empty_like(y)
    for item in zip(row, col, y, out, strict=True):
        _gather_rows(*item)
    return out


def scatter(row: Tensor, col: Tensor, x: Tensor) -> Tensor:
    """Compute Wᵀ x, of the shapes of `gather`."""
    add = _add_whole_rows if col.shape[1] <= _LONGEST else _add_long_rows
    out = x.new_zeros(x.shape[0], x.shape[2], col.shape[1])  # transposed: a block of W adds to all positions
    for item in zip(out, row, col, x, strict=True):
        add(*item)
    return out.transpose(1, 2)


def _gather_rows(row: Tensor, col: Tensor, y: Tensor, out: Tensor) -> None:
    """Write W y, (N, C), to `out`, in blocks of rows and columns of W."""
    cols, values = torch.split(col, _COLUMNS), torch.split(y, _COLUMNS)
    step = _rows_of_a_block(min(len(col), _COLUMNS))
    for rows, out_part in zip(torch.split(row, step), torch.split(out, step), strict=True):
        sums = _RowSums(rows * _LOG2_E, y.shape[1])
        for col_part, value in zip(cols, values, strict=True):
            sums.add(col_part, value)
        torch.div(sums.total, sums.norm, out=out_part)


def _add_whole_rows(sums: Tensor, row: Tensor, col: Tensor, x: Tensor) -> None:
    """Add (Wᵀ x)ᵀ to `sums`, (C, N), in blocks of rows of W."""
    step = _rows_of_a_block(len(col))
    for rows, x_part in zip(torch.split(row, step), torch.split(x, step), strict=True):
        sums.add_(_scatter_block(rows * _LOG2_E, col, x_part))


def _add_long_rows(sums: Tensor, row: Tensor, col: Tensor, x: Tensor) -> None:
    """Do what `_add_whole_rows` does in blocks of columns too: once for the rows' sums, once for the weights."""
    cols, parts = torch.split(col, _COLUMNS), torch.split(sums, _COLUMNS, dim=1)
    step = _rows_of_a_block(_COLUMNS)
    for rows, x_part in zip(torch.split(row, step), torch.split(x, step), strict=True):
        row_sums = _RowSums(rows * _LOG2_E)
        for col_part in cols:
            row_sums.add(col_part)
        x_t = x_part.t().contiguous()
        for col_part, part in zip(cols, parts, strict=True):
            part.add_(_linear(x_t, row_sums.shares(col_part)))


def _rows_of_a_block(columns: int) -> int:
    return max(_ROWS, _BLOCK_VALUES // columns)


def _scatter_block(row: Tensor, col: Tensor, x: Tensor) -> Tensor:
    """Compute (Wᵀ x)ᵀ for a few rows, multiplied by log₂ e."""
    logit = _linear(row, col)
    weight = _exp2(logit.sub_(logit.amax(1, keepdim=True)))
    return _linear((x / weight.sum(1, keepdim=True)).t().contiguous(), weight.t())


class _RowSums:
    """Sums over the columns of exponentials, and of their products with values, relative to each row's largest so far.

    Rows are already multiplied by log₂ e. No block outlives its addition, so that the next one gets the same memory:
    new pages for each would cost more than the products.
    """

    def __init__(self, row: Tensor, width: int = 0) -> None:
        self._row = row
        self._largest = row.new_full((len(row), 1), -torch.inf)
        self.norm, self.total = row.new_zeros(len(row), 1), row.new_zeros(len(row), width)

    def add(self, col: Tensor, value: Tensor | None = None) -> None:
        """Add a block of columns, (columns, C), with their values, (columns, width)."""
        logit = _linear(self._row, col)
        largest = torch.maximum(self._largest, logit.amax(1, keepdim=True))
        weight, scale = _exp2(logit.sub_(largest)), torch.exp2(self._largest - largest)
        self.norm.mul_(scale).add_(weight.sum(1, keepdim=True))
        if value is not None:
            self.total.mul_(scale).add_(_linear(weight, value.t()))
        self._largest = largest

    def shares(self, col: Tensor) -> Tensor:
        """Transposed weights of a block of columns, (columns, rows), once all have been added."""
        shift = (self._largest + self.norm.log2()).squeeze(1)
        return _exp2(_linear(col, self._row, -shift))


def _exp2(logit: Tensor) -> Tensor:
    """2 to the power of the logits, in place; NaN stays."""
    return logit.clamp_(min=_LEAST).exp2_()


def _linear(matrix: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `matrix @ weightᵀ + bias`; with some CPUs twice as fast as torch's own product.

    What is not contiguous should be the transpose of what is: for other strides oneDNN has slow reference code alone.
    """
    return _LINEAR(matrix, weight, bias, "none", [], "")
