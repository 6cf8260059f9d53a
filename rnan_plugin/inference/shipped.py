"""The small trained networks in the package: which there are, and loading one."""

from __future__ import annotations

from pathlib import Path

from rnan_plugin import checkpoints
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.errors import UserError
from rnan_plugin.paper.tasks import TaskAtLevel

FOLDER = Path(__file__).parents[1] / "weights"


def shipped_tasks() -> list[TaskAtLevel]:
    """The tasks and levels that the package has weights for."""
    settings = []
    for file in sorted(FOLDER.glob("*.pth")):
        name, _, level = file.stem.partition("_")
        settings.append(TaskAtLevel(name, float(level) if level else None))
    return settings


def shipped_names() -> str:
    """The tasks and levels for a message: "car 10, demosaic"."""
    return ", ".join(map(str, shipped_tasks()))


def shipped_file(task: TaskAtLevel) -> Path:
    """The weights in the package for a task at a level.

    Raises:
        UserError: There are none; names those there are, and how to get others.
    """
    file = FOLDER / f"{task.file_stem}.pth"
    if file.is_file():
        return file
    raise UserError(
        f"no weights in the package for {task}; there are: {shipped_names()}. Train with options/train_RNAN_*.yml "
        "and name the option file with -opt, or take released weights with --weights"
    )


def load_shipped(task: TaskAtLevel) -> RNAN:
    """The network in the package for a task at a level, in eval mode; errors as of `shipped_file`."""
    checkpoint = checkpoints.read(shipped_file(task))
    net = RNAN(**checkpoint["network_g"])
    checkpoints.fill(net, checkpoints.weights_in(checkpoint, shipped_file(task)), shipped_file(task))
    return net.eval()
