"""BasicSR's MSRResNet for restoration at the input's size, which BasicSR's own fails to build."""

from __future__ import annotations

from rnan_plugin.toolbox.api import ARCH_REGISTRY, MSRResNet


@ARCH_REGISTRY.register()
class MSRResNetX1(MSRResNet):
    """MSRResNet without upsampler: the same layers otherwise, and the input itself as the global skip.

    Args:
        num_in_ch: Channels of the LQ image.
        num_out_ch: Channels of the restored image.
        num_feat: Features of all layers.
        num_block: Residual blocks.
    """

    def __init__(self, num_in_ch: int = 3, num_out_ch: int = 3, num_feat: int = 64, num_block: int = 16) -> None:
        # Built for ×2, because the toolbox initialises an upsampler whether there is one or not.
        super().__init__(num_in_ch, num_out_ch, num_feat, num_block, upscale=2)
        del self.upconv1, self.pixel_shuffle
        self.upscale = 1
