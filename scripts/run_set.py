"""Train a set of option files one after another, go on where it was interrupted, and collect their results.

    python scripts/run_set.py options/ablation/*.yml --table results/ablation.md
    python scripts/run_set.py options/ablation/*.yml --processes 4      # each as a torchrun job of 4 processes
    python scripts/run_set.py options/ablation/*.yml --only-table --table results/ablation.md

A training that is finished is passed over, a begun one goes on from its last good state, so that the same command
serves to begin and to go on. Ctrl-C lets the running training save, and ends. The table has the last and the best
metrics of each training, by its TensorBoard log.
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

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnan_plugin.checkpoints import iterations
from rnan_plugin.errors import UserError, exit_status
from rnan_plugin.files import atomic_path
from rnan_plugin.options import read_option_file
from rnan_plugin.reports import markdown_table

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


def metrics_of(training: Training) -> dict[str, tuple[float, float]]:
    """Last and best value of each metric, by `SET/METRIC`; psnr and ssim are better when higher."""
    if not (LOGS / training.name).is_dir():  # logger.use_tb_logger is false
        return {}
    events = EventAccumulator(str(LOGS / training.name)).Reload()
    found = {}
    for tag in events.Tags()["scalars"]:
        if tag.startswith("metrics/"):
            values = [event.value for event in events.Scalars(tag)]
            found[tag.removeprefix("metrics/")] = (values[-1], max(values))
    return found


def table(trainings: list[Training]) -> str:
    """A Markdown table of all trainings, also of those that are not finished."""
    results = {training: metrics_of(training) if training.done else {} for training in trainings}
    columns = sorted({name for metrics in results.values() for name in metrics})
    rows = [["training", "iterations", *(f"{name}, last (best)" for name in columns)]]
    for training, metrics in results.items():
        cells = [f"{metrics[name][0]:.4f} ({metrics[name][1]:.4f})" if name in metrics else "–" for name in columns]
        rows.append([training.name, f"{training.done:,} of {training.total:,}", *cells])
    return markdown_table(rows)


def main() -> int:
    """Run the command line; return the exit status, that of a training that failed or was stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="+", help="option files")
    parser.add_argument("--processes", type=int, default=1, help="of each training, by torchrun (default: 1, without)")
    parser.add_argument("--table", type=Path, help="Markdown file to write the table to, too")
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
    text = table(trainings)
    print(text, end="")
    if args.table:
        args.table.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(args.table) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(exit_status(main))
