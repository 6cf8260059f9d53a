"""What ends a training before its time: signals that ask it to stop, and errors that a user can mend."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from rnan_plugin.device import is_out_of_memory
from rnan_plugin.errors import UserError, said_by

# Exit status of a process because another has met an error, which that one tells.
ENDED_WITH_ANOTHER = 2
# What to do where memory runs out.
IN_A_STEP = (
    "lower datasets.train.batch_size_per_gpu or gt_size, compute batches in parts (train.accumulate), or set "
    "train.checkpoint_blocks: true"
)
IN_A_VALIDATION = "take val.policy: auto, or a smaller val.tile"


def asking() -> list[int]:
    """The signals that ask to stop: SIGTERM, Ctrl-C, and SIGHUP, as a closed terminal sends it.

    Without those that the process is deaf to, as `nohup` makes it to SIGHUP.
    """
    there = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
    return [number for number in there if signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect the signals that ask to stop instead of dying of them; a second Ctrl-C is obeyed at once."""
    caught: list[int] = []

    def note(number: int, _: object) -> None:
        if number == signal.SIGINT and number in caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, note) for number in asking()}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def told_in_a_line(what: str, remedy: str) -> Iterator[None]:
    """Tell what a machine is too small for, or lacks, as a `UserError`; other errors stay as they are.

    Args:
        what: Is done in this context, for the message.
        remedy: What to do where memory runs out.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise UserError(f"{what}: out of memory; {remedy}") from None
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            said = said_by(error).partition(" Set TORCH")[0]  # torch's own advice is for those who mend torch
            raise UserError(
                f"train.compile: the network can't be compiled here ({said}); set it to false, or install what it lacks"
            ) from None
        raise
