"""The paper's five tasks: what each restores, and from which degradation at a level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rnan_plugin.images.color import Channels, convert_channels
from rnan_plugin.images.degradations import Awgn, BayerMosaic, BicubicDown, Degradation, Image, Jpeg
from rnan_plugin.data.image_store import ImageStore
from rnan_plugin.images.degradations import image_stream
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


@dataclass(frozen=True)
class TaskAtLevel:
    """A task with its level, such as CAR at quality 10: what the paper's tables have a column for.

    Args:
        name: One of `TASKS`.
        level: Sigma, quality or scale; None for demosaicing.
        noise_seed: 0 or more; the noise of an image depends on it and the image's content.

    Raises:
        UserError: Any of these is not legal.
    """

    name: str
    level: float | None = None
    noise_seed: int = 0

    def __post_init__(self) -> None:
        if (self.level is None) != (self.task.level is None):
            needs = f"needs a {self.task.level}" if self.task.level else "has no levels"
            raise UserError(f"--level: {self.name} {needs}")
        if self.noise_seed < 0:
            raise UserError(f"--seed: {self.noise_seed} is negative; use 0 or more")
        self.task.degradation(self.level or 0)  # checks the level's value

    def __str__(self) -> str:
        return self.name if self.level is None else f"{self.name} {self.level:g}"

    @property
    def task(self) -> Task:
        """The task without its level."""
        return TASKS[self.name]

    @property
    def degradation(self) -> Degradation:
        """What makes the LQ image."""
        return self.task.degradation(self.level or 0)

    def pair(self, store: ImageStore, name: str) -> tuple[Image, Image]:
        """LQ (h, w, C) and ground truth (h*scale, w*scale, C) of an image, 8 bits, as validation sees them."""
        gt = convert_channels(store.read(name), self.task.channels, store.path(name))
        scale = self.degradation.scale
        gt = gt[: gt.shape[0] // scale * scale, : gt.shape[1] // scale * scale]
        if gt.size == 0:
            raise UserError(f"{store.path(name)}: smaller than the scale {scale}; take the image out")
        return self.degradation(gt, image_stream(gt, self.noise_seed)).astype("uint8", copy=False), gt
