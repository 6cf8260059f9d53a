"""Degradations whose level varies: drawn anew for each training sample, or a list of levels to validate at."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

import numpy as np

from rnan_plugin.errors import UserError, nearest, shown
from rnan_plugin.images.degradations import DEGRADATIONS, Degradation

Spread = Literal["uniform", "root", "log"]
# The scale on which a spread is uniform, and the way back from it.
_SCALES: dict[Spread, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "uniform": (float, float),
    "root": (math.sqrt, lambda root: root * root),
    "log": (math.log, math.exp),
}


def level_key(kind: object) -> str | None:
    """The argument of a type of degradation that may be a range in training and a list in validation, if there is one.

    Args:
        kind: One of `DEGRADATIONS`, also of those that were added; None for anything else.
    """
    build = DEGRADATIONS.get(kind) if isinstance(kind, str) else None
    key: str | None = getattr(build, "level", None)
    return key


def has_whole_levels(kind: str, argument: str) -> bool:
    """Whether an argument of a type of degradation takes whole numbers alone, as JPEG's quality does."""
    return get_type_hints(DEGRADATIONS[kind]).get(argument) is int


@dataclass(frozen=True)
class LevelRange:
    """Levels of which each training sample draws one.

    Args:
        low: The smallest level.
        high: The largest level.
        spread: "uniform": all levels are equally likely; "root": their square roots are, so that small levels come
            more often; "log": all ratios of levels are, so that they come more often still.

    Raises:
        UserError: The levels are not numbers in rising order, or have no square root or logarithm to be spread on.
    """

    low: float
    high: float
    spread: Spread = "uniform"

    def __post_init__(self) -> None:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (self.low, self.high))
        if not numbers or not -math.inf < self.low < self.high < math.inf:
            raise UserError(f"{shown([self.low, self.high])} is no range; it needs two numbers, the smaller first")
        if self.spread not in get_args(Spread):
            raise UserError(f"spread is '{self.spread}'{nearest(str(self.spread), get_args(Spread))}")
        if self.spread == "log" and self.low <= 0:
            raise UserError(f"spread log needs levels above 0, not {self.low}")
        if self.spread == "root" and self.low < 0:
            raise UserError(f"spread root needs levels from 0, not {self.low}")

    def draw(self, rng: np.random.Generator) -> float:
        """One level from low to high."""
        scaled, level = _SCALES[self.spread]
        return level(rng.uniform(scaled(self.low), scaled(self.high)))

    def draw_whole(self, rng: np.random.Generator) -> int:
        """One whole level from low to high, both included."""
        lowest, highest = math.ceil(self.low), math.floor(self.high)
        if self.spread == "uniform":
            return int(rng.integers(lowest, highest + 1))
        return min(max(round(self.draw(rng)), lowest), highest)


@dataclass(frozen=True)
class DrawnDegradation:
    """A degradation with a range in its level's place; `draw` gives one of a fixed level.

    Args:
        build: Makes the degradation from its level.
        levels: What to draw from.
        whole: Draw whole numbers, as JPEG's quality is.
    """

    build: Callable[[Any], Degradation]
    levels: LevelRange
    whole: bool = False

    def __post_init__(self) -> None:
        for level in (self.levels.low, self.levels.high):  # whatever lies between is legal too
            self._at(level)

    @property
    def scale(self) -> int:
        """Input pixels per output pixel, in each direction; the same at all levels."""
        return self._at(self.levels.low).scale

    def _at(self, level: float) -> Degradation:
        return self.build(int(level) if self.whole and float(level).is_integer() else level)

    def draw(self, rng: np.random.Generator) -> Degradation:
        """The degradation at a level drawn from a sample's stream."""
        return self.build(self.levels.draw_whole(rng) if self.whole else self.levels.draw(rng))


def fixed(chain: Sequence[Degradation | DrawnDegradation], rng: np.random.Generator) -> list[Degradation]:
    """A chain for one sample: what has a range draws its level, in order."""
    return [item.draw(rng) if isinstance(item, DrawnDegradation) else item for item in chain]


def level_range(value: Any) -> LevelRange | None:
    """The range that a level's value in an option file stands for; None for a single level.

    Args:
        value: `[low, high]`, `{low: 1, high: 55, spread: log}`, or a number.

    Raises:
        UserError: It looks like a range and is none.
    """
    if isinstance(value, Mapping):
        if not {"low", "high"} <= value.keys() <= {"low", "high", "spread"}:
            raise UserError(
                f"a range needs the keys low and high (and spread: uniform, root, or log), not {shown(list(value))}"
            )
        return LevelRange(**value)
    if isinstance(value, list | tuple):
        if not value:
            raise UserError("[] has no level in it; name one, or two for a range")
        if len(value) != 2:
            raise UserError(f"{shown(list(value))} is no range; it needs two numbers, the smaller first")
        return LevelRange(*value)
    return None


def _are_levels(value: Any) -> bool:
    """Whether a value is a list of single levels."""
    return isinstance(value, list) and all(isinstance(item, str | int | float) for item in value)


def expand_levels(phase: str, section: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Entries of `datasets` for one that validates at a list of levels: one for each level, with the level in its name.

    Args:
        phase: Key of the entry, such as `val`.
        section: The entry.
    """
    degradation = section.get("degradation")
    entries = degradation if isinstance(degradation, list) else [degradation]
    for place, entry in enumerate(entries):
        kind = entry.get("type") if isinstance(entry, Mapping) else None
        key = level_key(kind) if isinstance(section.get("name"), str) else None
        if key is not None and entry.get(key) and _are_levels(entry[key]):
            expanded = {}
            for value in dict.fromkeys(entry[key]):  # 10 and 10.0 are one
                level = str(value)
                own = copy.deepcopy(dict(section))
                own["name"] = f"{section.get('name')}_{key}{level}"
                chosen = own["degradation"] if isinstance(degradation, Mapping) else own["degradation"][place]
                chosen[key] = value
                expanded[f"{phase}_{key}{level}"] = own
            return expanded
    return {phase: dict(section)}
