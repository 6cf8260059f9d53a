"""The tasks, a row each: everything that tells one task from another is said here and read from here.

Without torch, so that command lines can list tasks in no time. CONTRIBUTING.md says how to add one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rnan_plugin.choices import Channels
from rnan_plugin.errors import UserError, nearest
from rnan_plugin.images.color import CHANNELS_NAME, NUM_CHANNEL
from rnan_plugin.images.degradations import DEGRADATIONS, Degradation
from rnan_plugin.images.levels import has_whole_levels, level_key


@dataclass(frozen=True)
class Blind:
    """How a network for unknown levels is trained.

    Args:
        low: The smallest level, drawn like all others.
        high: The largest level.
        levels: At which it is looked at while training, and tested.

    Raises:
        ValueError: No levels, or one that is not from low to high.
    """

    low: float
    high: float
    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.levels or not all(self.low <= level <= self.high for level in self.levels):
            raise ValueError(f"levels {self.levels} must be some from {self.low} to {self.high}")


@dataclass(frozen=True)
class Task:
    """One restoration task.

    Args:
        name: As `--task` takes it and weights' files begin, such as "car".
        tag: As option files are called, such as "CAR".
        title: What it is, for headings and cards; `{level:g}` stands for the level.
        input: What the network takes, for cards.
        channels: What the task works on.
        degradation: Type of what makes its input, one of `DEGRADATIONS`.
        level: The argument of the degradation that varies, or None if none does.
        level_tag: Before the level in names of option files, such as "q".
        levels: At which the paper trains and tests.
        scored_on: "channels": all of them, no border; "y": luma, unrounded, without a border of the scale.
        loss: Type of the training's loss in BasicSR.
        sets: Image sets of the paper's tables; the first two are looked at while training.
        released: Name of the authors' checkpoint.
        heading: What is done, for the first line of option files; the title where it is left out.
        typical: Level of the shipped small networks and comparisons; the first of `levels` where it is left out.
        blind: How a network for unknown levels is trained; None where none is.
        other_channels: On which networks are trained too, beside the paper's `channels`.
        small_iter: Iterations of the small network's training.
        warm_iter: The same where it begins with a neighbour's weights.
        again_iter: Of a second fall of the rate after either.
    """

    name: str
    tag: str
    title: str
    input: str
    channels: Channels
    degradation: str
    level: str | None
    level_tag: str = ""
    levels: tuple[float, ...] = ()
    scored_on: Literal["channels", "y"] = "channels"
    loss: str = "MSELoss"
    sets: tuple[str, ...] = ()
    released: str | None = None
    heading: str = ""
    typical: float | None = None
    blind: Blind | None = None
    other_channels: tuple[Channels, ...] = ()
    small_iter: int = 20_000
    warm_iter: int = 9000
    again_iter: int = 6000

    @property
    def num_channel(self) -> int:
        """Channels of an image of the task."""
        return NUM_CHANNEL[self.channels]

    @property
    def typical_level(self) -> float | None:
        """The level for whoever names none: `typical`, else the first of `levels`, else None."""
        return self.typical if self.typical is not None else next(iter(self.levels), None)

    @property
    def enlarges(self) -> bool:
        """Whether the restored image is larger than the input."""
        return self.level == "scale"


TASKS: dict[str, Task] = {}


def add_task(task: Task) -> None:
    """Make a task known by its name to every command.

    Raises:
        ValueError: The name is taken, the degradation is unknown, or has no range of levels for `blind`.
    """
    if task.name in TASKS:
        raise ValueError(f"there is a task '{task.name}' already")
    if task.degradation not in DEGRADATIONS:
        raise ValueError(
            f"task {task.name}: no degradation '{task.degradation}'{nearest(task.degradation, DEGRADATIONS)}"
        )
    if task.blind is not None and (task.level is None or level_key(task.degradation) != task.level):
        raise ValueError(
            f"task {task.name}: blind training draws the argument '{task.level}', which {task.degradation} does not "
            "name as its attribute `level`"
        )
    TASKS[task.name] = task


_NOISE_SETS = ("Kodak24", "BSD68", "Urban100")
_NOISE_BLIND = Blind(0, 75, levels=(30, 0, 10, 50, 70))

add_task(
    Task(
        name="colordn",
        tag="ColorDN",
        title="colour noise, sigma {level:g}",
        input="RGB image with Gaussian noise of sigma {level:g}, rounded and clipped to 8 bits",
        channels="rgb",
        degradation="awgn",
        level="sigma",
        level_tag="s",
        levels=(10, 30, 50, 70),
        sets=_NOISE_SETS,
        released="RNAN_F64G10P48L2N{level:g}",
        heading="Colour denoising, σ = {level:g}",
        typical=50,
        blind=_NOISE_BLIND,
        small_iter=18_000,
        again_iter=9000,
    )
)
add_task(
    Task(
        name="graydn",
        tag="GrayDN",
        title="grey noise, sigma {level:g}",
        input="grey image with Gaussian noise of sigma {level:g}, rounded and clipped to 8 bits",
        channels="gray",
        degradation="awgn",
        level="sigma",
        level_tag="s",
        levels=(10, 30, 50, 70),
        sets=_NOISE_SETS,
        released="RNAN_Gray_F64G10P48L2N{level:g}",
        heading="Grey denoising, σ = {level:g}",
        typical=50,
        blind=_NOISE_BLIND,
        small_iter=18_000,
        again_iter=9000,
    )
)
add_task(
    Task(
        name="demosaic",
        tag="Demosaic",
        title="Bayer mosaic",
        input="GRBG mosaic without noise",
        channels="rgb",
        degradation="mosaic",
        level=None,
        sets=("Kodak24", "McMaster18", "BSD68", "Urban100"),
        released="RNAN_Demosaic_RGB_F64G10P48L2N1",
        heading="Demosaicing of GRBG mosaics",
    )
)
add_task(
    Task(
        name="car",
        tag="CAR",
        title="JPEG artefacts, quality {level:g}",
        input="Y of a JPEG of quality {level:g}",
        channels="y",
        degradation="jpeg",
        level="quality",
        level_tag="q",
        levels=(10, 20, 30, 40),
        sets=("Classic5", "LIVE1"),
        released="RNAN_CAR_Y_F64G10P48L2N{level:g}",
        heading="JPEG artefact reduction on Y, quality {level:g}",
        blind=Blind(5, 95, levels=(20, 10, 40, 75, 90)),
        warm_iter=6000,
        again_iter=0,
        other_channels=("rgb",),
    )
)
add_task(
    Task(
        name="sr",
        tag="SR",
        title="super-resolution ×{level:g}",
        input="RGB image shrunk by MATLAB's bicubic interpolation",
        channels="rgb",
        degradation="bicubic",
        level="scale",
        level_tag="x",
        levels=(2, 3, 4),
        scored_on="y",
        loss="L1Loss",
        sets=("Set5", "Set14", "B100", "Urban100", "Manga109"),
        released="RNAN_SR_F64G10P48BIX{level:g}",
        heading="Super-resolution ×{level:g} of bicubic images",
    )
)


@dataclass(frozen=True)
class TaskAtLevel:
    """A task with its level, such as CAR at quality 10: what the paper's tables have a column for.

    Args:
        name: One of `TASKS`.
        level: Sigma, quality or scale; None for a task without levels.
        noise_seed: 0 or more; the noise of an image depends on it and the image's content.

    Raises:
        UserError: Any of these is not legal.
    """

    name: str
    level: float | None = None
    noise_seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in TASKS:
            raise UserError(f"task: no '{self.name}'{nearest(str(self.name), TASKS)}")
        if (self.level is None) != (self.row.level is None):
            needs = f"needs a {self.row.level}" if self.row.level else "has no levels"
            raise UserError(f"level: {self.name} {needs}")
        if self.noise_seed < 0:
            raise UserError(f"seed: {self.noise_seed} is negative; use 0 or more")
        _ = self.degradation  # checks the level's value

    def __str__(self) -> str:
        return self.name if self.level is None else f"{self.name} {self.level:g}"

    @property
    def row(self) -> Task:
        """The task without its level."""
        return TASKS[self.name]

    @property
    def degradation(self) -> Degradation:
        """What makes the LQ image."""
        build = DEGRADATIONS[self.row.degradation]
        if self.row.level is None or self.level is None:
            return build()
        level = self.level
        if has_whole_levels(self.row.degradation, self.row.level):
            if not float(level).is_integer():  # nor infinite, nor not a number
                raise UserError(f"level: {level} is not a whole number, as {self.name} needs")
            level = int(level)
        try:
            return build(**{self.row.level: level})
        except UserError as error:
            raise error.within("level: ") from None

    @property
    def scale(self) -> int:
        """Pixels of the restored image for one of the input, in each direction."""
        return self.degradation.scale

    @property
    def border(self) -> int:
        """Pixels at the rim that are not scored."""
        return self.scale if self.row.scored_on == "y" else 0

    @property
    def scored_on(self) -> str:
        """The channels that are scored, in words."""
        if self.row.scored_on == "y":
            return "Y, unrounded"
        return CHANNELS_NAME[self.row.channels]

    @property
    def title(self) -> str:
        """What it is, for headings and cards."""
        return self.row.title.format(level=self.level or 0)

    @property
    def file_stem(self) -> str:
        """As weights' files are called, such as "car_10"."""
        return str(self).replace(" ", "_")

    @property
    def released(self) -> str | None:
        """Name of the authors' checkpoint, without ending; None where they released none."""
        if self.row.released is None or (self.level is not None and self.level not in self.row.levels):
            return None
        return self.row.released.format(level=self.level or 0)
