"""The trained networks in the package: which there are, at which levels, and loading one.

A file's name says all: `car_10.pth` is for quality 10, `colordn_0-75.pth` for every sigma from 0 to 75, `demosaic.pth`
for a task without levels, `car_rgb_5-95.pth` for colour, where the task itself works on something else, and
`colordn_50_medium.pth` for a larger network, which is taken only where it is named. A file that is put there is found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rnan_plugin.choices import Channels, ShippedSize
from rnan_plugin.errors import UserError, nearest
from rnan_plugin.options.inputs import WEIGHTS
from rnan_plugin.paper.tasks import TASKS, TaskAtLevel
from rnan_plugin.targets import expanded, is_file, why_no_file

FOLDER = Path(__file__).parents[1] / "weights"
TILE, OVERLAP = 64, 8
_LEVELS = r"_(?P<low>\d+(?:\.\d+)?)(?:-(?P<high>\d+(?:\.\d+)?))?"
_STEM = re.compile(rf"(?P<task>.+?)(?P<rgb>_rgb)?(?:{_LEVELS})?(?P<medium>_medium)?")


@dataclass(frozen=True)
class ShippedNetwork:
    """One file of weights.

    Args:
        task: Name of its task.
        low: The lowest level it was trained at; None for a task without levels.
        high: The highest; the same as `low` for a single level.
        file: Where it is.
        channels: What it works on: the task's own, or "rgb".
        gains: The lowest and the highest level at which it was measured to improve the mean PSNR; None where nobody
            measured.
        measured: Gain in dB at levels, ascending.
        size: "small", or "medium" of twice the features: better, and slower.
    """

    task: str
    low: float | None
    high: float | None
    file: Path
    channels: Channels
    gains: tuple[float, float] | None = None
    measured: tuple[tuple[float, float], ...] = ()
    size: ShippedSize = "small"

    def __str__(self) -> str:
        name = self.task if self.is_the_tasks else f"{self.task} ({self.channels})"
        if self.low is not None and self.high is not None:
            name += f" {self.low:g}" + (f"-{self.high:g}" if self.is_blind else "")
        return name if self.size == "small" else f"{name} {self.size}"

    @property
    def is_blind(self) -> bool:
        """Whether it is for a range of levels."""
        return self.low != self.high

    @property
    def is_the_tasks(self) -> bool:
        """Whether it works on what the task and its protocol work on."""
        return self.channels == TASKS[self.task].channels

    @property
    def width(self) -> float:
        """How many levels it is for."""
        return (self.high or 0) - (self.low or 0)

    def gains_at(self, level: float | None) -> bool:
        """Whether it is expected to improve an image at a level."""
        if self.gains is None or level is None:
            return False
        return self.gains[0] <= level <= self.gains[1]

    def gain_at(self, level: float) -> float:
        """The gain in dB that it was measured to have about a level."""
        levels, gains = ([pair[place] for pair in self.measured] for place in (0, 1))
        return float(np.interp(level, levels, gains)) if levels else 0.0

    def distance(self, level: float | None) -> tuple[float, float]:
        """How far a level is from those it is for, then how many those are: the smaller the better."""
        outside = 0.0 if level is None else max((self.low or 0) - level, level - (self.high or 0), 0.0)
        return outside, self.width

    def is_near(self, level: float | None) -> bool:
        """Whether a level is among those it was trained for, or was measured to gain at."""
        return self.distance(level)[0] == 0 or self.gains_at(level)

    def covers(self, task: TaskAtLevel) -> bool:
        """Whether it is for a task at a level, on the task's own channels."""
        if not self.is_the_tasks:
            return False
        if self.task != task.name or self.low is None or self.high is None or task.level is None:
            return self.task == task.name and self.low is None and task.level is None
        return self.low <= task.level <= self.high


