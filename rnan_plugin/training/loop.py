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
from rnan_plugin.data.sampler import DrawSampler, SeededDraws, seed_streams
from rnan_plugin.errors import UserError
from rnan_plugin.toolbox.api import (
    MessageLogger,
    build_dataloader,
    build_dataset,
    build_model,
    get_root_logger,
)
from rnan_plugin.training.data_workers import end_workers, ignore_signals, said_by_worker
from rnan_plugin.training.event_log import EventLog
from rnan_plugin.training.run_folder import prepare_run

DATA_SHARE_LIMIT = 0.1  # of a step's time; above it the data loader holds the training up


def train(opt: dict[str, Any], option_file: str, state: dict[str, Any] | None) -> int:
    """Train to the last iteration, or until asked to stop.

    Args:
        opt: As `rnan_plugin.training.launcher.parse_options` gives it.
        option_file: Copied into the run's folder.
        state: Training state to go on from.

    Returns:
        Exit status: 0, or 128 and the number of the signal that stopped it (SIGTERM 143, Ctrl-C 130).

    Raises:
        UserError: See `RestorationModel`, or the data can't be read.
    """
    torch.backends.cudnn.benchmark = True
    opt["root_path"] = str(Path(opt["path"]["experiments_root"]).parents[1])
    writer = prepare_run(opt, option_file, state)
    logger = get_root_logger()
    train_loader, val_loaders = _loaders(opt, state)
    model = build_model(opt)
    if state is not None:
        model.resume_training(state)
        logger.info(f"Resuming training from epoch: {state['epoch']}, iter: {state['iter']}.")
    with _stop_signals() as caught:
        run = _Run(opt, model, train_loader, val_loaders, writer, caught)
        run.go_on_from(state or {}, _first_draw(opt, state))
        try:
            stopped = run.to_the_end()
        except (UserError, RuntimeError) as error:
            told = said_by_worker(error)
            if told is None:
                raise
            raise UserError(told) from None
        finally:
            end_workers()
            if writer:
                writer.close()
    return 128 + stopped if stopped else 0


def _loaders(opt: dict[str, Any], state: Mapping[str, Any] | None) -> tuple[DataLoader[Any], list[DataLoader[Any]]]:
    """The training set from the state's draw on, and the validation sets."""
    val_loaders = []
    for phase, options in opt["datasets"].items():
        dataset = build_dataset(options)
        if phase != "train":
            val_loaders.append(build_dataloader(dataset, options, num_gpu=opt["num_gpu"], seed=opt["manual_seed"]))
            continue
        batch = options["batch_size_per_gpu"]
        first = _first_draw(opt, state)
        steps = max(0, int(opt["train"]["total_iter"]) - (state["iter"] if state else 0))
        last = first + steps * _samples_per_step(opt)
        place = {"rank": opt["rank"], "world_size": opt["world_size"]}
        train_loader = DataLoader(
            SeededDraws(dataset, opt["manual_seed"]),
            batch_size=batch,
            sampler=DrawSampler(len(dataset), opt["manual_seed"], first, last, **place),
            num_workers=options["num_worker_per_gpu"],
            pin_memory=options.get("pin_memory", False),
            worker_init_fn=ignore_signals,
            drop_last=True,
        )
        get_root_logger().info(f"Training statistics: {len(dataset)} images, batch {batch} × {opt['world_size']}")
    return train_loader, val_loaders


def _first_draw(opt: Mapping[str, Any], state: Mapping[str, Any] | None) -> int:
    if state is None:
        return 0
    return int(state.get("draws", state["iter"] * _samples_per_step(opt)))  # states of the stock script know no draws


def _samples_per_step(opt: Mapping[str, Any]) -> int:
    """Samples of one iteration of all processes together."""
    return int(opt["datasets"]["train"]["batch_size_per_gpu"] * opt["world_size"])


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and Ctrl-C instead of dying of them; a second Ctrl-C is obeyed at once."""
    caught: list[int] = []

    def note(number: int, _: object) -> None:
        if number == signal.SIGINT and number in caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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

    def _iterate(self, batch: Any) -> int:
        """Do all that an iteration asks for; return the signal that asks to stop, or 0."""
        self.iteration += 1
        self._step(batch)
        stop = self._asked_to_stop()
        if not stop and self._due("logger", "save_checkpoint_freq"):
            self._save()
        return self._validate() if not stop and self._validation_is_due() else stop

    def _timed(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """Yield batches, taking down how long each was waited for, and how long it was worked on."""
        before = time.perf_counter()
        with self._saved_if_it_fails():  # what is done with a batch is not in here
            for batch in loader:
                ready = time.perf_counter()
                self.data_seconds += ready - before
                yield batch
                before = time.perf_counter()

    def _step(self, batch: Any) -> None:
        start = time.perf_counter()
        seed_streams(self.opt["manual_seed"], "step", self.iteration, self.opt["rank"])
        self.model.update_learning_rate(self.iteration, warmup_iter=self.opt["train"].get("warmup_iter", -1))
        self.model.feed_data(batch)
        self.model.optimize_parameters(self.iteration)
        self.draws += _samples_per_step(self.opt)
        self.step_seconds += time.perf_counter() - start
        self.steps += 1
        if self._due("logger", "print_freq"):
            self._log()

    def _due(self, section: str, key: str) -> bool:
        every = int((self.opt.get(section) or {}).get(key) or 0)
        return every > 0 and self.iteration % every == 0

    def _asked_to_stop(self) -> int:
        """The signal that any process has been sent, or 0."""
        group = getattr(self.model, "control_group", None)  # the toolbox's own models have none
        signals = torch.tensor([self.caught[0] if self.caught else 0], device=None if group else self.model.device)
        if self.opt["dist"]:
            dist.all_reduce(signals, op=dist.ReduceOp.MAX, group=group)
        return int(signals.item())

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

    @contextmanager
    def _saved_if_it_fails(self) -> Iterator[None]:
        """Let an image that can't be read cost no iteration that is done."""
        try:
            yield
        except (UserError, RuntimeError, OSError):
            if self.iteration > max(self.saved, 0):
                self._save()
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
            with self._saved_if_it_fails():
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
        batch = _samples_per_step(self.opt)
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
        settings = {**self.opt["network_g"], "batch": train_set["batch_size_per_gpu"], "patch": train_set["gt_size"]}
        settings |= {"lr": train["optim_g"].get("lr"), "total_iter": train["total_iter"]}
        legal = {key: value for key, value in settings.items() if isinstance(value, (bool, int, float, str))}
        rows = [(f"best/{name}/{key}", row["val"]) for name, of_set in best.items() for key, row in of_set.items()]
        self.writer.add_hparams(legal, dict(rows))
