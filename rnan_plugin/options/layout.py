"""Laying option files out as YAML for people: comments, blank lines, and lists in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import yaml

# Keys with a blank line above, wherever they stand; sections of the file and further data sets have one too.
_BLANK_ABOVE = frozenset({"gt_size", "use_shuffle", "scheduler", "total_iter", "pixel_opt", "metrics"})
_COMMENT_ABOVE = {"softmax_over": "# where the released code differs from the paper's text:"}
_COMMENT_BESIDE = {"policy": "# or whole, release, auto"}
_INDENT = "  "


def lay_out(options: Mapping[str, Any], about: Sequence[str] = ()) -> str:
    """The text of an option file, which YAML reads back as `options`.

    Args:
        options: Sections, keys and values, in the order that they are to stand in.
        about: Lines of the comment at the top.
    """
    return "\n".join([*(f"# {line}" for line in about), *_lines(options, ())]) + "\n"


def _lines(section: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[str]:
    indent = _INDENT * len(place)
    for index, (key, value) in enumerate(section.items()):
        if index and _needs_blank(key, value, place):
            yield ""
        if key in _COMMENT_ABOVE:
            yield indent + _COMMENT_ABOVE[key]
        if isinstance(value, Mapping) and value:
            yield f"{indent}{_plain(key)}:"
            yield from _lines(value, (*place, key))
        else:
            beside = f"  {_COMMENT_BESIDE[key]}" if key in _COMMENT_BESIDE else ""
            yield f"{indent}{_plain(key)}: {_value(value)}{beside}"


def _needs_blank(key: str, value: Any, place: tuple[str, ...]) -> bool:
    return key in _BLANK_ABOVE or (isinstance(value, Mapping) and place in ((), ("datasets",)))


def _value(value: Any) -> str:
    """A value in one line."""
    if value is None:
        return "~"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return _plain(value)


def _number(value: float) -> str:
    """A float that YAML reads as one: `0.5`, `!!float 1e-4`; without a point in it, `1e-4` would be a text."""
    if value == 0 or 0.01 <= abs(value) < 1e16:
        return repr(value)
    return f"!!float {format(Decimal(repr(value)), 'e')}" if abs(value) < float("inf") else _plain(value)


def _plain(value: Any) -> str:
    """A text, truth value, or whole number, in quotes if YAML would take it for something else."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
