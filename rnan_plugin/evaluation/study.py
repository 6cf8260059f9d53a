"""Train a set of option files one after another, go on where it was interrupted, and collect their results.

    python scripts/run_set.py options/ablation/*.yml --table results/ablation.md
    python scripts/run_set.py options/ablation/*.yml --processes 4      # each as a torchrun job of 4 processes
    python scripts/run_set.py options/ablation/*.yml --only-table --table ablation.md --curves ablation.png

A training that is finished is passed over, a begun one goes on from its last good state, so that the same command
serves to begin and to go on. Ctrl-C lets the running training save, and ends. The table has the last and the best
metrics of each training, the curves those between, by its TensorBoard log. Minutes are at the median step's time, so
that validation, pauses and other work on the machine do not count.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rnan_plugin.checkpoints import iterations
from rnan_plugin.errors import UserError, exit_status
from rnan_plugin.files import atomic_path
from rnan_plugin.options.schema import read_option_file
from rnan_plugin.evaluation.reports import markdown_table
from rnan_plugin.training.curves import Curve, training_curves

EXPERIMENTS, LOGS = Path("experiments"), Path("tb_logger")


@dataclass(frozen=True)
class Training:
    """One option file, its experiment's name and its last iteration."""

    file: str
    name: str
    total: int

    @property
    def done(self) -> int:
        """Iterations that are saved."""
        states = iterations((EXPERIMENTS / self.name / "training_states").glob("[0-9]*.state"))
        return max(states, default=0)

    @property
    def finished(self) -> bool:
        """Whether it came to its end, the last validation and the last weights included."""
        return self.done >= self.total and (EXPERIMENTS / self.name / "models/net_g_latest.pth").is_file()


def read_set(files: Sequence[str]) -> list[Training]:
    """Read the option files; errors name file and key."""
    trainings = []
    for file in files:
        options = read_option_file(file)
        total = (options.get("train") or {}).get("total_iter")
        if not isinstance(total, int):
            raise UserError(f"{file}, train.total_iter: {total!r} is no whole number; only trainings can be run")
        trainings.append(Training(file, options["name"], total))
    names = [training.name for training in trainings]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{', '.join(t.file for t in trainings if t.name == name)}: both are called {name}")
    return trainings


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
        for number in (signal.SIGTERM, signal.SIGINT):
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
    folder = LOGS / training.name
    return training_curves(folder) if training.done and folder.is_dir() else {}


def table(results: Results) -> str:
    """A Markdown table of all trainings, also of those that are not finished; metrics are better when higher."""
    columns = sorted({name for curves in results.values() for name in curves})
    rows = [["training", "iterations", "minutes", *(f"{name}, last (best)" for name in columns)]]
    for training, curves in results.items():
        minutes = [curve.minutes[-1] for curve in curves.values() if curve.minutes]
        cells = [f"{max(minutes):.1f}" if minutes else "–"]
        for name in columns:
            values = curves[name].values if name in curves else []
            cells.append(f"{values[-1]:.4f} ({max(values):.4f})" if values else "–")
        rows.append([training.name, f"{training.done:,} of {training.total:,}", *cells])
    return markdown_table(rows)


def draw_curves(results: Results, file: Path) -> None:
    """Write a figure: a row for each metric, against iterations and against minutes."""
    import matplotlib as mpl  # training needs none of it

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    metrics = sorted({name for curves in results.values() for name in curves})
    if not metrics:
        print(f"{file}: not drawn, no validation in the logs yet", file=sys.stderr)
        return
    figure, axes = plt.subplots(len(metrics), 2, figsize=(12, 4 * len(metrics)), layout="constrained", squeeze=False)
    for row, metric in zip(axes, metrics, strict=True):
        drawn = {training.name: curves[metric] for training, curves in results.items() if metric in curves}
        for name, curve in drawn.items():
            row[0].plot(curve.iterations, curve.values, "o-", ms=3, label=name)
            row[1].plot(curve.minutes, curve.values[: len(curve.minutes)], "o-", ms=3)
        for place, unit in zip(row, ("iterations", "minutes of training"), strict=True):
            place.set(xlabel=unit, ylabel=metric)
            place.grid(alpha=0.3)
        row[0].legend(fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        figure.savefig(temporary, dpi=100)


def main() -> int:
    """Run the command line; return the exit status, that of a training that failed or was stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="+", help="option files")
    parser.add_argument("--processes", type=int, default=1, help="of each training, by torchrun (default: 1, without)")
    parser.add_argument("--table", type=Path, help="Markdown file to write the table to, too")
    parser.add_argument("--curves", type=Path, help="PNG, SVG or PDF to draw the validation metrics to")
    parser.add_argument("--only-table", action="store_true", help="train nothing")
    args = parser.parse_args()
    status = 0
    trainings, runner = read_set(args.files), Runner()
    for training in [] if args.only_table else trainings:
        if training.finished:
            print(f"{training.name}: finished already", flush=True)
            continue
        print(f"{training.name}: from iteration {training.done:,} of {training.total:,}", flush=True)
        status = runner.run(training, args.processes)
        if status:
            print(f"error: {training.file}: ended with status {status}; the same command goes on", file=sys.stderr)
            break
    results = {training: curves_of(training) for training in trainings}
    text = table(results)
    print(text, end="")
    if args.table:
        args.table.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(args.table) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if args.curves:
        draw_curves(results, args.curves)
    return status


if __name__ == "__main__":
    sys.exit(exit_status(main))
