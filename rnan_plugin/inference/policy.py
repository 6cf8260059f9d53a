"""Whole images through a network: in one pass, in tiles, or as the release did; without BasicSR."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rnan_plugin.choices import POLICIES, PolicyName
from rnan_plugin.device import available_bytes, is_out_of_memory
from rnan_plugin.errors import UserError
from rnan_plugin.inference.tiling import RELEASE_PIXELS, RELEASE_SHAVE, Network, halved, tiled

Progress = Callable[[int, int], None]  # passes through the network that are done, and in all

# `auto`: feature maps alive at once in a pass without gradients, and the share of free memory it may plan with.
_LIVE_MAPS = 12
_MEMORY_SHARE = 0.7
# On a CPU the exact attention of an image of so many pixels takes two to three times as long as all convolutions.
_WHOLE_PIXELS_CPU = 2**16
_AUTO_TILES = ((256, 32), (128, 16), (64, 8), (32, 4))


@dataclass(frozen=True)
class Policy:
    """How a network is applied to an image.

    Args:
        name: "whole" (one pass, exact), "tile" (overlapping tiles, blended), "release" (the released code's recursive
            halving with a hard cut, to reproduce published numbers), or "auto" (the largest of whole and tiles of 256
            to 32 pixels that fits the memory at hand; on a CPU, whole up to 65 536 pixels alone).
        tile: Largest side of a tile in LQ pixels.
        overlap: LQ pixels that neighbouring tiles share, 0 to half a tile.
        tile_batch: Tiles of one pass.
        self_ensemble: Mean over the eight flips and transposes (RNAN+).

    Raises:
        UserError: A value outside its legal interval.
    """

    name: PolicyName = "auto"
    tile: int = 128
    overlap: int = 16
    tile_batch: int = 1
    self_ensemble: bool = False

    def __post_init__(self) -> None:
        if self.name not in POLICIES:
            raise UserError(f"policy is '{self.name}', legal are {', '.join(POLICIES)}")
        if self.tile < 1 or self.tile_batch < 1:
            raise UserError(f"tile is {self.tile} and tile_batch {self.tile_batch}, must be 1 or more")
        if not 0 <= self.overlap <= self.tile // 2:
            raise UserError(f"overlap (tile_overlap) is {self.overlap}, not from 0 to half of tile: {self.tile}")

    @property
    def label(self) -> str:
        """Short enough for a file's name, such as "tile64" or "whole+"."""
        return self.name + (str(self.tile) if self.name == "tile" else "") + ("+" if self.self_ensemble else "")

    def describe(self) -> str:
        """What to write beside a result."""
        text = f"tile {self.tile}, overlap {self.overlap}, blended" if self.name == "tile" else self.name
        if self.name == "release":
            text = f"release (halved below {RELEASE_PIXELS} pixels, shave {RELEASE_SHAVE}, hard cut)"
        return text + (", self-ensemble of 8" if self.self_ensemble else "")


