"""A set of trainings, one after another: begun, gone on with, and collected into a table and curves."""

from __future__ import annotations

import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rnan_plugin.errors import RnanWarning, UserError, shown
from rnan_plugin.evaluation.plotting import pyplot, save_picture
from rnan_plugin.evaluation.reports import markdown_table
from rnan_plugin.files import one_component, write_texts
from rnan_plugin.options.changes import changed_keys
from rnan_plugin.options.schema import read_option_file
from rnan_plugin.options.values import MISFIT, Count, describe, fitted
from rnan_plugin.targets import ABSENT, absence
from rnan_plugin.training.curves import Curve, training_curves
from rnan_plugin.training.endings import asking
from rnan_plugin.training.metrics import better
from rnan_plugin.training.states import newest_state, place_of_run, states_of


@dataclass(frozen=True)
class Training:
    """One option file, its experiment's name and its last iteration."""

    file: str
    name: str
    total: int
    falling: frozenset[str] = frozenset()  # validation metrics that are better when lower

    @property
    def folder(self) -> Path:
        """Where it is begun or gone on with, as by the command that trains."""
        return place_of_run(self.file, self.name)

    @property
    def run(self) -> Path:
        """The folder of its weights and states."""
        return self.folder / "experiments" / self.name

    @property
    def done(self) -> int:
        """Iterations that are saved."""
        return max(states_of(self.run / "training_states"), default=0)

    @property
    def changes(self) -> list[str]:
        """What its option file says otherwise than the copy beside its weights, by which it was trained last."""
        copy = self.run / Path(self.file).name
        if not self.done or absence(copy) is not None:
            return []
        return changed_keys(read_option_file(str(copy)), read_option_file(self.file))

    @property
    def finished(self) -> bool:
        """Whether it came to its end, the last validation and the last weights included."""
        run = self.run
        if self.done < self.total or not (run / "models/net_g_latest.pth").is_file():
            return False
        found = newest_state(run / "training_states", run / "models")
        return found is not None and found[1]["iter"] == found[1].get("validated", found[1]["iter"]) >= self.total


def read_set(files: Sequence[str]) -> list[Training]:
    """Read the option files; errors name file and key."""
    trainings = []
    for file in files:
        options = read_option_file(file)
        name, train = one_component(options["name"], f"{file}, name"), options.get("train")
        written = train.get("total_iter") if isinstance(train, Mapping) else None
        total = fitted(written, Count)
        if total is MISFIT:
            told = f"{shown(written)} is not {describe(Count)}"
            raise UserError(f"{file}, train.total_iter: {told}; only trainings can be run")
        trainings.append(Training(file, name, total, _falling(options)))
    names = [training.name for training in trainings]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{', '.join(t.file for t in trainings if t.name == name)}: both are called {name}")
    return trainings


def _falling(options: Mapping[str, Any]) -> frozenset[str]:
    """Names of an option file's metrics that are better when lower; `option_check` tells what is wrong with them."""
    val = options.get("val")
    metrics = val.get("metrics") if isinstance(val, Mapping) else None
    named = metrics.items() if isinstance(metrics, Mapping) else ()
    return frozenset(name for name, metric in named if isinstance(metric, Mapping) and better(metric) == "lower")


def command(training: Training, processes: int) -> list[str]:
    """The command that begins a training or goes on with it."""
    train = ["-m", "rnan_plugin", "train", "-opt", training.file, "--auto_resume"]
    if processes == 1:
        return [sys.executable, *train]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [sys.executable, *torchrun, *train, "--launcher", "pytorch"]


class Runner:
    """Runs trainings; a signal to stop is passed on to the running one, and no other begins after it."""

    def __init__(self) -> None:
        self.stopped = 0
        self._process: subprocess.Popen[bytes] | None = None
        for number in asking():
            signal.signal(number, self._stop)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self.stopped = number
        if self._process is not None:
            self._process.send_signal(number)

    def run(self, training: Training, processes: int) -> int:
        """Run a training to its end; return its exit status."""
        # A session of its own: Ctrl-C in a terminal would reach it twice, and twice means at once.
        self._process = subprocess.Popen(command(training, processes), start_new_session=True)
        if self.stopped:
            self._process.send_signal(self.stopped)
        status = self._process.wait()
        return status or (128 + self.stopped if self.stopped else 0)


