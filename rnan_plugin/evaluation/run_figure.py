"""The curves of a training as one picture, for whoever has no TensorBoard at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rnan_plugin.errors import UserError
from rnan_plugin.evaluation.plotting import picture_file, pyplot, save_picture
from rnan_plugin.targets import ABSENT, absence, is_file, is_folder
from rnan_plugin.training.curves import METRICS, logged_scalars

_LOSSES = "losses/"
_UNITS = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "seconds_per_step": "seconds per iteration",
    "learning_rate": "learning rate",
}
_WATCHED = ("learning_rate", "seconds_per_step")
Lines = dict[str, dict[int, float]]  # by name: values by iteration


def log_of(run: Path) -> Path:
    """The folder of the TensorBoard log of a run, which is named by it, or by `experiments/NAME`."""
    run = run.absolute()
    return run.parents[1] / "tb_logger" / run.name if run.parent.name == "experiments" else run


def draw_run(run: Path, file: Path, *, overwrite: bool = False) -> None:
    """Draw loss, validation metrics, learning rate and speed of a training against its iterations.

    Args:
        run: `experiments/NAME` or `tb_logger/NAME`.
        file: Picture to write; its ending says the format (PNG without one).
        overwrite: Replace a file that is there already.

    Raises:
        UserError: No log, an empty one, no matplotlib, or a file that is there or can't be written.
    """
    if is_file(run / "table.json"):
        raise UserError(f"{run}: a comparison; name set and image too: rnan figure {run} SET IMAGE FIGURE")
    file, log = picture_file(file, overwrite=overwrite), log_of(run)
    if absence(log) == ABSENT and log != run.absolute() and is_folder(run):
        raise UserError(f"{run}: has no log in {log}; it is written where logger.use_tb_logger is true")
    panels = _panels(logged_scalars(log))
    if not panels:
        raise UserError(f"{log}: nothing is logged yet; draw it once the training has made its first steps")
    figure, axes = pyplot().subplots(
        len(panels), 1, figsize=(9, 2.8 * len(panels)), layout="constrained", squeeze=False, sharex=True
    )
    for axis, (title, lines) in zip(axes[:, 0], panels.items(), strict=True):
        _draw(axis, title, lines)
    axes[0, 0].set_title(run.name)
    axes[-1, 0].set_xlabel("iteration")
    save_picture(figure, file, dpi=120)


def _panels(scalars: Lines) -> dict[str, Lines]:
    """What is drawn together, by the label of its axis: losses, then a metric of all sets, then rate and speed."""
    panels: dict[str, Lines] = {}
    for tag, values in sorted(scalars.items()):
        if tag.startswith(_LOSSES):
            panels.setdefault("loss", {})[tag.removeprefix(_LOSSES)] = values
    for tag, values in sorted(scalars.items()):
        if tag.startswith(METRICS):
            name, _, metric = tag.removeprefix(METRICS).rpartition("/")
            panels.setdefault(_UNITS.get(metric, metric), {})[name] = values
    panels |= {_UNITS[tag]: {"": scalars[tag]} for tag in _WATCHED if tag in scalars}
    return panels


def _draw(axis: Any, title: str, lines: Lines) -> None:
    """Lines with their names at their ends; losses, whose first steps are far above the rest, on a logarithmic axis."""
    for name, values in lines.items():
        (line,) = axis.plot(list(values), list(values.values()), "o-" if len(values) < 40 else "-", ms=3, lw=1)
        end = list(values.items())[-1]
        axis.annotate(f" {name}", end, color=line.get_color(), va="center", fontsize=8)
    if title == "loss" and all(value > 0 for values in lines.values() for value in values.values()):
        axis.set_yscale("log")
    axis.set_ylabel(title)
    axis.margins(x=0.02)
    axis.grid(alpha=0.3)
