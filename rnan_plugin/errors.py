"""What the plugin tells a user who can mend something."""

from __future__ import annotations

import difflib
import re
import reprlib
import sys
from collections.abc import Callable, Iterable


class UserError(ValueError):
    """One clear line: what is wrong, where (file, key), what to do. Or several, each an argument of its own.

    The plugin's own commands print the lines and leave with status 2, without a traceback. What a file's name holds of
    line breaks and of what moves a terminal's cursor is escaped there, so that a line of an error is one.
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))

    def within(self, where: str) -> UserError:
        """The same error, of which each line begins with where it was found."""
        return UserError(*(f"{where}{line}" for line in self.args))


def collect(checks: Iterable[Callable[[], object]]) -> None:
    """Run all checks, and raise one `UserError` with a line for each that failed."""
    problems: list[object] = []
    for check in checks:
        try:
            check()
        except UserError as error:
            problems += error.args
    if problems:
        raise UserError(*dict.fromkeys(problems))


_MOST_LINES = 20  # of a message; whoever has more problems than that mends these first


def tell(error: UserError, most: int = _MOST_LINES) -> None:
    """Print the lines of an error to standard error, `error: ` before each; of more than `most` the first."""
    lines = [one_line(line) for line in error.args]
    shown_lines = lines[:most]
    if len(lines) > most:
        shown_lines.append(f"and {len(lines) - most} more")
    print(*(f"error: {line}" for line in shown_lines), sep="\n", file=sys.stderr)


def exit_status(run: Callable[[], int | None]) -> int:
    """Run a command; return its exit status: its own, or 2 after a `UserError`, whose lines go to standard error."""
    try:
        return run() or 0
    except UserError as error:
        tell(error)
        return 2


class RnanWarning(UserWarning):
    """Something a user should know, but that does not stop the work."""


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlist = _SHORT.maxdict = 8
_SHORT.maxlevel = 3
_MOST_SHOWN = 200  # characters


def shown(value: object) -> str:
    """A value of the user's for a message, in one line and short, however large it is."""
    text = " ".join(_SHORT.repr(value).split())
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def said_by(error: BaseException, most: int = 200) -> str:
    """What an error of a library says, in one line of so many characters; its kind where it says nothing."""
    return " ".join((str(error) or type(error).__name__).split())[:most]


_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def one_line(text: object) -> str:
    """A path or name for a message, whole, with line breaks, control characters and undecodable bytes escaped."""
    return _UNSEEN.sub(lambda match: repr(match[0])[1:-1], str(text))


_MOST_NEAREST = 100  # characters of a word that are compared; a longer one is no slip of the pen


def nearest(word: str, legal: Iterable[str], most: int = 1) -> str:
    """Return `" (did you mean 'x'?)"` for the legal word closest to `word`, or for so many, else the list of all."""
    choices = sorted(map(str, legal))
    folded = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(word[:_MOST_NEAREST].casefold(), folded, n=most, cutoff=0.5)
    named = "' or '".join(folded[choice] for choice in close)
    return f" (did you mean '{named}'?)" if close else f" (legal: {', '.join(choices)})"
