"""What has changed in an option file since something was done with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from rnan_plugin.errors import shown
from rnan_plugin.options.schema import flat

_MOST_LINES = 20  # what has more of them is another option file
_MOST_KEYS = 10_000  # of a file; aliases within aliases make more
# What is a process's own, or says where it begins: told where it was taken down, but no addition to an option file.
_OF_A_PROCESS = frozenset({"path", "num_gpu", "dist_params", "dist", "rank", "world_size"}) | frozenset(
    {"auto_resume", "is_train", "root_path", "seed_drawn"}
)


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say which keys of an option file have changed, `train.total_iter: 100 -> 200`; nothing where `before` is empty.

    Args:
        before: The option file then, or what was taken down of it.
        after: The option file, or BasicSR's options made of it.

    Returns:
        A line for each key; of very many the first, and how many more there are.
    """
    if not before:
        return []
    compared = dict.fromkeys([*before, *(key for key in after if key not in _OF_A_PROCESS)])
    old, new = (_values(section, compared) for section in (before, after))
    lines = [
        f"{key}: {_told(old, key)} -> {_told(new, key)}"
        for key in dict.fromkeys([*old, *new])
        if key not in old or key not in new or old[key] != new[key]
    ]
    more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    return lines[:_MOST_LINES] + more


def _values(section: Mapping[str, Any], compared: Iterable[str]) -> dict[str, Any]:
    """By key, sections within sections joined by dots, its value; a tuple is a list."""
    chosen = flat({key: section[key] for key in compared if key in section})
    return {key: list(value) if isinstance(value, tuple) else value for key, value in islice(chosen, _MOST_KEYS)}


def _told(values: Mapping[str, Any], key: str) -> str:
    return shown(values[key]) if key in values else "(not set)"
