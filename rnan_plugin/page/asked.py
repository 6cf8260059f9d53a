"""What is asked for with a file that is sent to the page: checked before it waits in the queue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl

from rnan_plugin.choices import RESULT_FORMATS
from rnan_plugin.errors import UserError, nearest, shown
from rnan_plugin.files import shortened
from rnan_plugin.inference.choose import AUTO
from rnan_plugin.inference.plan import Naming
from rnan_plugin.paper.tasks import TASKS, Task, TaskAtLevel

_LONGEST_ENDING = 10
# What no name of a file may hold here or elsewhere: Windows' own signs, control characters, halves of UTF-16 pairs.
_NO_NAMES = re.compile(r'[<>:"|?*\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')


@dataclass(frozen=True)
class Asked:
    """What to do with a file.

    Args:
        name: The file's own; its ending counts as it does for `rnan restore`.
        task: One of `TASKS`, or "auto".
        level: Of the task; None finds it in the file.
        format: Of the result; None takes PNG, and leaves a file that is not restored in its own.
        quality: Of JPEG and WebP.
        clean: It is a clean picture: degrade it first, and score what comes back. Needs the task and its level.

    Raises:
        UserError: A value that is none, or values that don't go together.
    """

    name: str = "image"
    task: str = AUTO
    level: float | None = None
    format: str | None = None
    quality: int | None = None
    clean: bool = False

    def __post_init__(self) -> None:
        if self.task not in {AUTO, *TASKS}:
            raise UserError(f"task: no {shown(self.task)}{nearest(self.task, [AUTO, *TASKS])}")
        if self.clean and self.format not in {None, "png"}:
            raise UserError("format: a clean picture that is degraded comes back as PNG, which loses nothing")
        _ = self.naming, self.named  # checked by them

    @property
    def naming(self) -> Naming:
        """How the result is called and stored."""
        return Naming(self.format, "_restored", self.quality)

    @property
    def named(self) -> TaskAtLevel | None:
        """The task at the level that is named; None where the file tells one of them."""
        if self.task == AUTO:
            if self.clean or self.level is not None:
                why = "a clean picture needs one to be degraded for" if self.clean else "a level needs one"
                raise UserError(f"task: {why}; name one of {', '.join(TASKS)}")
            return None
        is_found = self.level is None and TASKS[self.task].level is not None
        return None if is_found and not self.clean else TaskAtLevel(self.task, self.level)

    @property
    def file_name(self) -> str:
        """The name without anything that could lead elsewhere, for a file on this machine."""
        last = re.split(r"[/\\]", self.name)[-1]
        path = PurePosixPath(_NO_NAMES.sub("_", last).strip(" .") or "image")
        return shortened(path.stem, path.suffix[:_LONGEST_ENDING])


def asked_by(query: str) -> Asked:
    """What the query of an address asks for; what it leaves out or leaves empty has its default.

    Raises:
        UserError: An unknown key, or a value that is none.
    """
    pairs = [(key, value) for key, value in parse_qsl(query, keep_blank_values=True) if value]
    given, known = dict(pairs), [item.name for item in fields(Asked)]
    for key, times in Counter(key for key, _ in pairs).items():
        if key not in known:
            raise UserError(f"{shown(key)}: unknown{nearest(key, known)}")
        if times > 1:
            raise UserError(f"{key}: is given {times} times; give it once")
    return Asked(**{key: _READERS.get(key, _as_it_is)(key, text) for key, text in given.items()})


def _as_it_is(key: str, text: str) -> str:  # noqa: ARG001
    return text


def _is_set(key: str, text: str) -> bool:
    for answer, texts in _ANSWERS.items():
        if text.lower() in texts:
            return answer
    raise UserError(f"{key}: {shown(text)} is not one of {', '.join(sum(_ANSWERS.values(), ()))}")


_ANSWERS = {True: ("true", "yes", "on", "1"), False: ("false", "no", "off", "0")}


def _number(key: str, text: str, kind: type[float] | type[int]) -> float | int:
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"{key}: {shown(text)} is no {'whole ' if kind is int else ''}number") from None


_READERS: dict[str, Callable[[str, str], Any]] = {
    "level": lambda key, text: None if text == AUTO else _number(key, text, float),
    "quality": lambda key, text: _number(key, text, int),
    "clean": _is_set,
}


def choices() -> Mapping[str, Any]:
    """What can be asked for, for the page's form."""
    return {"tasks": [_described(task) for task in TASKS.values()], "formats": RESULT_FORMATS}


def _described(task: Task) -> dict[str, Any]:
    title = task.title.partition("{")[0].removesuffix(f"{task.level} ").rstrip(" ,×")
    levels = {"level": task.level, "levels": task.levels, "typical": task.typical_level}
    return {"name": task.name, "title": title, **levels}
