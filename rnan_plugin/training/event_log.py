"""The log of a training for those who look at it: TensorBoard, wandb, mlflow, each behind one interface.

What a sink can't write, such as on a full disk, silences that sink instead of ending the training.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter

from rnan_plugin.toolbox.api import get_root_logger


class Sink(Protocol):
    """What a log is written to. wandb needs none: it copies what TensorBoard's is given."""

    name: str  # of what is gone without it
    place: str
    failures: tuple[type[Exception], ...]  # what it raises where it can't write

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Write one number of an iteration."""

    def add_image(self, tag: str, image: Any, step: int) -> None:
        """Write an image (C, H, W), 0..1, of an iteration."""

    def add_text(self, tag: str, text: str) -> None:
        """Write a text in Markdown."""

    def add_hparams(self, settings: dict[str, Any], results: dict[str, float]) -> None:
        """Write the run's settings and results."""

    def flush(self) -> None:
        """Let what was logged so far outlive a kill."""

    def close(self) -> None:
        """Write what is waiting."""


class TensorBoardSink:
    """TensorBoard's log.

    Args:
        folder: Of the log, made if missing.
        purge_step: What earlier logs in the folder say from this iteration on is hidden.
    """

    name = "TensorBoard's log"
    failures: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, folder: Path, purge_step: int) -> None:
        self.place = str(folder)
        _keep_writing_threads_quiet()
        self._writer: SummaryWriter | None = None
        self._open = lambda: SummaryWriter(str(folder), purge_step=purge_step)

    @property
    def writer(self) -> SummaryWriter:
        """Opened where it is first written to."""
        if self._writer is None:
            self._writer = self._open()
        return self._writer

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """See `Sink`."""
        self.writer.add_scalar(tag, value, step)

    def add_image(self, tag: str, image: Any, step: int) -> None:
        """See `Sink`."""
        self.writer.add_image(tag, image, step)

    def add_text(self, tag: str, text: str) -> None:
        """See `Sink`."""
        self.writer.add_text(tag, text)

    def add_hparams(self, settings: dict[str, Any], results: dict[str, float]) -> None:
        """See `Sink`; the run's row of the page of hyperparameters."""
        self.writer.add_hparams(settings, results, run_name=".")

    def flush(self) -> None:
        """See `Sink`."""
        self.writer.flush()

    def close(self) -> None:
        """See `Sink`."""
        if self._writer is not None:
            self._writer.close()


class EventLog:
    """What a training logs, handed to each of several sinks.

    The first that a sink can't write is told in one line; from then on it gets nothing until the training is started
    anew.
    """

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Write one number of an iteration."""
        self._each(lambda sink: sink.add_scalar(tag, value, step))

    def add_image(self, tag: str, image: Any, step: int) -> None:
        """Write an image (C, H, W), 0..1, of an iteration."""
        self._each(lambda sink: sink.add_image(tag, image, step))

    def add_text(self, tag: str, text: str) -> None:
        """Write a text in Markdown."""
        self._each(lambda sink: sink.add_text(tag, text))

    def add_hparams(self, settings: dict[str, Any], results: dict[str, float]) -> None:
        """Write the run's settings and results."""
        self._each(lambda sink: sink.add_hparams(settings, results))

    def flush(self) -> None:
        """Let what was logged so far outlive a kill."""
        self._each(lambda sink: sink.flush())

    def close(self) -> None:
        """Write what is waiting."""
        self._each(lambda sink: sink.close())

    def _each(self, write: Callable[[Sink], object]) -> None:
        for sink in list(self._sinks):
            try:
                write(sink)
            except sink.failures as error:
                self._give_up(sink, error)

    def _give_up(self, broken: Sink, error: Exception) -> None:
        self._sinks.remove(broken)
        with suppress(*broken.failures):
            broken.close()
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        get_root_logger().warning(
            f"{broken.place}: can't be written ({reason}); training goes on without {broken.name}"
        )


def _keep_writing_threads_quiet() -> None:
    """TensorBoard writes in a thread: its error reaches the next call, and need not be printed as a traceback too."""
    before = threading.excepthook
    if getattr(before, "spares_event_log", False):
        return

    def hook(args: threading.ExceptHookArgs) -> None:
        if not (type(args.thread).__name__ == "_AsyncWriterThread" and isinstance(args.exc_value, OSError)):
            before(args)

    hook.spares_event_log = True  # type: ignore[attr-defined]
    threading.excepthook = hook
