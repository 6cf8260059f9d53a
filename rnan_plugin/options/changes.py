"""What has changed in an option file since something was done with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rnan_plugin.options.schema import flat


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say which keys of an option file have changed, `train.total_iter: 100 -> 200`, given the sections of `before`."""
    if not before:
        return []
    sections = (before, {key: after.get(key) for key in before})
    old, new = (
        {key: list(value) if isinstance(value, tuple) else value for key, value in flat(section)}
        for section in sections
    )
    absent = "(not set)"
    return [
        f"{key}: {old.get(key, absent)} -> {new.get(key, absent)}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key, absent) != new.get(key, absent)
    ]
