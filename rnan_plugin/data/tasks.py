"""The paper's five tasks: what each restores, and from which degradation at a level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rnan_plugin.data.color import Channels
from rnan_plugin.data.degradations import Awgn, BayerMosaic, BicubicDown, Degradation, Jpeg
from rnan_plugin.errors import UserError


@dataclass(frozen=True)
class Task:
    """One restoration task.

    Args:
        channels: What the task works on.
        level: Name of the degradation's level, or None if it has no levels.
        degradation: Makes the degradation from the level.
    """

    channels: Channels
    level: str | None
    degradation: Callable[[float], Degradation]


def _whole(level: float) -> int:
    if not float(level).is_integer():  # nor infinite, nor not a number
        raise UserError(f"level is {level}, must be a whole number for this task")
    return int(level)


TASKS = {
    "colordn": Task("rgb", "sigma", Awgn),
    "graydn": Task("gray", "sigma", Awgn),
    "demosaic": Task("rgb", None, lambda _: BayerMosaic()),
    "car": Task("y", "quality", lambda level: Jpeg(_whole(level))),
    "sr": Task("rgb", "scale", lambda level: BicubicDown(_whole(level))),
}
