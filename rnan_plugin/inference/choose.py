"""What to do with an image whose task or level nobody named: the weights that gain on it, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rnan_plugin.errors import UserError, nearest
from rnan_plugin.images.color import Pixels
from rnan_plugin.images.estimate import jpeg_quality, noise_sigma, quality_in_luma
from rnan_plugin.images.jpeg_history import JpegSource, jpeg_source
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
        source: The JPEG file that told the level.
    """

    network: ShippedNetwork | None
    task: TaskAtLevel | None
    why: str
    source: JpegSource | None = None


def choose(code: bytes, img: Pixels, task_name: str = AUTO, level: float | None = None) -> Choice:
    """Choose weights of the package for an image.

    Args:
        code: The file's content, whose tables tell a JPEG's quality.
        img: (H, W, 3) RGB or (H, W, 1) grey, of 8 or 16 bits, as the file holds it, not turned.
        task_name: A task, or "auto": JPEG files get their artefacts reduced, others their noise, or where none is seen
            the artefacts of a JPEG file that they were before.
        level: Of the task; None finds it. A level that is named is obeyed, whether or not a gain is expected.

    Raises:
        UserError: The task needs a level that no image tells, or the package has no weights for what was named.
    """
    if task_name not in {AUTO, *TASKS}:
        raise UserError(f"task: no '{task_name}'{nearest(str(task_name), [AUTO, *TASKS])}")
    names = _tasks_for(code, img) if task_name == AUTO else [task_name]
    row = TASKS[names[0]]
    in_colour = img.shape[2] == 3
    if row.level is None:
        return _named(TaskAtLevel(row.name), code, in_colour=in_colour)
    if row.enlarges and level is None:  # an enlarged image has nothing to lose
        level = min(
            (network.low for network in default_networks() if network.task == row.name and network.low), default=2
        )
    if level is not None:
        return _named(TaskAtLevel(row.name, level), code, in_colour=in_colour)
    choices = (_found(TASKS[name], code, img) for name in names)
    first = next(choices)
    choice = first if first.network else next((other for other in choices if other.network), first)
    if choice.task is None and not code and task_name != AUTO and row.degradation == "jpeg":
        raise UserError(f"level: {row.name} needs a {row.level}, which an image without its file does not tell")
    return choice


def _tasks_for(code: bytes, img: Pixels) -> list[str]:
    """Of which the first with a gain is taken."""
    if jpeg_quality(code) is not None:
        return ["car"]
    return ["colordn" if img.shape[2] == 3 else "graydn", "car"]


def _found(row: Task, code: bytes, img: Pixels) -> Choice:
    """What gains at the level that an image has."""
    if row.degradation == "jpeg":
        source = jpeg_source(code, img)
        if source is None:
            return Choice(None, None, "not a JPEG file, nor was it one, so nothing to reduce")
        choice = _gaining(TaskAtLevel(row.name, source.quality), _in_words(source, code), in_colour=img.shape[2] == 3)
        return replace(choice, source=source)
    if row.degradation == "awgn":
        sigma = round(noise_sigma(img), 1)
        if not sigma:
            return Choice(None, None, "no noise to be seen: left as it is")
        return _gaining(TaskAtLevel(row.name, sigma), f"noise of sigma {sigma:g}", in_colour=img.shape[2] == 3)
    raise UserError(f"--level: no image tells the {row.level} of {row.name}; name it")


def _in_words(source: JpegSource, code: bytes) -> str:
    quality = jpeg_quality(code)
    if quality is None:
        return f"was a JPEG of quality {source.quality}"
    return f"JPEG of quality {quality}" + (f", of {source.quality} before" if source.quality != quality else "")


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
