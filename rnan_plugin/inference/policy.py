"""How a network is applied to an image: what an option file, a command line or Python may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from rnan_plugin.choices import POLICIES, PolicyName
from rnan_plugin.errors import UserError, shown
from rnan_plugin.inference.tiling import RELEASE_PIXELS, RELEASE_PIXELS_ENLARGING, RELEASE_SHAVE

# Side and overlap, smaller ones for less memory.
AUTO_TILES = ((256, 32), (128, 16), (64, 8), (32, 4))
# Where a CPU computes the attention of all pairs, its cost grows with what a pixel is compared with: windows of the
# side of the paper's training patches cost little PSNR (docs/performance.md, "What tiles cost in quality").
FAST_TILES = ((192, 8), (128, 8), (64, 8), (32, 4))
FAST_WINDOW = 48
# For attention that windows would distort.
SMALL_TILES = ((64, 8), (32, 4))


@dataclass(frozen=True)
class Policy:
    """How a network is applied to an image.

    Args:
        name: "whole" (one pass, exact), "tile" (overlapping tiles, blended), "release" (the released code's recursive
            quarters with a hard cut, to reproduce published numbers), or "auto" (the largest of whole and tiles of 256
            to 32 pixels that fits the memory at hand; for attention of all pairs on a CPU what is fastest:
            `fast_tiles`, or of 64 pixels where it is normalised over the queries).
        tile: Largest side of a tile in LQ pixels.
        overlap: LQ pixels that neighbouring tiles share, 0 to half a tile.
        tile_batch: Tiles of one pass.
        self_ensemble: Mean over the eight flips and transposes (RNAN+).
        window: Side, in LQ pixels, of the windows of a tile within which attention over the keys compares; None: all of
            the tile, but for "auto" where windows are faster.

    Raises:
        UserError: A value outside its legal interval.
    """

    name: PolicyName = "auto"
    tile: int = 128
    overlap: int = 16
    tile_batch: int = 1
    self_ensemble: bool = False
    window: int | None = None

    def __post_init__(self) -> None:
        if self.name not in POLICIES:
            raise UserError(f"policy is '{self.name}', legal are {', '.join(POLICIES)}")
        _check_whole(tile=self.tile, overlap=self.overlap, tile_batch=self.tile_batch, window=self.window)
        if not isinstance(self.self_ensemble, bool):
            raise UserError(f"self_ensemble: {shown(self.self_ensemble)} is neither true nor false")
        for name in ("tile", "tile_batch"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, must be 1 or more")
        if self.window is not None and self.window < 1:
            raise UserError(f"window (attention_window) is {self.window}, must be 1 or more")
        if self.window is not None and self.name in {"whole", "release"}:
            raise UserError(f"window (attention_window) is of tiles: leave it out, or policy {self.name}")
        if not 0 <= self.overlap <= self.tile // 2:
            raise UserError(f"overlap (tile_overlap) is {self.overlap}, not from 0 to half of tile: {self.tile}")

    @property
    def label(self) -> str:
        """Short enough for a file's name, such as "tile64" or "whole+"."""
        tiles = f"{self.tile}w{self.window}" if self.window else str(self.tile)
        return self.name + (tiles if self.name == "tile" else "") + ("+" if self.self_ensemble else "")

    def describe(self) -> str:
        """What to write beside a result."""
        windows = f", attention in windows of {self.window}" if self.window else ""
        text = f"tile {self.tile}, overlap {self.overlap}, blended{windows}" if self.name == "tile" else self.name
        if self.name == "release":
            limits = f"{RELEASE_PIXELS} pixels, {RELEASE_PIXELS_ENLARGING} where the network enlarges"
            text = f"release (quarters, again while not below {limits}; shave {RELEASE_SHAVE}, hard cut)"
        return text + (", self-ensemble of 8" if self.self_ensemble else "")


def _check_whole(**numbers: object) -> None:
    for name, number in numbers.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, Integral)):
            raise UserError(f"{name}: {shown(number)} is not a whole number")


def named_policy(
    policy: PolicyName | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    window: int | None = None,
    **others: Any,
) -> Policy:
    """The policy of a command line or option file, where anything may be left out.

    Args:
        policy: Left out, "tile" where the tiles' side, overlap or windows are given, else "auto".
        tile: Left out, 128.
        overlap: Left out, 16, or a quarter of a smaller tile than 64.
        window: Left out, attention is over all of a tile; of "auto" see `Policy`.
        others: As `Policy` takes them.

    Raises:
        UserError: A value outside its legal interval, or tiles for a policy that has none.
    """
    _check_whole(tile=tile, overlap=overlap, window=window)
    for name, given in (("tile", tile), ("overlap", overlap)):
        if policy not in {None, "tile"} and given is not None:
            raise UserError(f"{name}: is of policy tile; leave it out, or policy {policy}")
    tiles = any(given is not None for given in (tile, overlap, window))
    side = Policy.tile if tile is None else tile
    shared = min(Policy.overlap, side // 4) if overlap is None else overlap
    return Policy(policy or ("tile" if tiles else "auto"), side, shared, window=window, **others)


def fast_tiles(policy: Policy) -> Policy:
    """A policy with the tiles that a CPU is fastest with: large for convolutions, with small windows of attention."""
    (tile, overlap), *_ = FAST_TILES
    return replace(policy, name="tile", tile=tile, overlap=overlap, window=FAST_WINDOW)


def policy_of(val: Mapping[str, Any]) -> Policy:
    """The policy of an option file's `val` section; keys left out as by `named_policy`.

    Tiles may wait there for another policy.

    Raises:
        UserError: A value outside its legal interval.
    """
    names = {
        "policy": "policy",
        "tile": "tile",
        "tile_overlap": "overlap",
        "attention_window": "window",
        "tile_batch": "tile_batch",
        "self_ensemble": "self_ensemble",
    }
    given = {name: val[key] for key, name in names.items() if key in val}
    if given.get("policy") not in {None, "tile"}:
        given = {name: value for name, value in given.items() if name not in {"tile", "overlap"}}
    return named_policy(**given)
