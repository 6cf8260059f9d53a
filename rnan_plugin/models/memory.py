"""How much memory is free on a device, and whether an error says that there was not enough."""

from __future__ import annotations

import re
from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


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


def _container_bytes() -> int:
    """What a container's limit leaves, or a number larger than any memory."""
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        return limit - int((_CGROUP / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such file outside a container, "max" without a limit
        return 2**63


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return bool(re.search(r"not enough memory|out of memory|can't allocate memory|Invalid buffer size", str(error)))
