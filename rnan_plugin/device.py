"""Which device and precision to compute in, how much memory is free there, and how much was taken.

One answer for training, restoring, evaluating, benchmarks and the doctor.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import cast

import torch

from rnan_plugin.choices import ASKED_PRECISIONS, PRECISIONS, AskedPrecision, Precision
from rnan_plugin.errors import UserError, nearest

_MEMINFO = Path("/proc/meminfo")
_CGROUP, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# A control group's limit, what it uses, and in `memory.stat` the cached files of that: of version 2, then of 1.
_GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
_KINDS = ("cpu", "cuda", "mps")
_TIMED = 8  # times, some ten milliseconds in all
# Of the time in float32, what bfloat16 takes: beside convolutions there is attention, which gains less.
_WORTH_IT = 0.8
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def choose_kernels(*, reproducible: bool) -> None:
    """Choose how this process computes on a GPU.

    Args:
        reproducible: The same bits each time, where there are such kernels (torch warns of what has none); else
            whatever cuDNN measures to be the fastest.
    """
    torch.backends.cudnn.benchmark = not reproducible
    torch.backends.cudnn.deterministic = reproducible
    torch.use_deterministic_algorithms(reproducible, warn_only=True)
    if reproducible:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used


def choose(name: str = "auto", *, gpu: bool = True) -> torch.device:
    """The device of a name.

    Args:
        name: "auto" (a CUDA GPU, else Apple's, else the CPU), "cpu", "mps", "cuda" or "cuda:1".
        gpu: False keeps "auto" away from CUDA, as the toolbox's `num_gpu: 0` asks for.

    Raises:
        UserError: The name is unknown, or there is no such device here.
    """
    if name == "auto":
        if gpu and torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind = str(name).partition(":")[0]
    if kind not in _KINDS:
        raise UserError(f"device: '{name}' is not one of auto, {', '.join(_KINDS)}{nearest(kind, _KINDS)}")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device: {name} is not usable here ({reason}); take auto or cpu") from None


def precision_on(device: torch.device, asked: str) -> Precision:
    """The precision to compute in: the one asked for, or for "auto" bfloat16 where a device is faster in it.

    The mean PSNR of the package's networks changes by up to 0.003 dB by it. A CPU is asked by a convolution that is
    timed once for each process: some have instructions for bfloat16 that are slower than those for float32, and most
    have none.

    Raises:
        UserError: The name is unknown.
    """
    check_precision(asked)
    if asked == "auto":
        return "bfloat16" if _is_faster_in_bfloat16(device) else "float32"
    return cast(Precision, asked)


def slowdown(device: torch.device, precision: Precision) -> float:
    """How many times as long as in float32 layers take, where they take longer (CPUs alone); else 1."""
    return max(1.0, _time_ratio(precision)) if device.type == "cpu" and precision != "float32" else 1.0


def _is_faster_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _time_ratio("bfloat16") < _WORTH_IT


@cache
def _time_ratio(narrow: Precision) -> float:
    """Time of a convolution of the package's width on the CPU in a precision, over that in float32."""
    layer, img = torch.nn.Conv2d(32, 32, 3, padding=1), torch.rand(1, 32, 64, 64)
    layer, img = layer.to(memory_format=torch.channels_last), img.to(memory_format=torch.channels_last)
    least: dict[Precision, float] = dict.fromkeys(("float32", narrow), math.inf)
    with torch.inference_mode():
        for _ in range(_TIMED):  # in turn, so that other work on the machine slows both
            for precision in least:
                with autocast(torch.device("cpu"), precision):
                    start = time.perf_counter()
                    layer(img)
                    least[precision] = min(least[precision], time.perf_counter() - start)
    return least[narrow] / least["float32"]


def dtype_of(precision: str) -> torch.dtype:
    """Torch's type of a precision.

    Raises:
        UserError: The name is unknown.
    """
    _one_of(PRECISIONS, precision)
    return cast(torch.dtype, getattr(torch, precision))


def check_precision(asked: str) -> None:
    """Check the name of a precision, which may be "auto".

    Raises:
        UserError: The name is unknown.
    """
    _one_of(ASKED_PRECISIONS, asked)


def _one_of(legal: tuple[Precision, ...] | tuple[AskedPrecision, ...], name: str) -> None:
    if name not in legal:
        raise UserError(f"precision: '{name}' is not one of {', '.join(legal)}{nearest(name, legal)}")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which layers compute in a precision; weights and what is no layer stay float32."""
    return torch.autocast(device.type, dtype_of(precision), enabled=precision != "float32")


def available_bytes(device: torch.device) -> int:
    """Bytes that a new computation can take on a device; a cautious 4 GiB where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + reusable
    if device.type == "cpu" and _MEMINFO.exists():
        match = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(encoding="ascii"))
        if match:
            return min(int(match[1]) * 1024, _container_bytes())
    return 4 * 2**30


class PeakMemory:
    """Context that measures the most bytes held at once above what was held before it.

    On a CPU pages of files, such as those of torch's libraries, do not count: the system puts them aside and brings
    them back as it likes. `bytes` is None where the system does not tell: neither CUDA nor Linux.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        """Start from what is held now."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        elif _CLEAR_REFS.exists():
            _give_back()
            _CLEAR_REFS.write_text("5", encoding="ascii")  # resets the peak
            self._before, self._of_files = _status_bytes("VmRSS"), _status_bytes("RssFile")
        return self

    def __exit__(self, *_: object) -> None:
        """Set `bytes`."""
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._before
        elif _CLEAR_REFS.exists():
            brought_back = max(0, _status_bytes("RssFile") - self._of_files)
            self.bytes = max(0, _status_bytes("VmHWM") - self._before - brought_back)


def process_peak_mib() -> float:
    """Peak memory of this process: of the GPU if it uses one, else resident; 0 where the system does not tell."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _give_back() -> None:
    """Return what the allocator keeps of freed memory, which would hide a peak that fits into it (glibc alone)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _status_bytes(key: str) -> int:
    match = re.search(rf"{key}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"))
    assert match is not None
    return int(match[1]) * 1024


def _container_bytes() -> int:
    """What the limits of this process's control groups leave, or a number larger than any memory."""
    return min((_room_in(group, *names) for group in _groups() for names in _GROUP_FILES), default=2**63)


def _groups() -> Iterator[Path]:
    """Folders of the control groups that limit this process's memory, of both versions, up to the outermost.

    In a container the own group may be told as the host calls it, which is not there: the outermost is the own one.
    """
    lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines() if _OWN_GROUPS.exists() else []
    for line in ["0::/", "0:memory:/", *lines]:
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            own = PurePosixPath(path.lstrip("/"))
            yield from (_CGROUP / ("memory" if controllers else "") / group for group in (own, *own.parents))


def _room_in(group: Path, limit: str, used: str, cached: str) -> int:
    try:
        room = int((group / limit).read_text(encoding="ascii")) - int((group / used).read_text(encoding="ascii"))
        # Cached files count as used, but make room.
        files = re.search(rf"^{cached} (\d+)$", (group / "memory.stat").read_text(encoding="ascii"), re.MULTILINE)
        return room + (int(files[1]) if files else 0)
    except (OSError, ValueError):  # no such group, or "max": without a limit
        return 2**63


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return bool(re.search(r"not enough memory|out of memory|can't allocate memory|Invalid buffer size", str(error)))
