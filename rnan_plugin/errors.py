"""What the plugin tells a user who can mend something."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable


class UserError(ValueError):
    """One clear line: what is wrong, where (file, key), what to do.

    The plugin's own commands print the line and leave with status 2, without a traceback.
    """


def collect(checks: Iterable[Callable[[], object]]) -> None:
    """Run all checks, and raise one `UserError` with a line for each that failed."""
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except UserError as error:
            problems += str(error).splitlines()
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))


def exit_status(run: Callable[[], int | None]) -> int:
    """Run a command; return its exit status: its own, or 2 after a `UserError`, whose lines go to standard error."""
    try:
        return run() or 0
    except UserError as error:
        print(*(f"error: {line}" for line in str(error).splitlines()), sep="\n", file=sys.stderr)
        return 2


class RnanWarning(UserWarning):
    """Something a user should know, but that does not stop the work."""


def nearest(word: str, legal: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` for the legal word closest to `word`, else the list of all."""
    choices = sorted(legal)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else f" (legal: {', '.join(choices)})"
