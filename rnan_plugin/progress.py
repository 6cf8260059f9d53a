"""How far a command is with many files: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

from rnan_plugin.errors import one_line

EVERY = 10.0  # seconds between two lines


def say(line: str) -> None:
    """Print a line above the bars, one whatever the names of files in it hold."""
    tqdm.write(one_line(line))


class FileProgress:
    """Counts files; use it as a context.

    Args:
        total: How many there are.
        what: What becomes of them, before the numbers.
        done: How many were done before.
    """

    def __init__(self, total: int, what: str = "", done: int = 0) -> None:
        self.total, self.done, self._worked_on = total, done, 0
        self._what = f"{one_line(what)}: " if what else ""
        is_shown = sys.stderr.isatty() and total > 1
        self._bar = tqdm(total=total, initial=done, unit="image", desc=one_line(what) or None) if is_shown else None
        self._start = self._told = time.monotonic()

    def __enter__(self) -> FileProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, *, was_done: bool = False) -> None:
        """One more is done, or was before, which says nothing about the time that others take."""
        self.done += 1
        self._worked_on += not was_done
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update()
        elif now - self._told >= EVERY and self._worked_on and self.done < self.total:
            self._told = now
            left = (now - self._start) / self._worked_on * (self.total - self.done)
            print(
                f"{self._what}{self.done} of {self.total} images, about {_in_words(left)} left",
                file=sys.stderr,
                flush=True,
            )


def _in_words(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
