"""Whole images through a network: in one pass, in tiles, or as the release did; without BasicSR."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from math import ceil
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rnan_plugin.archs.windows import windowed
from rnan_plugin.device import available_bytes, is_out_of_memory
from rnan_plugin.errors import UserError
from rnan_plugin.images.color import Pixels
from rnan_plugin.inference.ensemble import TURNS, ensembled_rows, self_ensembled
from rnan_plugin.inference.network_facts import scale_of, size_multiple_of
from rnan_plugin.inference.parallel import at_a_time
from rnan_plugin.inference.policy import AUTO_TILES, FAST_TILES, FAST_WINDOW, SMALL_TILES, Policy
from rnan_plugin.inference.room import has_attention, may_attend_in_windows, pass_bytes
from rnan_plugin.inference.strips import place_of, restored_pixels, streamed
from rnan_plugin.inference.tiling import Network, grid_of, halved, release_parts, tiled, tiled_rows

Restored = TypeVar("Restored")
Progress = Callable[[int, int], None]  # passes through the network that are done, and in all

_MEMORY_SHARE = 0.7  # of what is free that `auto` may plan with


@torch.inference_mode()
def restore(net: Network, lq: Tensor, policy: Policy, progress: Progress | None = None) -> tuple[Tensor, Policy]:
    """Restore a batch of images of one size.

    Args:
        net: Maps (B, C, h, w) to (B, C', h*scale, w*scale), any h and w, or multiples of `size_multiple_of`.
        lq: (B, C, H, W), any size from 1×1.
        policy: How.
        progress: Called after each pass through the network, of which there is one for each batch of tiles.

    Returns:
        (B, C', H*scale, W*scale), and the policy that was used: for "auto" the one it took.
    """
    return _first_that_fits(net, lq, policy, lambda candidate: _apply(net, lq, candidate, progress))


@torch.inference_mode()
def restore_image(
    net: Network, img: Pixels, policy: Policy, device: torch.device, progress: Progress | None = None
) -> tuple[Pixels, Policy]:
    """Restore an image of 8 or 16 bits; with tiles, no more than a few rows of them are held in float32.

    Args:
        net: As of `restore`.
        img: (H, W, C), 0..255 or 0..65535.
        policy: How.
        device: The network's.
        progress: As of `restore`.

    Returns:
        (H*scale, W*scale, C'), of as many bits, and the policy that was used.

    Raises:
        UserError: More memory is needed than there is, as far as can be said before; or the network's values are no
            finite numbers.
    """
    like = torch.empty(1, device=device).expand(1, img.shape[2], *img.shape[:2])  # takes no memory

    def attempt(candidate: Policy) -> Pixels:
        _check_room(net, like, candidate)
        if candidate.name == "tile":
            grid = grid_of(img.shape[:2], candidate.tile, candidate.overlap)
            rows_of = ensembled_rows if candidate.self_ensemble else tiled_rows
            run = _wrapped(net, grid.size, candidate, progress)
            return streamed(rows_of(run, partial(place_of, img, device), grid, candidate.tile_batch), grid, img)
        everything = place_of(img, device, (0, 0, *img.shape[:2]))
        return restored_pixels(img, _apply(net, everything, candidate, progress))

    return _first_that_fits(net, like, policy, attempt)


def _check_room(net: Network, lq: Tensor, policy: Policy) -> None:
    """What a CPU's memory certainly can't hold, before the system kills the process (a GPU says so itself)."""
    if lq.device.type != "cpu":
        return
    result = lq.numel() * (scale_of(net) or 1) ** 2
    height, width = lq.shape[2:]
    if policy.name == "whole":
        needed = pass_bytes(net, lq, height * width)
    elif policy.name == "release":
        needed = 4 * (lq.numel() + result)
    else:
        rows = min(policy.tile, height) * 4 * (result // height + result // lq.shape[1] // height)  # sums and weights
        rows *= len(TURNS) if policy.self_ensemble else 1
        needed = result + rows + _tile_bytes(net, lq, policy)
    if needed > (there := available_bytes(lq.device)):
        told = f"{height}×{width} pixels with policy {policy.label} need about {needed / 2**30:.1f} GiB"
        raise UserError(f"{told}, {there / 2**30:.1f} GiB are free; use smaller tiles (--tile 64), or a smaller image")


def _first_that_fits(
    net: Network, lq: Tensor, policy: Policy, attempt: Callable[[Policy], Restored]
) -> tuple[Restored, Policy]:
    """What an attempt gives with the policy, or for "auto" with the first for which memory suffices."""
    for candidate in _candidates(net, lq, _windowed_policy(net, policy)):
        try:
            return attempt(candidate), candidate
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
    height, width = lq.shape[2:]
    slow = lq.device.type == "cpu" and has_attention(net)  # what is large
    tiles: Sequence[tuple[int, int]] = AUTO_TILES
    window = policy.window
    if slow and may_attend_in_windows(net):
        tiles, window = FAST_TILES, policy.window or FAST_WINDOW
    elif slow:
        tiles = SMALL_TILES
    elif pass_bytes(net, lq, height * width) <= budget:
        yield replace(policy, name="whole", window=None)
    for tile, overlap in tiles:
        candidate = replace(policy, name="tile", tile=tile, overlap=overlap, window=window)
        if _tile_bytes(net, lq, candidate) <= budget or (tile, overlap) == tiles[-1]:
            yield candidate


def _windowed_policy(net: Network, policy: Policy) -> Policy:
    """The policy without windows where the network has no attention; an error where windows would distort it."""
    if policy.window is None or may_attend_in_windows(net):
        return policy
    if has_attention(net):
        told = "the network's attention is normalised over the queries, which windows would distort"
        raise UserError(f"window (--window, attention_window): {told}; leave it out")
    return replace(policy, window=None)


def _tile_bytes(net: Network, lq: Tensor, policy: Policy) -> int:
    """Bytes that the passes over tiles take that are made at a time, about."""
    pixels = min(policy.tile, lq.shape[2]) * min(policy.tile, lq.shape[3])
    return at_a_time(lq.device) * pass_bytes(net, lq, pixels, policy.tile_batch)


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
        done = next(numbers)
        progress(done, max(done, passes))
        return out

    return run


def _count_passes(size: tuple[int, int], policy: Policy, *, enlarging: bool) -> int:
    """How often a policy calls a network for an image of a height and width."""
    passes = 1
    if policy.name == "tile":
        passes = ceil(grid_of(size, policy.tile, policy.overlap).count / policy.tile_batch)
    elif policy.name == "release":
        passes = sum(1 for _ in release_parts(size, enlarging=enlarging))
    return passes * (len(TURNS) if policy.self_ensemble else 1)


def _wrapped(net: Network, size: tuple[int, int], policy: Policy, progress: Progress | None) -> Network:
    """The network for any size, its passes told."""
    enlarging = (scale_of(net) or 1) > 1
    if (multiple := size_multiple_of(net)) > 1:
        net = padded(net, multiple)
    if policy.window:
        net = windowed(net, policy.window)
    return net if progress is None else _reporting(net, _count_passes(size, policy, enlarging=enlarging), progress)


def _apply(net: Network, lq: Tensor, policy: Policy, progress: Progress | None = None) -> Tensor:
    scale = scale_of(net)
    net = _wrapped(net, (lq.shape[2], lq.shape[3]), policy, progress)

    def once(img: Tensor) -> Tensor:
        if policy.name == "tile":
            return tiled(net, img, policy.tile, policy.overlap, policy.tile_batch)
        return halved(net, img, scale) if policy.name == "release" else net(img)

    return self_ensembled(once, lq) if policy.self_ensemble else once(lq)