def named_policy(
    policy: PolicyName | None = None, tile: int | None = None, overlap: int | None = None, **others: Any
) -> Policy:
    """The policy of a command line or option file, where anything may be left out.

    Args:
        policy: Left out, "tile" where side or overlap of the tiles are given, else "auto".
        tile: Left out, 128.
        overlap: Left out, 16, or a quarter of a smaller tile than 64.
        others: As `Policy` takes them.

    Raises:
        UserError: A value outside its legal interval.
    """
    tiles = tile is not None or overlap is not None
    side = Policy.tile if tile is None else tile
    shared = min(Policy.overlap, side // 4) if overlap is None else overlap
    return Policy(policy or ("tile" if tiles else "auto"), side, shared, **others)


@torch.inference_mode()
def restore(net: Network, lq: Tensor, policy: Policy, progress: Progress | None = None) -> tuple[Tensor, Policy]:
    """Restore a batch of images of one size.

    Args:
        net: Maps (B, C, h, w) to (B, C', h*scale, w*scale), any h and w, or multiples of its `window_size`.
        lq: (B, C, H, W), any size from 1×1.
        policy: How.
        progress: Called after each pass through the network, of which there is one for each batch of tiles.

    Returns:
        (B, C', H*scale, W*scale), and the policy that was used: for "auto" the one it took.
    """
    for candidate in _candidates(net, lq, policy):
        try:
            return _apply(net, lq, candidate, progress), candidate
        except (RuntimeError, MemoryError) as error:
            if policy.name != "auto" or not is_out_of_memory(error):
                raise
        # Outside the handler, whose traceback keeps the failed pass's tensors alive.
        if lq.device.type == "cuda":
            torch.cuda.empty_cache()
    raise UserError(f"out of memory even with {candidate.describe()}; free some, or use a smaller tile")


def _candidates(net: Network, lq: Tensor, policy: Policy) -> Iterator[Policy]:
    """The policy itself, or for "auto" those that should fit, largest first; the smallest always."""
    if policy.name != "auto":
        yield policy
        return
    budget = _MEMORY_SHARE * available_bytes(lq.device)
    pixel_bytes = lq.shape[0] * _LIVE_MAPS * _widest(net) * lq.element_size()
    height, width = lq.shape[2:]
    fast = lq.device.type != "cpu" or height * width <= _WHOLE_PIXELS_CPU
    if fast and height * width * pixel_bytes <= budget:
        yield replace(policy, name="whole")
    for tile, overlap in _AUTO_TILES:
        pixels = min(tile, height) * min(tile, width) * policy.tile_batch
        if pixels * pixel_bytes <= budget or tile == _AUTO_TILES[-1][0]:
            yield replace(policy, name="tile", tile=tile, overlap=overlap)


def _widest(net: Network) -> int:
    """Most channels of any convolution, which bounds a feature map; 64 for what is no module."""
    modules = net.modules() if isinstance(net, torch.nn.Module) else ()
    return max((module.out_channels for module in modules if isinstance(module, torch.nn.Conv2d)), default=64)


def window_of(net: Network) -> int:
    """Side of the windows of a network that attends within windows, such as SwinIR; 1 for others."""
    modules = net.modules() if isinstance(net, torch.nn.Module) else ()
    sides = [getattr(module, "window_size", 1) for module in modules]
    return max((side for side in sides if isinstance(side, int)), default=1)


def padded(net: Network, multiple: int) -> Network:
    """A network that takes any size, from one that takes multiples: rim pixels are repeated, and cut off after it."""

    def run(img: Tensor) -> Tensor:
        height, width = img.shape[2:]
        below, right = -height % multiple, -width % multiple
        out = net(F.pad(img, (0, right, 0, below), mode="replicate"))
        scale = out.shape[2] // (height + below)
        return out[..., : height * scale, : width * scale]

    return run


def _reporting(net: Network, passes: int, progress: Progress) -> Network:
    numbers = count(1)

    def run(img: Tensor) -> Tensor:
        out = net(img)
        progress(next(numbers), passes)
        return out

    return run


def _count_passes(lq: Tensor, policy: Policy) -> int:
    """How often a policy calls a network, by applying it to a tensor without data."""
    inputs: list[Tensor] = []

    def same(img: Tensor) -> Tensor:
        inputs.append(img)
        return img

    _apply(same, lq.to("meta"), policy)
    return len(inputs)


def _apply(net: Network, lq: Tensor, policy: Policy, progress: Progress | None = None) -> Tensor:
    if (multiple := window_of(net)) > 1:
        net = padded(net, multiple)
    if progress is not None:
        net = _reporting(net, _count_passes(lq, policy), progress)

    def once(img: Tensor) -> Tensor:
        if policy.name == "tile":
            return tiled(net, img, policy.tile, policy.overlap, policy.tile_batch)
        return halved(net, img) if policy.name == "release" else net(img)

    return self_ensembled(once, lq) if policy.self_ensemble else once(lq)


def self_ensembled(net: Network, lq: Tensor) -> Tensor:
    """Mean of a network's outputs over the eight flips and transposes of its input, each turned back.

    Summed in float64, where eight float32 values of like size add up without rounding: the order does not matter, so
    that the ensemble of a flipped image is the flipped ensemble, to the last bit. (MPS has no float64.)
    """
    wide = torch.float32 if lq.device.type == "mps" else torch.float64
    total: Tensor | None = None
    for transpose in (False, True):
        for dims in ([], [2], [3], [2, 3]):
            img = (lq.transpose(2, 3) if transpose else lq).flip(dims).contiguous()
            out = net(img).flip(dims)
            out = out.transpose(2, 3) if transpose else out
            total = out.to(wide, copy=True) if total is None else total.add_(out)
    assert total is not None
    return (total / 8).to(lq.dtype)


def policy_of(val: Mapping[str, Any]) -> Policy:
    """The policy of an option file's `val` section; keys left out as by `named_policy`.

    Raises:
        UserError: A value outside its legal interval.
    """
    names = {
        "policy": "policy",
        "tile": "tile",
        "tile_overlap": "overlap",
        "tile_batch": "tile_batch",
        "self_ensemble": "self_ensemble",
    }
    return named_policy(**{name: val[key] for key, name in names.items() if key in val})
