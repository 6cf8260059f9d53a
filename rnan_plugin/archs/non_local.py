"""Non-local block of RNAN (Zhang et al., ICLR 2019, Fig. 3 and Eq. 3–5), exact and in linear memory."""

from __future__ import annotations

from typing import get_args

from torch import Tensor, nn

from rnan_plugin.archs.attention import SoftmaxOver, non_local_attention
from rnan_plugin.archs.exported import exported_attention, is_exporting
from rnan_plugin.archs.untraced import untraced


class NonLocalBlock(nn.Module):
    """z = W_z · attention(x) + x, with embeddings of half the features (Fig. 3: C = 32 of 64).

    The matrix of all pairs (618 GB in float32 for one 768×512 image) is never made.

    Args:
        num_feat: Features of input and output.
        softmax_over: "keys" (Eq. 5) or "queries" (the released code); see `non_local_attention`.

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
        attention = self._exported if is_exporting() else self._attention
        return self.w(attention(self.theta(x), self.phi(x), self.g(x))) + x

    # The maps are flattened in here because views of dynamic size between what is compiled and what is not make torch
    # 2.14's compiler fail.
    def _attention(self, *embeddings: Tensor) -> Tensor:
        """Attention between all positions of query, key and value maps, (B, num_feat/2, H, W) each."""
        query, key, value = (embedding.flatten(2).transpose(1, 2) for embedding in embeddings)
        y = non_local_attention(query, key, value, self.softmax_over)  # (B, H*W, num_feat/2)
        return y.transpose(1, 2).reshape(embeddings[0].shape)

    def _exported(self, *embeddings: Tensor) -> Tensor:
        """What `_attention` computes, in a graph for other programs."""
        query, key, value = (embedding.flatten(2).transpose(1, 2) for embedding in embeddings)
        y = exported_attention(query, key, value, self.softmax_over)
        return y.transpose(1, 2).reshape(embeddings[0].shape)


untraced(NonLocalBlock, "_attention")  # there is nothing to gain around kernels that the compiler cannot trace
