"""What the inputs of a network are like: those of a task at one level, or at any level of a range."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnan_plugin.choices import Channels
from rnan_plugin.errors import UserError
from rnan_plugin.images.color import CHANNELS_NAME, NUM_CHANNEL
from rnan_plugin.paper.tasks import TASKS, Blind, Task, TaskAtLevel

WEIGHTS = Path("rnan_plugin/weights")  # where a checkout has the package's, as option files name them
_CHANNELS_TAG = {"rgb": "color", "gray": "gray", "y": "y"}


@dataclass(frozen=True)
class Inputs:
    """What a network restores; made by `inputs_of`.

    Args:
        task: The task at the level, or the first of those that a network for unknown levels is looked at.
        channels: What it works on; the task's own, or one of its others.
        blind: The range that stands in the level's place, if one does.
    """

    task: TaskAtLevel
    channels: Channels
    blind: Blind | None = None

    @property
    def num_channel(self) -> int:
        """Channels of an image: 1 or 3."""
        return NUM_CHANNEL[self.channels]

    @property
    def scale(self) -> int:
        """Pixels of the restored image for one of the input, in each direction."""
        return self.task.scale

    @property
    def are_the_papers(self) -> bool:
        """Whether the paper's tables have a column for them."""
        return self.blind is None and self.channels == self.task.row.channels

    @property
    def tag(self) -> str:
        """As option files are called, such as "CAR_q10", "CAR_blind" or "CAR_color_blind"."""
        row = self.task.row
        parts = [row.tag] if self.channels == row.channels else [row.tag, _CHANNELS_TAG[self.channels]]
        if self.blind:
            parts.append("blind")
        elif self.task.level is not None:
            parts.append(f"{row.level_tag}{self.task.level:g}")
        return "_".join(parts)

    @property
    def file_stem(self) -> str:
        """As the package calls weights for them, such as "car_10", "graydn_0-75" or "car_rgb_5-95"."""
        channels = [] if self.channels == self.task.row.channels else [self.channels]
        if self.blind is None:
            return "_".join([self.task.file_stem, *channels])
        return "_".join([self.task.name, *channels, f"{self.blind.low:g}-{self.blind.high:g}"])

    @property
    def title(self) -> str:
        """What it is, within a sentence: "JPEG artefacts, quality 10"."""
        title = self._at_level(self.task.row.title)
        return title if self.channels == self.task.row.channels else f"{title}, on {CHANNELS_NAME[self.channels]}"

    @property
    def heading(self) -> str:
        """What is done, at the start of a line."""
        row = self.task.row
        if row.heading and self.channels == row.channels:
            return self._at_level(row.heading)
        return self.title[:1].upper() + self.title[1:]

    def _at_level(self, template: str) -> str:
        if self.blind is None:
            return template.format(level=self.task.level or 0)
        return re.sub(r"\{level[^}]*\}", f"{self.blind.low:g} to {self.blind.high:g}", template)

    def drawn(self) -> dict[str, Any]:
        """The key `degradation` of a training set."""
        return self._degradation([self.blind.low, self.blind.high] if self.blind else None)

    def looked_at(self) -> dict[str, Any]:
        """The key `degradation` of a set to validate or test on; blind, a list of levels, a set for each."""
        return self._degradation(list(self.blind.levels) if self.blind else None)

    def _degradation(self, levels: Sequence[float] | None) -> dict[str, Any]:
        row = self.task.row
        arguments = dataclasses.asdict(self.task.degradation)  # type: ignore[call-overload]
        section: dict[str, Any] = {"type": row.degradation, **arguments}
        if levels is not None and row.level is not None:
            section[row.level] = levels
        return section


def inputs_of(
    name: str, level: float | None = None, *, blind: bool = False, channels: Channels | None = None
) -> Inputs:
    """Describe the inputs of a task.

    Args:
        name: One of `TASKS`.
        level: Sigma, quality, scale; None for a task without levels, and for `blind`.
        blind: Any level of the range that the task's row has.
        channels: The task's own unless given.

    Raises:
        UserError: An unknown task, a level that is not legal, or what the task's row does not have.
    """
    task = _blind_task(name, level) if blind else TaskAtLevel(name, None if level is None else plain_number(level))
    row = task.row
    legal = (row.channels, *row.other_channels)
    if channels is not None and channels not in legal:
        raise UserError(f"channels: {name} works on {' or '.join(legal)}, not on {channels}")
    return Inputs(task, channels or row.channels, row.blind if blind else None)


def _blind_task(name: str, level: float | None) -> TaskAtLevel:
    """The task at the first level that a network for unknown ones is looked at."""
    if level is not None:
        raise UserError("blind: a network for unknown levels has no level of its own; leave out one of the two")
    found = TASKS[name].blind if name in TASKS else None
    if name in TASKS and found is None:
        having = ", ".join(task.name for task in TASKS.values() if task.blind)
        raise UserError(f"blind: {name} has no range of levels to draw from; these have: {having}")
    return TaskAtLevel(name, found.levels[0] if found else None)


def plain_number(value: float) -> float:
    """A whole number as such, so that files read `50` and not `50.0`."""
    return int(value) if float(value).is_integer() else value


def trained_task(degradation: object, channels: str | None) -> tuple[Task, object] | None:
    """The task that an entry of `datasets` trains, and its level; None where no row is like it.

    Args:
        degradation: As an option file has it, `{type: jpeg, quality: 10}`; the level may be a range.
        channels: As an option file has them; None where it does not say.
    """
    if not isinstance(degradation, dict):
        return None
    for task in TASKS.values():
        if task.degradation == degradation.get("type") and channels in (task.channels, *task.other_channels):
            return task, degradation.get(task.level) if task.level else None
    return None
