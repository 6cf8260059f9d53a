"""RNAN: Residual Non-local Attention Networks for Image Restoration.

Zhang, Li, Li, Zhong, Fu, ICLR 2019, https://openreview.net/forum?id=HkeGhoA5FX

The defaults are the paper's text (section 3.4). Where the released code differs from the text, an argument says so;
`RELEASED` holds the released values of those arguments. Differences from both: any height and width from 1 up (the
released network needs even ones), images in and out in [0, 1], and attention in linear memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from rnan_plugin.archs.attention import SoftmaxOver
from rnan_plugin.archs.fused import conv_add, conv_relu, conv_sigmoid
from rnan_plugin.archs.non_local import NonLocalBlock

AttentionResidual = Literal["input", "identity"]

# Mean RGB of DIV2K in [0, 1], which the released super-resolution networks subtract and add.
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)

# What the released code does otherwise than the paper's text, as arguments of `RNAN`.
RELEASED: dict[str, Any] = {
    "softmax_over": "queries",
    "num_head_res": 1,
    "conv_after_block": True,
    "upscale_kernel": 6,
    "mask_skip": True,
    "img_range": 255.0,
}

# 1 restores at the input's size, the others are the super-resolution form.
UPSCALES = (1, 2, 3, 4)


class ResBlock(nn.Module):
    """Simplified residual block (section 3.2.1): x + conv(ReLU(conv(x)))."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, num_feat, H, W) to the same shape."""
        return conv_add(self.conv2, conv_relu(self.conv1, x), x)


def _res_blocks(count: int, num_feat: int) -> nn.Sequential:
    return nn.Sequential(*(ResBlock(num_feat) for _ in range(count)))


class MaskBranch(nn.Module):
    """Hourglass that turns features into mixed attention in (0, 1) (section 3.2.2); non-local for the RNAB.

    Args:
        num_feat: Features of input and output.
        num_res: m residual blocks before, 2m in, and m after the half-resolution part.
        non_local: The non-local block at full resolution, or None for a local mask branch.
        upscale_kernel: Size of the stride-2 deconvolution: 3 (text) or 6 (released).
        skip: Add the features before downscaling after upscaling (released).
    """

    def __init__(
        self, num_feat: int, num_res: int, non_local: nn.Module | None, *, upscale_kernel: int, skip: bool
    ) -> None:
        super().__init__()
        self.skip = skip
        self.non_local = non_local if non_local is not None else nn.Identity()
        self.head = _res_blocks(num_res, num_feat)
        self.down = nn.Conv2d(num_feat, num_feat, 3, stride=2, padding=1)
        self.bottleneck = _res_blocks(2 * num_res, num_feat)
        # Padding that doubles the size exactly, for odd and even kernels.
        self.up = nn.ConvTranspose2d(
            num_feat,
            num_feat,
            upscale_kernel,
            stride=2,
            padding=(upscale_kernel - 1) // 2,
            output_padding=upscale_kernel % 2,
        )
        self.tail = _res_blocks(num_res, num_feat)
        self.conv = nn.Conv2d(num_feat, num_feat, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, num_feat, H, W) to attention of the same shape; float16 is computed in float32.

        Nothing bounds what the sigmoid takes: trained branches reach 1e9, and float16 ends at 65504.
        """
        if x.dtype == torch.float16:
            narrow = {name: weight for name, weight in self.named_parameters() if weight.dtype == x.dtype}
            with torch.autocast(x.device.type, enabled=False):
                wide = {name: weight.float() for name, weight in narrow.items()}
                attention: Tensor = functional_call(self, wide, (x.float(),))
            return attention.to(x.dtype)
        height, width = x.shape[2:]
        feat = self.head(self.non_local(x))
        up = self.up(self.bottleneck(self.down(feat)))[:, :, :height, :width]  # down: (B, C, ceil(H/2), ceil(W/2))
        if self.skip:
            up = up + feat
        return conv_sigmoid(self.conv, self.tail(up))


class AttentionBlock(nn.Module):
    """Residual (non-)local attention block (Fig. 2): q residual blocks, trunk and mask branch, q residual blocks.

    Args:
        num_feat: Features of input and output.
        num_head_res: Residual blocks before the branches.
        num_trunk_res: Residual blocks of the trunk branch.
        num_tail_res: Residual blocks after the branches.
        mask: The mask branch, or None (ablation).
        trunk_non_local: Put in front of the trunk branch (ablation without mask branch), or None.
        attention_residual: "input" is Eq. 8, trunk·mask + x; "identity" is Eq. 7, trunk·(mask + 1).
    """

    def __init__(
        self,
        num_feat: int,
        *,
        num_head_res: int,
        num_trunk_res: int,
        num_tail_res: int,
        mask: MaskBranch | None,
        trunk_non_local: NonLocalBlock | None,
        attention_residual: AttentionResidual,
    ) -> None:
        super().__init__()
        self.attention_residual = attention_residual
        self.head = _res_blocks(num_head_res, num_feat)
        self.trunk = _res_blocks(num_trunk_res, num_feat)
        self.mask = mask
        self.trunk_non_local = trunk_non_local
        self.tail = _res_blocks(num_tail_res, num_feat)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, num_feat, H, W) to the same shape."""
        x = self.head(x)
        trunk = self.trunk(x if self.trunk_non_local is None else self.trunk_non_local(x))
        if self.mask is None:
            attended = trunk + x
        elif self.attention_residual == "identity":
            attended = trunk * (self.mask(x) + 1)
        else:
            attended = torch.addcmul(x, trunk, self.mask(x))
        return self.tail(attended)


