"""TensorBoard's log of a training, which a full disk silences instead of ending the training."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from rnan_plugin.toolbox.api import get_root_logger


class EventLog:
    """The methods of `SummaryWriter` that a training uses.

    The first that can't be written is told in one line; from then on nothing is written until the training is started
    anew.

    Args:
        folder: Of the log, made if missing.
        purge_step: What earlier logs in the folder say from this iteration on is hidden.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None
        _keep_writing_threads_quiet()
        try:
            self._writer = SummaryWriter(str(folder), purge_step=purge_step)
        except OSError as error:
            self._give_up(error)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Write one number of an iteration."""
        self._try(lambda writer: writer.add_scalar(tag, value, step))

    def add_image(self, tag: str, image: Any, step: int) -> None:
        """Write an image (C, H, W), 0..1, of an iteration."""
        self._try(lambda writer: writer.add_image(tag, image, step))

    def add_text(self, tag: str, text: str) -> None:
        """Write a text in Markdown."""
        self._try(lambda writer: writer.add_text(tag, text))

    def add_hparams(self, settings: dict[str, Any], results: dict[str, float]) -> None:
        """Write the run's row of the page of hyperparameters."""
        self._try(lambda writer: writer.add_hparams(settings, results, run_name="."))

    def flush(self) -> None:
        """Let what was logged so far outlive a kill."""
        self._try(lambda writer: writer.flush())

    def close(self) -> None:
        """Write what is waiting."""
        self._try(lambda writer: writer.close())

    def _try(self, write: Callable[[SummaryWriter], object]) -> None:
        if self._writer is None:
            return
        try:
            write(self._writer)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        broken, self._writer = self._writer, None
        if broken:
            with suppress(OSError):
                broken.close()
        get_root_logger().warning(
            f"{self._folder}: can't be written ({error.strerror or error}); training goes on without TensorBoard's log"
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
