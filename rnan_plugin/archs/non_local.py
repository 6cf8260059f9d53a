"""Non-local block of RNAN (Zhang et al., ICLR 2019, Fig. 3 and Eq. 3–5), exact and in linear memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

from torch import Tensor, nn

from rnan_plugin.archs.attention import SoftmaxOver, non_local_attention
from rnan_plugin.archs.exported import exported_attention, is_exporting
from rnan_plugin.archs.untraced import untraced
from rnan_plugin.archs.windows import attention_in_windows, window_side


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
        embeddings = (self.theta(x), self.phi(x), self.g(x))
        if is_exporting():  # in a graph for other programs
            return self.w(_over_positions(exported_attention, embeddings, self.softmax_over)) + x
        return self.w(self._attention(*embeddings)) + x

    # There is nothing to gain around kernels that the compiler cannot trace. The maps are flattened in here because
    # views of dynamic size between what is compiled and what is not make torch 2.14's compiler fail.
    @untraced
    def _attention(self, *embeddings: Tensor) -> Tensor:
        """Attention between positions of query, key and value maps, (B, num_feat/2, H, W) each: all, or in windows."""
        if self.softmax_over == "keys" and (side := window_side()):
            query, key, value = embeddings
            return attention_in_windows(query, key, value, side)
        return _over_positions(non_local_attention, embeddings, self.softmax_over)


def _over_positions(attention: Callable[..., Tensor], maps: Sequence[Tensor], softmax_over: SoftmaxOver) -> Tensor:
    """Attention of maps (B, C, H, W), as such a map, by a function of matrices (B, H*W, C)."""
    query, key, value = (embedding.flatten(2).transpose(1, 2) for embedding in maps)
    return attention(query, key, value, softmax_over).transpose(1, 2).reshape(maps[0].shape)
