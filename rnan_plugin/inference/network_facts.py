"""What a network tells of itself: channels, scale, and the sizes that it takes."""

from __future__ import annotations

from torch import Tensor, nn

from rnan_plugin.inference.tiling import Network

# Side of the blocks of pixels that BasicSR's RRDBNet makes channels before its first convolution, by its scale.
_UNSHUFFLED = {1: 4, 2: 2}


def scale_of(net: Network) -> int | None:
    """What a network enlarges by, if it tells: as RNAN and most of BasicSR's do."""
    told = getattr(net, "upscale", None)
    return told if isinstance(told, int) else None


def size_multiple_of(net: Network) -> int:
    """What height and width have to be multiples of: the windows of a network such as SwinIR; 1 for others."""
    modules = net.modules() if isinstance(net, nn.Module) else ()
    sides = [getattr(module, "window_size", 1) for module in modules]
    return max((side for side in sides if isinstance(side, int)), default=1) * _unshuffled(net)


def channels_in(net: nn.Module) -> int | None:
    """Channels of the images that a network takes, by its first convolution; None without any."""
    first: Tensor | None = next((weight for weight in net.parameters() if weight.ndim == 4), None)
    return None if first is None else first.shape[1] // _unshuffled(net) ** 2


def _unshuffled(net: object) -> int:
    return _UNSHUFFLED.get(getattr(net, "scale", 0), 1) if type(net).__name__ == "RRDBNet" else 1
