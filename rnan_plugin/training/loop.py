"""The plugin's training loop: the toolbox's parts, in an order that can be left and taken up at any iteration.

What an iteration computes depends on the option file, the weights and optimiser before it, and its number alone:
samples are drawn by number (`rnan_plugin.data.sampler`), and the random streams are set before each step. A run that
was killed and resumed therefore ends with the same bits as one that was not.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch.utils.data import DataLoader

from rnan_plugin import device
from rnan_plugin.data.sampler import seed_streams
from rnan_plugin.errors import UserError
from rnan_plugin.toolbox.api import MessageLogger, build_model, get_root_logger
from rnan_plugin.training.data_workers import end_workers
from rnan_plugin.training.endings import ENDED_WITH_ANOTHER, IN_A_STEP, IN_A_VALIDATION, stop_signals, told_in_a_line
from rnan_plugin.training.event_log import EventLog
from rnan_plugin.training.loaders import first_draw, make_loaders, read_from, samples_per_step
from rnan_plugin.training.run_aside import set_later_aside
from rnan_plugin.training.run_folder import prepare_run
from rnan_plugin.training.states import states_of

DATA_SHARE_LIMIT = 0.1  # of a step's time; above it the data loader holds the training up


def train(opt: dict[str, Any], option_file: str, state: dict[str, Any] | None) -> int:
    """Train to the last iteration, or until asked to stop.

    Args:
        opt: As `rnan_plugin.training.launcher.parse_options` gives it.
        option_file: Copied into the run's folder.
        state: Training state to go on from.

    Returns:
        Exit status: 0, or 128 and the number of the signal that stopped it (SIGTERM 143, Ctrl-C 130, SIGHUP 129).

    Raises:
        UserError: See `RestorationModel`, or the data can't be read.
    """
    torch.backends.cudnn.benchmark = True
    opt["root_path"] = str(Path(opt["path"]["experiments_root"]).parents[1])
    begin_records = prepare_run(opt, option_file, state)
    train_loader, val_loaders = make_loaders(opt, state)
    model = build_model(opt)
    if state is not None:
        _go_on(opt, model, state)
    writer = begin_records()
    with stop_signals() as caught:
        run = _Run(opt, model, train_loader, val_loaders, writer, caught)
        run.go_on_from(state or {}, first_draw(opt, state))
        try:
            stopped = run.to_the_end()
        finally:
            end_workers()
            if writer:
                writer.close()
    return 128 + stopped if stopped else 0


def _go_on(opt: Mapping[str, Any], model: Any, state: dict[str, Any]) -> None:
    """Take over a training state.

    What was trained after it no longer counts: where the option file names it, or later ones are not whole.
    """
    model.resume_training(state)
    last = next(iter(states_of(Path(opt["path"]["training_states"]))), state["iter"])
    if opt["rank"] == 0 and (not opt["auto_resume"] or last > state["iter"]):
        set_later_aside(opt, state["iter"])
    if hasattr(model, "take_over_best"):  # the toolbox's own models keep no best
        model.take_over_best(state.get("best") or {})
    get_root_logger().info(f"Resuming training from epoch: {state['epoch']}, iter: {state['iter']}.")


@dataclass
class _Run:
    """One process's part of a training, from an iteration on."""

    opt: dict[str, Any]
    model: Any
    train_loader: DataLoader[Any]
    val_loaders: list[DataLoader[Any]]
    writer: EventLog | None
    caught: list[int]  # signals that ask to stop
    iteration: int = 0
    draws: int = 0  # samples that all processes together have trained on
    saved: int = -1  # last iteration that was
    validated: int = -1  # last iteration that was, to the last image
    data_seconds: float = 0.0  # since the last line of the log
    step_seconds: float = 0.0
    steps: int = 0
    messages: Any = field(init=False)

    def go_on_from(self, state: Mapping[str, Any], draws: int) -> None:
        """Take over what a training state says of the loop; an empty one is the beginning."""
        self.iteration, self.draws = state.get("iter", 0), draws
        self.saved, self.validated = state.get("iter", -1), state.get("validated", -1)
        logged = {**self.opt["logger"], "use_tb_logger": self.writer is not None}  # whatever it is that is written to
        self.messages = MessageLogger({**self.opt, "logger": logged}, self.iteration, self.writer)
        # BasicSR's estimate is one step short: on the last line it would be less than nothing.
        self.messages.max_iters = self._last + 1
        self.model.should_stop = lambda: bool(self.caught)

    def to_the_end(self) -> int:
        """Train; return the signal that stopped it, or 0."""
        logger = get_root_logger()
        logger.info(f"Start training from iter: {self.iteration}")
        start = time.perf_counter()
        with self._saved_if_it_fails():
            stop = self._go_through()
        if stop:
            saved = getattr(self.model, "saved", self.iteration) == self.iteration  # no full disk was in the way
            kept = "and saved; --auto_resume goes on from here" if saved else "but not saved; the error above says why"
            logger.info(f"Stopped by {signal.Signals(stop).name} {kept}.")
            return stop
        logger.info(f"End of training. Time consumed: {time.perf_counter() - start:.0f} s")
        self.model.save(-1, -1)
        self._record()  # what makes a finished run: it comes last
        self._summarise()
        return 0

    def _go_through(self) -> int:
        """All iterations, saved and validated; return the signal that asked to stop, or 0."""
        # A run that was ended between saving and validating makes up for it: "best" depends on it.
        stop = self._validate() if self._validation_is_due() else 0
        for batch in () if stop else self._timed(self.train_loader):
            stop = self._iterate(batch)
            if stop:
                break
        if self.saved != self.iteration:
            self._save()
        if not stop and self.validated != self.iteration:
            stop = self._validate()
        return stop

    def _iterate(self, batch: Any) -> int:
        """Do all that an iteration asks for; return the signal that asks to stop, or 0."""
        with told_in_a_line(f"iteration {self.iteration + 1}", IN_A_STEP):
            self._step(batch)
        if self._due("logger", "print_freq"):
            self._log()
        stop = self._asked_to_stop()
        if not stop and self._due("logger", "save_checkpoint_freq"):
            self._save()
        return self._validate() if not stop and self._validation_is_due() else stop

    def _timed(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """Yield batches, taking down how long each was waited for, and how long it was worked on."""
        batches, before = read_from(loader, "datasets.train"), time.perf_counter()
        while (batch := self._next(batches)) is not None:
            self.data_seconds += time.perf_counter() - before
            yield batch
            before = time.perf_counter()

    def _next(self, batches: Iterator[Any]) -> Any:
        """The next batch, or None; where one process can't read its own, all save what is done, and end."""
        batch, problem = None, None
        try:
            batch = next(batches, None)
        except UserError as error:
            problem = error
        if not self._largest(problem is not None):
            return batch
        self._save_what_is_done()
        self._largest(0)  # until the first has saved: whoever ends first has the others ended
        raise problem or SystemExit(ENDED_WITH_ANOTHER)

    def _step(self, batch: Any) -> None:
        """Train on a batch; an iteration counts when all of it is done."""
        start, number = time.perf_counter(), self.iteration + 1
        seed_streams(self.opt["manual_seed"], "step", number, self.opt["rank"])
        self.model.update_learning_rate(number, warmup_iter=self.opt["train"].get("warmup_iter", -1))
        self.model.feed_data(batch)
        self.model.optimize_parameters(number)
        self.iteration = number
        self.draws += samples_per_step(self.opt)
        self.step_seconds += time.perf_counter() - start
        self.steps += 1

    def _due(self, section: str, key: str) -> bool:
        every = int((self.opt.get(section) or {}).get(key) or 0)
        return every > 0 and self.iteration % every == 0

    def _asked_to_stop(self) -> int:
        """The signal that any process has been sent, or 0."""
        return self._largest(self.caught[0] if self.caught else 0)

    def _largest(self, number: int) -> int:
        """The largest of all processes' numbers; each waits for the others."""
        if not self.opt["dist"]:
            return int(number)
        group = getattr(self.model, "control_group", None)  # the toolbox's own models have none
        numbers = torch.tensor([int(number)], device=None if group else self.model.device)
        dist.all_reduce(numbers, op=dist.ReduceOp.MAX, group=group)
        return int(numbers.item())

    @property
    def _last(self) -> int:
        return int(self.opt["train"]["total_iter"])

    def _validation_is_due(self) -> bool:
        return self.iteration > 0 and self._due("val", "val_freq") and self.validated != self.iteration

    def _epoch(self) -> int:
        ratio = self.opt["datasets"]["train"].get("dataset_enlarge_ratio", 1)
        size = len(self.train_loader.dataset.dataset) * ratio  # type: ignore[attr-defined]
        return int(self.draws // size)

    def _save(self) -> None:
        get_root_logger().info("Saving models and training states.")
        self._hand_over()
        self.model.save(self._epoch(), self.iteration)
        self.saved = self.iteration

    def _save_what_is_done(self) -> None:
        if self.iteration > max(self.saved, 0) and not getattr(self.model, "mid_step", False):
            self._save()

    @contextmanager
    def _saved_if_it_fails(self) -> Iterator[None]:
        """Let no error cost an iteration that is done, whether of data, of the machine, of another process or our own.

        Where another process has died, the next exchange with it is such an error.
        """
        try:
            yield
        except (Exception, SystemExit):
            self._save_what_is_done()
            raise

    def _hand_over(self) -> None:
        """Give the model what its next training state has to say of the loop.

        What is logged of iterations up to a state is on disk before it: they are not logged again on resuming.
        """
        if self.writer:
            self.writer.flush()
        self.model.progress = {"draws": self.draws, "validated": self.validated}

    def _record(self) -> None:
        """Let the training state of this iteration, if any, know what was found since."""
        if self.saved == self.iteration and hasattr(self.model, "update_training_state"):
            self._hand_over()
            self.model.update_training_state(self._epoch(), self.iteration)

    def _validate(self) -> int:
        """Validate; return the signal that asks to stop, after which it is done again, or 0."""
        for loader in self.val_loaders if self.opt.get("val") else []:
            with told_in_a_line("validation", IN_A_VALIDATION):
                self.model.validation(loader, self.iteration, self.writer, self.opt["val"]["save_img"])
        stop = self._asked_to_stop()
        if not stop:
            self.validated = self.iteration
            if self.iteration < self._last:
                self._record()
        return stop

    def _log(self) -> None:
        """A line of the log and the scalars of TensorBoard, over the steps since the last."""
        total = self.data_seconds + self.step_seconds
        share = self.data_seconds / total
        batch = samples_per_step(self.opt)
        line = {"epoch": self._epoch(), "iter": self.iteration, "lrs": self.model.get_current_learning_rate()}
        line |= {"time": total / self.steps, "data_time": self.data_seconds / self.steps}
        line |= self.model.get_current_log()
        line |= {"samples_per_second": self.steps * batch / total, "data_share": share}
        line |= {"memory_mib": device.process_peak_mib()}
        self.messages(line)
        if self.writer:
            self.writer.add_scalar("learning_rate", self.model.get_current_learning_rate()[0], self.iteration)
            self.writer.add_scalar("seconds_per_step", total / self.steps, self.iteration)
        if share > DATA_SHARE_LIMIT and self.steps > 1:
            get_root_logger().warning(
                f"loading data took {share:.0%} of the time; raise num_worker_per_gpu (a machine has "
                f"{os.cpu_count()} cores), or pack the images with `rnan prepare --codec raw`"
            )
        self.data_seconds, self.step_seconds, self.steps = 0.0, 0.0, 0

    def _summarise(self) -> None:
        """The entry of TensorBoard's hparams page."""
        best = getattr(self.model, "best_metric_results", {})
        if not self.writer or not best:
            return
        train_set, train = self.opt["datasets"]["train"], self.opt["train"]
        settings = {
            **self.opt["network_g"],
            "batch": train_set["batch_size_per_gpu"],
            "patch": train_set.get("gt_size"),
        }
        settings |= {"lr": train["optim_g"].get("lr"), "total_iter": train["total_iter"]}
        legal = {key: value for key, value in settings.items() if isinstance(value, (bool, int, float, str))}
        rows = [(f"best/{name}/{key}", row["val"]) for name, of_set in best.items() for key, row in of_set.items()]
        self.writer.add_hparams(legal, dict(rows))
