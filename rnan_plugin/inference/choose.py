"""What to do with an image whose task or level nobody named: the weights that gain on it, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from rnan_plugin.errors import UserError, nearest
from rnan_plugin.images.color import Pixels
from rnan_plugin.images.estimate import jpeg_quality, noise_sigma, quality_in_luma
from rnan_plugin.inference.shipped import ShippedNetwork, default_networks, shipped_network
from rnan_plugin.paper.tasks import TASKS, Task, TaskAtLevel

AUTO = "auto"


@dataclass(frozen=True)
class Choice:
    """What to do with one image.

    Args:
        network: The weights to take; None leaves the image as it is.
        task: The task at the level that was found or named.
        why: In words, for the user.
    """

    network: ShippedNetwork | None
    task: TaskAtLevel | None
    why: str


def choose(code: bytes, img: Pixels, task_name: str = AUTO, level: float | None = None) -> Choice:
    """Choose weights of the package for an image.

    Args:
        code: The file's content, whose tables tell a JPEG's quality.
        img: (H, W, 3) RGB or (H, W, 1) grey, of 8 or 16 bits.
        task_name: A task, or "auto": JPEG files get their artefacts reduced, others their noise.
        level: Of the task; None finds it. A level that is named is obeyed, whether or not a gain is expected.

    Raises:
        UserError: The task needs a level that no image tells, or the package has no weights for what was named.
    """
    if task_name == AUTO:
        task_name = _task_for(code, img)
    if task_name not in TASKS:
        raise UserError(f"task: no '{task_name}'{nearest(str(task_name), [AUTO, *TASKS])}")
    row = TASKS[task_name]
    in_colour = img.shape[2] == 3
    if row.level is None:
        return _named(TaskAtLevel(row.name), code, in_colour=in_colour)
    if row.enlarges and level is None:  # an enlarged image has nothing to lose
        level = min(
            (network.low for network in default_networks() if network.task == row.name and network.low), default=2
        )
    if level is not None:
        return _named(TaskAtLevel(row.name, level), code, in_colour=in_colour)
    found, why = _level_of(row, code, img)
    if found is None:
        return Choice(None, None, why)
    return _gaining(TaskAtLevel(row.name, found), why, in_colour=in_colour)


def _task_for(code: bytes, img: Pixels) -> str:
    if jpeg_quality(code) is not None:
        return "car"
    return "colordn" if img.shape[2] == 3 else "graydn"


def _level_of(row: Task, code: bytes, img: Pixels) -> tuple[float | None, str]:
    """The level of an image, and how it was found."""
    if row.degradation == "jpeg":
        if not code:
            raise UserError(f"level: {row.name} needs a {row.level}, which an image without its file does not tell")
        quality = jpeg_quality(code)
        return quality, f"JPEG of quality {quality}" if quality is not None else "not a JPEG file, so nothing to reduce"
    if row.degradation == "awgn":
        sigma = round(noise_sigma(img), 1)
        if not sigma:
            return None, "no noise to be seen: left as it is"
        return sigma, f"noise of sigma {sigma:g}"
    raise UserError(f"--level: no image tells the {row.level} of {row.name}; name it")


def _named(task: TaskAtLevel, code: bytes, *, in_colour: bool) -> Choice:
    """What was named, obeyed, with a warning where the weights were not measured to gain or the file says otherwise."""
    in_all_channels = [
        network
        for network in default_networks()
        if in_colour and not network.is_the_tasks and network.task == task.name and network.is_near(task.level)
    ]
    best = in_all_channels[0] if in_all_channels else _nearest(task)
    return Choice(best, task, mismatch(task, code, best.gains) or _outside(best, task.level) or "")


def _nearest(task: TaskAtLevel) -> ShippedNetwork:
    """The weights for a level; of noise and JPEG, which have no gaps, else those for the nearest."""
    near = [network for network in default_networks() if network.task == task.name and network.is_the_tasks]
    if task.row.enlarges or task.level is None or not near or any(network.covers(task) for network in near):
        return shipped_network(task)
    return min(near, key=lambda network: network.distance(task.level))


def _outside(network: ShippedNetwork, level: float | None) -> str | None:
    if level is None or network.is_near(level):
        return None
    return f"warning: level {level:g}, the nearest weights in the package are {network}; expect less, or a loss"


def mismatch(task: TaskAtLevel, code: bytes, gains: tuple[float, float] | None = None) -> str | None:
    """Why a file is not an input of the task, as far as it tells; None if it is.

    Args:
        task: What was named.
        code: The file's content.
        gains: Levels that the weights improve; None takes the task's own for the only one.
    """
    quality = jpeg_quality(code) if task.row.degradation == "jpeg" else None
    if quality is None or task.level is None:
        return None
    low, high = gains or (task.level, task.level)
    if low <= quality <= high:
        return None
    return f"warning: a JPEG of quality {quality}, the weights are for {task.level:g}"


def _gaining(task: TaskAtLevel, why: str, *, in_colour: bool) -> Choice:
    """The weights that were measured to gain at a level; of several those for colour, then those that gain most."""
    able = [
        network
        for network in default_networks()
        if network.task == task.name and network.gains and (in_colour or network.is_the_tasks)
    ]
    level = _no_worse_than_any(task, able)
    seen = {network: _as_seen_by(network, level) for network in able}
    gaining = [network for network in able if network.gains_at(seen[network])]
    if not gaining:
        return Choice(None, task, f"{why}: left as it is, no weights in the package gain on it")
    best = max(gaining, key=lambda network: (not network.is_the_tasks, network.gain_at(seen[network]), -network.width))
    return Choice(best, task, f"{why}: restored with {best}")


def _as_seen_by(network: ShippedNetwork, level: float) -> float:
    """A file's level on the scale on which a network was trained and measured."""
    is_on_luma = TASKS[network.task].degradation == "jpeg" and network.channels == "y"
    return quality_in_luma(level) if is_on_luma else level


def _no_worse_than_any(task: TaskAtLevel, networks: list[ShippedNetwork]) -> float:
    """The level, or the worst that any network gains at: what is worse than that has more to gain."""
    level = task.level or 0.0
    ends = [end for network in networks for end in network.gains or ()]
    if not ends:
        return level
    return max(level, min(ends)) if task.row.degradation == "jpeg" else min(level, max(ends))