def shipped_networks() -> list[ShippedNetwork]:
    """What the package has, by name; files of tasks that nobody knows are passed over."""
    networks = []
    for file in sorted(FOLDER.glob("*.pth")):
        match = _STEM.fullmatch(file.stem)
        assert match is not None
        low, high = match["low"], match["high"] or match["low"]
        if match["task"] in TASKS:
            levels = float(low) if low else None, float(high) if high else None
            channels: Channels = "rgb" if match["rgb"] else TASKS[match["task"]].channels
            size: ShippedSize = "medium" if match["medium"] else "small"
            networks.append(ShippedNetwork(match["task"], *levels, file, channels, *_gains_of(file), size))
    return networks


def default_networks() -> list[ShippedNetwork]:
    """Those of them that a task and a level stand for: the fast ones."""
    return [network for network in shipped_networks() if network.size == "small"]


def named_network(weights: str) -> ShippedNetwork | None:
    """The network of the package of that name, such as "colordn_50_medium"; None where a file is named.

    A file of the user's with this name comes first. The package's files in a checkout, which the option files of its
    networks name, are found wherever one is.

    Raises:
        UserError: There is neither.
    """
    path = Path(weights)
    if is_file(path) or ((path.suffix or path.name != weights) and path.parent != WEIGHTS):
        return None
    in_package = {network.file.stem: network for network in shipped_networks()}
    if path.parent == WEIGHTS:
        return in_package.get(path.stem) if path.suffix == ".pth" else None
    if weights not in in_package:
        told = f"{why_no_file(weights)}, nor a network of the package{nearest(weights, in_package, 3)}"
        raise UserError(f"{weights}: {told}")
    return in_package[weights]


def named_file(weights: str, option_file: str) -> str:
    """The file that `path.pretrain_network_g` names: a path, in which `~` is replaced, or a network of the package.

    Raises:
        UserError: See `named_network`.
    """
    try:
        network = named_network(weights)
    except UserError as error:
        raise UserError(f"{option_file}, path.pretrain_network_g: {error}") from None
    return str(network.file) if network else expanded(weights)


def _gains_of(file: Path) -> tuple[tuple[float, float] | None, tuple[tuple[float, float], ...]]:
    """What the card beside a file says of the levels at which it gains, and how much."""
    card = file.with_suffix(".json")
    if not card.is_file():
        return None, ()
    facts = json.loads(card.read_text(encoding="utf-8"))
    gains, measured = facts.get("gains"), facts.get("measured_gain_db", {})
    curve = sorted((float(level), float(gain)) for level, gain in measured.items())
    return (float(gains[0]), float(gains[1])) if gains else None, tuple(curve)


def training_spent(facts: Mapping[str, Any]) -> tuple[int, float]:
    """Iterations and hours that a network's file tells of, those of its earlier trainings included.

    A network that went on from its own weights has the sum of what they had cost under "before".
    """
    before = facts.get("before", {"iterations": 0, "hours": 0.0})
    return facts["iterations"] + before["iterations"], facts["hours"] + before["hours"]


def shipped_tasks() -> list[TaskAtLevel]:
    """The tasks and single levels that the package has weights for."""
    return [TaskAtLevel(network.task, network.low) for network in default_networks() if not network.is_blind]


def shipped_names() -> str:
    """The tasks and levels for a message: "car 10, demosaic"."""
    return ", ".join(map(str, default_networks()))


def shipped_network(task: TaskAtLevel) -> ShippedNetwork:
    """What the package has for a task at a level: weights for that level, else those for the narrowest range.

    Raises:
        UserError: There are none; names those there are, and how to get others.
    """
    covering = [network for network in default_networks() if network.covers(task)]
    if covering:
        return min(covering, key=lambda network: network.width)
    raise UserError(
        f"no weights in the package for {task}; there are: {shipped_names()}. Train with an option file that "
        "`rnan options` writes and name it with -opt, or take released weights with --weights"
    )


def shipped_file(task: TaskAtLevel) -> Path:
    """The file of `shipped_network`."""
    return shipped_network(task).file
