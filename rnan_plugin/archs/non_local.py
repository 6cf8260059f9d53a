"""Non-local block of RNAN (Zhang et al., ICLR 2019, Fig. 3 and Eq. 3–5), exact and in linear memory.

The pairwise weights of an image with N positions are an N×N matrix: 618 GB in float32 for one 768×512 image. Nothing
here ever holds it. With the softmax over the keys (the paper's Eq. 5) the block is scaled dot-product attention with
scale 1, which torch computes without the matrix. With the softmax over the queries (the released code) each key has its
own normaliser, so that one pass over blocks of keys sees whole rows of the transposed matrix and needs no second pass.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

SoftmaxOver = Literal["keys", "queries"]

# Values of one block of rows: 2^18 floats are 1 MB, so a block stays in a core's cache between product and softmax.
_BLOCK_VALUES = 2**18


def _row_blocks(num_row: int, num_col: int) -> list[slice]:
    """Split rows into blocks of at most `_BLOCK_VALUES` values (at least one row each)."""
    step = max(1, _BLOCK_VALUES // num_col)
    return [slice(start, min(start + step, num_row)) for start in range(0, num_row, step)]


class _TransposedAttention(torch.autograd.Function):
    """y_i = Σ_j softmax_i(query_i · key_j) value_j for (B, N, C) tensors, in blocks of keys."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, value)
        out = query.new_zeros(*query.shape[:2], value.shape[2])
        query_t = query.transpose(1, 2)
        for rows in _row_blocks(key.shape[1], query.shape[1]):
            weight = torch.softmax(key[:, rows] @ query_t, dim=-1)  # (B, block, N): column i of row j is w_ij
            out.baddbmm_(weight.transpose(1, 2), value[:, rows])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_query = torch.zeros_like(query)
        grad_key = torch.empty_like(key)
        grad_value = torch.empty_like(value)
        query_t, grad_out_t = query.transpose(1, 2), grad_out.transpose(1, 2)
        for rows in _row_blocks(key.shape[1], query.shape[1]):
            weight = torch.softmax(key[:, rows] @ query_t, dim=-1)
            torch.bmm(weight, grad_out, out=(block := grad_value[:, rows].contiguous()))
            grad_value[:, rows] = block
            # Softmax backward: dS = W * (dW - Σ_i W dW), and Σ_i w_ij dw_ij = value_j · grad_value_j.
            mean = (value[:, rows] * block).sum(dim=-1, keepdim=True)
            grad_logit = (value[:, rows] @ grad_out_t).sub_(mean).mul_(weight)
            grad_key[:, rows] = grad_logit @ query
            grad_query.baddbmm_(grad_logit.transpose(1, 2), key[:, rows])
        return grad_query, grad_key, grad_value


def non_local_attention(query: Tensor, key: Tensor, value: Tensor, softmax_over: SoftmaxOver) -> Tensor:
    """Weighted sum of all positions, the weights being a softmax of dot products; memory is linear in N.

    Args:
        query: (B, N, C), the embedding u(x_i) of Eq. 4.
        key: (B, N, C), the embedding v(x_j) of Eq. 4.
        value: (B, N, C), the embedding g(x_j).
        softmax_over: "keys" normalises over j (Eq. 3–5), "queries" over i (the released code).

    Returns:
        (B, N, C), without N×N intermediate values, forward or backward.
    """
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    if softmax_over == "queries":
        return _TransposedAttention.apply(query, key, value)
    # torch takes its N×N path without a word when the last dimension is not contiguous, hence the calls above.
    query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)  # one head
    return F.scaled_dot_product_attention(query, key, value, scale=1.0).squeeze(1)


class NonLocalBlock(nn.Module):
    """z = W_z · attention(x) + x, with embeddings of half the features (Fig. 3: C = 32 of 64).

    Args:
        num_feat: Features of input and output.
        softmax_over: See `non_local_attention`.

    Raises:
        ValueError: `softmax_over` is neither "keys" nor "queries".
    """

    def __init__(self, num_feat: int, softmax_over: SoftmaxOver = "keys") -> None:
        super().__init__()
        if softmax_over not in get_args(SoftmaxOver):
            raise ValueError(f"softmax_over is '{softmax_over}', legal are {get_args(SoftmaxOver)}")
        self.softmax_over: SoftmaxOver = softmax_over
        num_embed = max(1, num_feat // 2)
        self.theta = nn.Conv2d(num_feat, num_embed, 1)  # queries
        self.phi = nn.Conv2d(num_feat, num_embed, 1)  # keys
        self.g = nn.Conv2d(num_feat, num_embed, 1)  # values
        self.w = nn.Conv2d(num_embed, num_feat, 1)
        # Zero, so that the block starts as the identity (end of section 3.2.3).
        nn.init.zeros_(self.w.weight)
        nn.init.zeros_(self.w.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, num_feat, H, W) to the same shape."""
        query, key, value = (embed(x).flatten(2).transpose(1, 2) for embed in (self.theta, self.phi, self.g))
        y = non_local_attention(query, key, value, self.softmax_over)  # (B, H*W, num_feat/2)
        return self.w(y.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])) + x