class PixelShuffleTail(nn.Sequential):
    """Upscale features with sub-pixel convolutions and map them to an image: ×2 stages for 2^n, one stage for ×3."""

    def __init__(self, num_feat: int, num_out_ch: int, upscale: int) -> None:
        stages = [3] if upscale == 3 else [2] * (upscale.bit_length() - 1)
        layers: list[nn.Module] = []
        for stage in stages:
            layers += [nn.Conv2d(num_feat, num_feat * stage**2, 3, padding=1), nn.PixelShuffle(stage)]
        super().__init__(*layers, nn.Conv2d(num_feat, num_out_ch, 3, padding=1))


def non_local_positions(num_block: int, num_rnab: int) -> frozenset[int]:
    """Indices of the non-local blocks among all: spread evenly, first and last included.

    The paper places its two non-local blocks in "low-level and high-level feature space" (section 3.1).
    """
    if num_rnab <= 1:
        return frozenset(range(num_rnab))
    return frozenset(round(index * (num_block - 1) / (num_rnab - 1)) for index in range(num_rnab))


class RNAN(nn.Module):
    """Residual non-local attention network for colour, grey, and super-resolution restoration.

    Args:
        num_in_ch: Channels of the LQ image: 3 (RGB) or 1 (grey, Y).
        num_out_ch: Channels of the restored image; equal to `num_in_ch`.
        num_feat: Features of all layers; the non-local blocks embed in half of them.
        num_rab: Residual local attention blocks (text: 8).
        num_rnab: Residual non-local attention blocks (text: 2, the first and the last of all blocks).
        num_head_res: q at the beginning of each block (text: 2, released: 1).
        num_tail_res: q at the end of each block.
        num_trunk_res: t, residual blocks of the trunk branch.
        num_mask_res: m, residual blocks of the mask branch.
        softmax_over: Normalisation of the non-local blocks: "keys" (Eq. 5) or "queries" (released).
        conv_after_block: A 3×3 convolution after each block, and one more before a last non-local block (released).
        upscale_kernel: Kernel of the mask branch's deconvolution (text: 3, released: 6).
        mask_skip: Skip connection around the mask branch's half-resolution part (released).
        attention_residual: "input" for Eq. 8, "identity" for Eq. 7.
        mask_branch: False leaves the mask branches out (Table 1, cases 1 and 3); non-local blocks then stand in
            front of the trunk branches.
        non_local: False turns every RNAB into a RAB (Table 1, cases 1 and 2).
        upscale: 1 restores in pixel space (global residual); 2, 3 or 4 is the super-resolution form: skip in
            feature space and a pixel-shuffle tail.
        img_range: The network computes on images times this (released: 255). In and out stay in [0, 1].
        img_mean: Subtracted from the input and added to the output, in [0, 1]; None for no shift.

    Raises:
        ValueError: An argument outside the values named above.

    Source: RNAN (Zhang et al., ICLR 2019), section 3.
    """

    mean: Tensor
    checkpoint_blocks = False  # set it to keep no activations within blocks for the backward pass

    def __init__(  # noqa: PLR0913, PLR0917 - one argument for each choice of the paper and its release
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_rab: int = 8,
        num_rnab: int = 2,
        num_head_res: int = 2,
        num_tail_res: int = 2,
        num_trunk_res: int = 2,
        num_mask_res: int = 1,
        softmax_over: SoftmaxOver = "keys",
        conv_after_block: bool = False,
        upscale_kernel: int = 3,
        mask_skip: bool = False,
        attention_residual: AttentionResidual = "input",
        mask_branch: bool = True,
        non_local: bool = True,
        upscale: int = 1,
        img_range: float = 1.0,
        img_mean: Iterable[float] | None = None,
    ) -> None:
        super().__init__()
        _check_arguments(num_in_ch, num_out_ch, upscale, upscale_kernel, attention_residual)
        if min(num_feat, num_rab + num_rnab) < 1 or min(num_rab, num_rnab) < 0:
            raise ValueError(f"num_feat {num_feat}, num_rab {num_rab}, num_rnab {num_rnab}: need features and blocks")
        if min(residual := (num_head_res, num_tail_res, num_trunk_res, num_mask_res)) < 0:
            raise ValueError(f"num_head_res, num_tail_res, num_trunk_res, num_mask_res are {residual}: none is below 0")
        self.upscale = upscale
        self.img_range = img_range
        mean = tuple(img_mean) if img_mean is not None else (0.0,) * num_in_ch
        if len(mean) != num_in_ch:
            raise ValueError(f"img_mean has {len(mean)} values, num_in_ch is {num_in_ch}")
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)

        def attention_block(index: int) -> AttentionBlock:
            nlb = NonLocalBlock(num_feat, softmax_over) if non_local and index in non_local_at else None
            mask = MaskBranch(num_feat, num_mask_res, nlb, upscale_kernel=upscale_kernel, skip=mask_skip)
            return AttentionBlock(
                num_feat,
                num_head_res=num_head_res,
                num_trunk_res=num_trunk_res,
                num_tail_res=num_tail_res,
                mask=mask if mask_branch else None,
                trunk_non_local=None if mask_branch else nlb,
                attention_residual=attention_residual,
            )

        num_block = num_rab + num_rnab
        non_local_at = non_local_positions(num_block, num_rnab)
        body: list[nn.Module] = []
        for index in range(num_block):
            if conv_after_block and index == num_block - 1 and index in non_local_at and index > 0:
                body.append(nn.Conv2d(num_feat, num_feat, 3, padding=1))
            body.append(attention_block(index))
            if conv_after_block:
                body.append(nn.Conv2d(num_feat, num_feat, 3, padding=1))

        self.head = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.body = nn.Sequential(*body)
        self.tail = PixelShuffleTail(num_feat, num_out_ch, upscale)

    def start_as_identity(self) -> None:
        """Scale the last layer's weights down to a hundredth, for a training that begins with nothing.

        The first output is then the input (enlarged, the mean colour) instead of noise far from any image. What that
        noise costs to unlearn, at a high rate, is mostly paid by the mask branches: their sigmoids saturate early,
        after which neither they nor the trunks get a gradient. MSRResNet starts in the same way.
        """
        last: nn.Conv2d = self.tail[-1]  # type: ignore[assignment]
        with torch.no_grad():
            for parameter in last.parameters():
                parameter.mul_(0.01)

    def mask_parameters(self) -> list[nn.Parameter]:
        """Weights of the mask branches, their non-local blocks included: what may have a learning rate of its own."""
        masks = (module for module in self.modules() if isinstance(module, MaskBranch))
        return [parameter for mask in masks for parameter in mask.parameters()]

    def forward(self, x: Tensor) -> Tensor:
        """Restore (B, num_in_ch, H, W) in [0, 1] to (B, num_out_ch, H*upscale, W*upscale); not clipped."""
        x = (x - self.mean) * self.img_range
        shallow = self.head(x)
        deep = self._recomputed(shallow) if self.checkpoint_blocks and torch.is_grad_enabled() else self.body(shallow)
        restored = self.tail(deep + shallow) if self.upscale > 1 else self.tail(deep) + x
        return restored / self.img_range + self.mean

    def _recomputed(self, feat: Tensor) -> Tensor:
        """The body, each block of which runs again in the backward pass."""
        for block in self.body:
            feat = checkpoint(block, feat, use_reentrant=False)
        return feat


def _check_arguments(
    num_in_ch: int, num_out_ch: int, upscale: int, upscale_kernel: int, attention_residual: str
) -> None:
    if upscale not in UPSCALES:
        raise ValueError(f"upscale is {upscale}, legal are 1 (restoration), 2, 3 and 4 (super-resolution)")
    if num_in_ch != num_out_ch:
        raise ValueError(f"num_in_ch is {num_in_ch} but num_out_ch {num_out_ch}: RNAN restores like to like")
    if upscale_kernel < 2:
        raise ValueError(f"upscale_kernel is {upscale_kernel}, must be at least 2 to cover a stride of 2")
    if attention_residual not in {"input", "identity"}:
        raise ValueError(f"attention_residual is '{attention_residual}', legal are 'input' and 'identity'")
