"""The small trained networks in the package: which there are, and loading one."""

from __future__ import annotations

from pathlib import Path

from rnan_plugin.checkpoints import read_checkpoint
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.errors import UserError

FOLDER = Path(__file__).parents[1] / "weights"


def shipped_settings() -> list[TaskAtLevel]:
    """The tasks and levels that the package has weights for."""
    settings = []
    for file in sorted(FOLDER.glob("*.pth")):
        name, _, level = file.stem.partition("_")
        settings.append(TaskAtLevel(name, float(level) if level else None))
    return settings


def shipped_names() -> str:
    """The tasks and levels for a message: "car 10, demosaic"."""
    return ", ".join(map(str, shipped_settings()))


def shipped_file(setting: TaskAtLevel) -> Path:
    """The weights in the package for a task at a level.

    Raises:
        UserError: There are none; names those there are, and how to get others.
    """
    file = FOLDER / f"{str(setting).replace(' ', '_')}.pth"
    if file.is_file():
        return file
    raise UserError(
        f"no weights in the package for {setting}; there are: {shipped_names()}. Train with options/train_RNAN_*.yml "
        "and name the option file with -opt, or take released weights with --weights"
    )


def load_shipped(setting: TaskAtLevel) -> RNAN:
    """The network in the package for a task at a level, in eval mode; errors as of `shipped_file`."""
    checkpoint = read_checkpoint(shipped_file(setting))
    net = RNAN(**checkpoint["network_g"])
    net.load_state_dict({name: value.float() for name, value in checkpoint["params"].items()}, strict=True)
    return net.eval()
