"""One switch for torch's private operators, which are faster and may change with any version of torch.

`with rnan_plugin.archs.plain():` computes with public operators alone: for comparisons, for tests, and for a user whose
torch has broken one. The environment variable RNAN_PLUGIN_PLAIN=1 does so for a whole process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

import torch

SWITCH = "RNAN_PLUGIN_PLAIN"

_lock = Lock()
_contexts = 0  # of all threads, for a network's replicas run in several


@contextmanager
def plain() -> Iterator[None]:
    """Compute with public operators alone, in all threads, until the last such context ends."""
    global _contexts  # noqa: PLW0603 - the state of the switch
    with _lock:
        _contexts += 1
    try:
        yield
    finally:
        with _lock:
            _contexts -= 1


def private_allowed() -> bool:
    """Whether private operators may serve."""
    return _contexts == 0 and os.environ.get(SWITCH, "") in {"", "0"}


@cache
def has_matrix_tiles() -> bool:
    """Whether the processor multiplies matrices in tiles (AMX of Intel's Xeons from Sapphire Rapids on).

    What is fastest differs there: torch's fused attention, in bfloat16 above all. This is asked of the processor, not
    timed, so that a computation has the same bits each time.
    """
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return supported is not None and bool(supported())
