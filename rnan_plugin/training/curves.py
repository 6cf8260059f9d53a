"""Validation metrics of a training against iterations and time, from its TensorBoard log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnan_plugin.errors import UserError
from rnan_plugin.targets import why_no_folder

METRICS = "metrics/"  # the toolbox's prefix; a set's name and a metric's follow


@dataclass(frozen=True)
class Curve:
    """One metric of one validation set.

    Args:
        iterations: At which it was measured, rising.
        minutes: Of training until then at the median step's time, so that validation, pauses and other work on the
            machine do not count; empty where the log does not tell.
        values: Measured.
    """

    iterations: list[int]
    minutes: list[float]
    values: list[float]


def training_curves(folder: Path) -> dict[str, Curve]:
    """Read the curves of a training's log, `tb_logger/NAME`; return them by `SET/METRIC`.

    Raises:
        UserError: There is no such log.
    """
    scalars = logged_scalars(folder)
    rates = scalars.get("seconds_per_step")
    minutes_per_step = median(rates.values()) / 60 if rates else None
    curves = {}
    for tag in sorted(tag for tag in scalars if tag.startswith(METRICS)):
        iterations = list(scalars[tag])
        minutes = [at * minutes_per_step for at in iterations] if minutes_per_step else []
        curves[tag.removeprefix(METRICS)] = Curve(iterations, minutes, list(scalars[tag].values()))
    return curves


def logged_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Everything in a training's log, `tb_logger/NAME`: by tag the values by iteration, rising.

    Raises:
        UserError: There is no such log.
    """
    if reason := why_no_folder(folder, "log"):
        raise UserError(f"{folder}: {reason}; name the folder of a training's TensorBoard log, tb_logger/NAME")
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()  # 0: all of them
    found = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    return {tag: dict(sorted(values.items())) for tag, values in found.items()}
