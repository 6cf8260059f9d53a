"""Option files with other values in some places."""

from __future__ import annotations

from typing import Any

REMOVED = object()


def change(options: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Put values at places such as `train.optim_g.lr`, in place; `REMOVED` takes a key out."""
    for place, value in changes.items():
        *sections, key = place.split(".")
        target = options
        for section in sections:
            target = target[section]
        if value is REMOVED:
            del target[key]
        else:
            target[key] = value
    return options