Results = dict[Training, dict[str, Curve]]


def curves_of(training: Training) -> dict[str, Curve]:
    """Its validation metrics, by `SET/METRIC`; none where logger.use_tb_logger is false."""
    folder = training.folder / "tb_logger" / training.name
    return training_curves(folder) if training.done and absence(folder) != ABSENT else {}


def table(results: Results) -> str:
    """A Markdown table of all trainings, also of those that are not finished."""
    columns = sorted({name for curves in results.values() for name in curves})
    rows = [["training", "iterations", "minutes", *(f"{name}, last (best)" for name in columns)]]
    for training, curves in results.items():
        minutes = [curve.minutes[-1] for curve in curves.values() if curve.minutes]
        cells = [f"{max(minutes):.1f}" if minutes else "–"]
        for name in columns:
            values = curves[name].values if name in curves else []
            best = min if name.rpartition("/")[2] in training.falling else max
            cells.append(f"{values[-1]:.4f} ({best(values):.4f})" if values else "–")
        rows.append([training.name, f"{training.done:,} of {training.total:,}", *cells])
    return markdown_table(rows)


def draw_curves(results: Results, file: Path) -> None:
    """Write a figure: a row for each metric, against iterations and against minutes."""
    metrics = sorted({name for curves in results.values() for name in curves})
    if not metrics:
        print(
            f"{file}: not drawn, no validation in the logs yet (they need logger.use_tb_logger and a section val)",
            file=sys.stderr,
        )
        return
    figure, axes = pyplot().subplots(
        len(metrics), 2, figsize=(12, 4 * len(metrics)), layout="constrained", squeeze=False
    )
    for row, metric in zip(axes, metrics, strict=True):
        drawn = {training.name: curves[metric] for training, curves in results.items() if metric in curves}
        for name, curve in drawn.items():
            row[0].plot(curve.iterations, curve.values, "o-", ms=3, label=name)
            row[1].plot(curve.minutes, curve.values[: len(curve.minutes)], "o-", ms=3)
        for place, unit in zip(row, ("iterations", "minutes of training"), strict=True):
            place.set(xlabel=unit, ylabel=metric)
            place.grid(alpha=0.3)
        row[0].legend(fontsize=8)
    save_picture(figure, file, dpi=100)


def run_study(files: Sequence[str], processes: int) -> int:
    """Train option files one after another; return the status of a training that failed or was stopped, or 0.

    A finished training is passed over, a begun one goes on from its last good state.

    Args:
        files: Option files.
        processes: Of each training, by torchrun; 1 goes without.

    Raises:
        UserError: A file has something to mend.
    """
    runner = Runner()
    for training in read_set(files):
        if training.finished:
            print(f"{training.name}: finished already", flush=True)
            continue
        print(f"{training.name}: from iteration {training.done:,} of {training.total:,}", flush=True)
        status = runner.run(training, processes)
        if status:
            print(f"error: {training.file}: ended with status {status}; the same command goes on", file=sys.stderr)
            return status
    return 0


def report_study(files: Sequence[str], table_file: Path | None, curves_file: Path | None) -> None:
    """Print the table of all trainings; write it, and the curves, where asked for, over those of an earlier report.

    Raises:
        UserError: A file has something to mend, or what is asked for can't be written.
    """
    results = {training: curves_of(training) for training in read_set(files)}
    for training in results:
        for line in training.changes:
            told = f"{training.file}: changed since it was trained, of which its results are: {line}"
            warnings.warn(told, RnanWarning, stacklevel=2)
    text = table(results)
    print(text, end="")
    if table_file:
        write_texts({table_file: text})
    if curves_file:
        draw_curves(results, curves_file)
