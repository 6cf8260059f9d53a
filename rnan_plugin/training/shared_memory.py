"""The memory through which data workers hand over their batches: in a container it is often 64 MiB."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rnan_plugin.data.dataset_options import DatasetOptions
from rnan_plugin.errors import UserError

PLACE = Path("/dev/shm")
_WAITING = 2  # batches that torch lets a worker prepare in advance
REMEDY = "lower num_worker_per_gpu or batch_size_per_gpu, or give the container more (docker run --shm-size=1g)"


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
    values = (3 if options.channels == "rgb" else 1) * (options.gt_size**2 + (options.gt_size // options.scale) ** 2)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    held = 4 * values * options.batch_size_per_gpu * options.num_worker_per_gpu * _WAITING * processes
    free = shutil.disk_usage(PLACE).free
    if held > free:
        raise UserError(
            f"{where}.num_worker_per_gpu: {options.num_worker_per_gpu} worker(s) hold {held / 2**20:.1f} MiB of "
            f"batches in {PLACE}, which has {free / 2**20:.1f} MiB free; {REMEDY}"
        )
