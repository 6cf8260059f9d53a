"""The JSON schemas that the repository ships for editors, beside the option files: making, writing, comparing them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from rnan_plugin.evaluation.comparison_file import KEYS_OF_METHODS, ComparisonKeys
from rnan_plugin.evaluation.methods import MethodSource
from rnan_plugin.options.json_schema import DIALECT, Schema, by_type, closed, described, or_null, section_schema
from rnan_plugin.options.shipped_files import COMPARISON_SCHEMA, OPTION_SCHEMA, text_of, write_if_stale
from rnan_plugin.paper.tasks import TASKS
from rnan_plugin.perceptual import Lpips
from rnan_plugin.training.option_schema import option_schema


def comparison_schema() -> Schema:
    """Of a file for `rnan compare`."""
    replaced: dict[str, Schema] = {
        "task": {"enum": list(TASKS)},
        "lpips": or_null(section_schema([Lpips])),
        "methods": {"type": "object", "minProperties": 1, "additionalProperties": _methods()},
    }
    head = {"$schema": DIALECT, "title": "Comparison file of rnan_plugin, for `rnan compare`"}
    return head | section_schema([ComparisonKeys], replaced)


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
