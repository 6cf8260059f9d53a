"""What a single value of an option file may be: types, intervals, and numbers that YAML takes for texts.

A key's type hint says it all: `Annotated[int, at_least(1)] | None`. `fitted` reads a value as the hint wants it, and
`describe` says in words what is legal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from rnan_plugin.errors import UserError
from rnan_plugin.files import one_component

MISFIT = object()  # what `fitted` returns for a value that is not legal


@dataclass(frozen=True)
class Rule:
    """A condition on a value of the right type, how a message puts it, and how JSON schema does, as far as it can."""

    holds: Callable[[Any], bool]
    says: str
    keywords: Mapping[str, Any] = field(default_factory=dict, compare=False)


def within(low: float, high: float) -> Rule:
    """From `low` to `high`, both included."""
    return Rule(lambda value: low <= value <= high, f"from {low} to {high}", {"minimum": low, "maximum": high})


def at_least(low: float) -> Rule:
    """`low` or more."""
    return Rule(lambda value: bool(value >= low), f"of {low} or more", {"minimum": low})


def above(low: float) -> Rule:
    """More than `low`."""
    return Rule(lambda value: bool(value > low), f"above {low}", {"exclusiveMinimum": low})


def share(value: Any) -> bool:
    """Whether a number is from 0 to below 1."""
    return 0 <= value < 1


def _is_name(value: str) -> bool:
    try:
        return bool(one_component(value, "name"))
    except UserError:
        return False


def _is_path(value: str) -> bool:
    try:
        # Python's None is no YAML: it is a text, of which nobody means a file.
        return bool(value.strip()) and value != "None" and "\0" not in value and bool(Path(value).expanduser())
    except RuntimeError:  # ~nosuchuser
        return False


def _is_rising(values: list[Any]) -> bool:
    return all(earlier < later for earlier, later in pairwise(values))


NAME_PATTERN = r"^(?!\s*\.{0,2}\s*$)[^/\\\r\n]+$"  # as far as a pattern tells what `one_component` takes
LARGEST = 10**9  # of counts: no run has so many iterations, and dates and ranges of them are still computed

Count = Annotated[int, within(1, LARGEST)]
CountOrNone = Annotated[int, within(0, LARGEST)]
Seed = Annotated[int, within(0, 2**63 - 1)]
Share = Annotated[float, Rule(share, "from 0 to below 1", {"minimum": 0, "exclusiveMaximum": 1})]
Positive = Annotated[float, above(0)]
NotNegative = Annotated[float, at_least(0)]
Name = Annotated[str, Rule(_is_name, "that a folder can be called by", {"pattern": NAME_PATTERN})]
PathText = Annotated[str, Rule(_is_path, "that is a path", {"pattern": r"\S"})]
INTERVAL = Rule(lambda values: len(values) == 2 and _is_rising(values), "two, rising", {"minItems": 2, "maxItems": 2})
NOT_EMPTY = Rule(bool, "not empty", {"minItems": 1})
Milestones = Annotated[list[Count], NOT_EMPTY, Rule(_is_rising, "rising")]

NUMBER_PATTERN = r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"  # without its sign
_NUMBER = re.compile(rf"[-+]?{NUMBER_PATTERN}")
_LONGEST_NUMBER = 40  # characters


def number_in(text: str) -> float | int | None:
    """The number that a text spells, such as `1e-4`, which YAML 1.1 takes for a text; None if it spells none."""
    text = text.strip()
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return int(text) if text.lstrip("+-").isdecimal() else number


def number_or_same(value: Any) -> Any:
    """The number that a text spells; any other value as it is."""
    number = number_in(value) if isinstance(value, str) else None
    return value if number is None else number


def fitted(value: Any, hint: Any) -> Any:
    """Read a value as a type hint wants it: numbers out of texts, whole numbers out of floats such as 5e3.

    Args:
        value: As YAML gave it.
        hint: `int`, `float`, `bool`, `str`, `None`, `Any`, another class, `Literal`, `list[...]`, `tuple[...]`,
            `Mapping[...]`, unions of them, or `Annotated` with `Rule`s.

    Returns:
        The value to compute with, or `MISFIT`.
    """
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in _FORMS:
        return _FORMS[origin](value, get_args(hint))
    if hint in _SCALARS:
        return _SCALARS[hint](value)
    wanted = type(None) if hint is None else origin or hint
    judged = isinstance(wanted, type)  # a stranger's hint may be anything
    return value if not judged or isinstance(value, wanted) else MISFIT


def _annotated(value: Any, arguments: tuple[Any, ...]) -> Any:
    value = fitted(value, arguments[0])
    legal = value is not MISFIT and all(rule.holds(value) for rule in arguments[1:] if isinstance(rule, Rule))
    return value if legal else MISFIT


def _literal(value: Any, choices: tuple[Any, ...]) -> Any:
    return value if any(type(value) is type(choice) and value == choice for choice in choices) else MISFIT


def _union(value: Any, parts: tuple[Any, ...]) -> Any:
    found = (fitted(value, part) for part in parts)
    return next((item for item in found if item is not MISFIT), MISFIT)


def _list(value: Any, arguments: tuple[Any, ...]) -> Any:
    return _each(value, arguments * len(value)) if isinstance(value, list | tuple) else MISFIT


def _tuple(value: Any, arguments: tuple[Any, ...]) -> Any:
    fits = isinstance(value, list | tuple) and len(value) == len(arguments)
    return _each(value, arguments) if fits else MISFIT


def _each(values: Sequence[Any], hints: tuple[Any, ...]) -> Any:
    items = []
    for value, hint in zip(values, hints, strict=True):
        if (item := fitted(value, hint)) is MISFIT:
            return MISFIT
        items.append(item)
    return items


def _int(value: Any) -> Any:
    value = number_in(value) if isinstance(value, str) else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else MISFIT


def _float(value: Any) -> Any:
    value = number_in(value) if isinstance(value, str) else value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number and -_LARGEST_FLOAT < value < _LARGEST_FLOAT else MISFIT


_LARGEST_FLOAT = math.inf  # neither infinite nor NaN
_SCALARS: dict[Any, Callable[[Any], Any]] = {int: _int, float: _float}
_FORMS: dict[Any, Callable[[Any, tuple[Any, ...]], Any]] = {
    Annotated: _annotated,
    Literal: _literal,
    Union: _union,
    UnionType: _union,
    list: _list,
    tuple: _tuple,
}
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a text",
    type(None): "~",
    None: "~",
}


def describe(hint: Any) -> str:
    """What is legal, in words: "a whole number of 1 or more or ~"."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in _PHRASES:
        return _PHRASES[origin](arguments)
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a section of 'key: value' lines"
    return _WORDS.get(hint, str(getattr(hint, "__name__", hint)))


def _any_of(parts: tuple[Any, ...]) -> str:
    return " or ".join(describe(part) for part in parts)


def _one_of(choices: tuple[Any, ...]) -> str:
    return ("one of " if len(choices) > 1 else "") + ", ".join(map(str, choices))


def _annotation(arguments: tuple[Any, ...]) -> str:
    return " ".join([describe(arguments[0]), *(rule.says for rule in arguments[1:] if isinstance(rule, Rule))])


_PHRASES: dict[Any, Callable[[tuple[Any, ...]], str]] = {
    Annotated: _annotation,
    Literal: _one_of,
    Union: _any_of,
    UnionType: _any_of,
    list: lambda parts: f"a list, each item {describe(parts[0])},",
    tuple: lambda parts: f"a list of {len(parts)}, each item {describe(parts[0])}",
}


def like_default(default: Any) -> Any:
    """The hint for an argument that is known by its default alone; numbers may be whole or not."""
    hints: dict[type, Any] = {bool: bool, int: int | float, float: float, str: str}
    return hints.get(type(default), Any)
