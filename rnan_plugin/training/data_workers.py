"""The processes that load data: the memory through which they hand over batches, their signals, and their end."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

from rnan_plugin.data.dataset_options import DatasetOptions
from rnan_plugin.errors import UserError
from rnan_plugin.images.color import NUM_CHANNEL
from rnan_plugin.training.endings import asking

PLACE = Path("/dev/shm")  # in a container it often has 64 MiB
_WAITING = 2  # batches that torch lets a worker prepare in advance
_REMEDY = "lower num_worker_per_gpu or batch_size_per_gpu, or give the container more (docker run --shm-size=1g)"


def check_shared_memory(options: DatasetOptions, where: str) -> None:
    """Compare what the workers of this machine's processes hold at once with what there is.

    Args:
        options: Of the training set, checked.
        where: For the message.

    Raises:
        UserError: It does not fit. Without workers, or where the system has no such place, everything does.
    """
    if not options.num_worker_per_gpu or not options.batch_size_per_gpu or not options.gt_size or not PLACE.is_dir():
        return
    values = NUM_CHANNEL[options.channels] * (options.gt_size**2 + (options.gt_size // options.scale) ** 2)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    held = 4 * values * options.batch_size_per_gpu * options.num_worker_per_gpu * _WAITING * processes
    free = shutil.disk_usage(PLACE).free
    if held > free:
        raise UserError(
            f"{where}.num_worker_per_gpu: {options.num_worker_per_gpu} worker(s) hold {held / 2**20:.1f} MiB of "
            f"batches in {PLACE}, which has {free / 2**20:.1f} MiB free; {_REMEDY}"
        )


def said_by_worker(error: Exception) -> str | None:
    """What to say of an error that a data worker met, which torch wrapped in its traceback, or of a worker's death."""
    message = str(error)
    if "UserError: " in message:
        return " ".join(message.rpartition("UserError: ")[2].split())
    if message.startswith("DataLoader worker"):  # how torch begins to tell it
        return f"datasets.train: {message.splitlines()[0].rstrip('. ')}; memory may be short: {_REMEDY}"
    return None


def ignore_signals(_: int) -> None:
    """Leave it to the training process, which asks its data workers to stop."""
    for number in asking():
        signal.signal(number, signal.SIG_IGN)


def end_workers() -> None:
    """End data workers that an error left: they do not hear the SIGTERM of Python's own clearing up."""
    workers = multiprocessing.active_children()
    if workers and hasattr(signal, "SIGCHLD"):  # not on Windows
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error of its own
    for worker in workers:
        worker.kill()
