"""The JSON schemas that the repository ships for editors, beside the option files: making, writing, comparing them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from rnan_plugin.choices import POLICIES
from rnan_plugin.evaluation.comparison_file import KEYS_OF_METHODS, NEEDED, TYPES_OF_KEYS, Comparison
from rnan_plugin.evaluation.methods import MethodSource
from rnan_plugin.options.json_schema import DIALECT, Schema, by_type, closed, described, or_null, section_schema
from rnan_plugin.options.shipped_files import COMPARISON_SCHEMA, OPTION_SCHEMA, text_of, write_if_stale
from rnan_plugin.options.values import NAME_PATTERN
from rnan_plugin.paper.tasks import TASKS
from rnan_plugin.perceptual import Lpips
from rnan_plugin.training.option_schema import option_schema

_NAMES = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
# What the types of a comparison file's keys leave open.
_FURTHER: dict[str, Schema] = {
    "name": {"pattern": NAME_PATTERN},
    "task": {"enum": list(TASKS)},
    "sets": {"minItems": 1, "items": {"type": "string"}},
    "policy": {"enum": list(POLICIES)},
    "tile": {"minimum": 1},
    "tile_overlap": {"minimum": 0},
    "attention_window": {"minimum": 1},
    "timing_side": {"minimum": 1},
}


def comparison_schema() -> Schema:
    """Of a file for `rnan compare`."""
    told = described(Comparison)
    properties: dict[str, Schema] = {}
    for key, kind in TYPES_OF_KEYS.items():
        properties[key] = _typed(kind) | _FURTHER.get(key, {})
        if key == "lpips":
            properties[key] |= section_schema([Lpips])
        if key == "methods":
            properties[key] |= {"minProperties": 1, "additionalProperties": _methods()}
        if key not in NEEDED:
            properties[key] = or_null(properties[key])
        if key in told:
            properties[key]["description"] = told[key]
    head = {"$schema": DIALECT, "title": "Comparison file of rnan_plugin, for `rnan compare`"}
    return head | closed(properties, NEEDED)


def _typed(kind: type | tuple[type, ...]) -> Schema:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return {"type": [_NAMES[item] for item in kinds] if len(kinds) > 1 else _NAMES[kinds[0]]}


def _methods() -> Schema:
    told = described(MethodSource)
    texts = {key: {"description": text, "type": "string"} for key, text in told.items()}
    texts["self_ensemble"]["type"] = "boolean"
    return by_type(
        {
            kind: closed({"type": {}, **{key: texts[key] for key in texts if key in needed | possible}}, sorted(needed))
            for kind, (needed, possible) in KEYS_OF_METHODS.items()
        }
    )


def schema_texts() -> dict[str, str]:
    """What each file holds, by its path below the folder of the option files."""
    return {name: text_of_schema(name) for name in SCHEMAS}


def text_of_schema(name: str) -> str:
    """What one of `SCHEMAS` holds."""
    return json.dumps(SCHEMAS[name](), indent=1, ensure_ascii=False) + "\n"


SCHEMAS: dict[str, Callable[[], Schema]] = {OPTION_SCHEMA: option_schema, COMPARISON_SCHEMA: comparison_schema}


def write_schemas(folder: Path) -> int:
    """Write those that are missing or differ, below the folder of the option files; return how many.

    Raises:
        UserError: The folder can't be created or written.
    """
    return sum(write_if_stale(folder / name, text) for name, text in schema_texts().items())


def stale_schemas(folder: Path) -> Iterator[str]:
    """A line for each schema that is missing or is not what the code has now."""
    for name, text in schema_texts().items():
        found = text_of(folder / name)
        if found != text:
            yield f"{folder / name}: {'missing' if found is None else 'not as the code has it'}"
