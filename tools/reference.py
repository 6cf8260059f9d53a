"""The reference pages of the documentation, from the code: commands, keys of option files, degradations, modules.

docs/conf.py puts each of `PARTS` in the place of the comment `<!-- generated: NAME -->` of a page.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from rnan_plugin.__main__ import COMMANDS, FORWARDING, module_of, parser_of
from rnan_plugin.images.degradations import DEGRADATIONS
from rnan_plugin.options.json_schema import described_fields

# Dataclasses whose fields are keys of an option file, by the place where they stand.
SECTIONS = {
    "An entry of `datasets`": "rnan_plugin.data.dataset_options.DatasetOptions",
    "Keys of `train` that say how a step is computed": "rnan_plugin.training.step.StepOptions",
    "A range of levels in training": "rnan_plugin.images.levels.LevelRange",
}
# Modules all of whose dataclasses are such.
SECTION_MODULES = ["rnan_plugin.options.sections", "rnan_plugin.options.optimisers"]
# What is meant to be used from Python, the face first, then in the order of the floors.
MODULES = [
    "face",
    "images.degradations",
    "images.levels",
    "images.color",
    "images.bicubic",
    "images.metrics",
    "paper.tasks",
    "paper.tables",
    "archs.rnan_arch",
    "archs.non_local",
    "archs.attention",
    "archs.official_weights",
    "checkpoints",
    "data.pairs",
    "data.dataset_options",
    "inference.policy",
    "inference.whole_images",
    "inference.networks",
    "inference.restorer",
    "inference.attention_maps",
    "export.files",
    "evaluation.protocol",
    "evaluation.methods",
    "evaluation.evaluate",
]


def commands() -> str:
    """Every command of `rnan` with its arguments."""
    return "\n\n".join(
        part for group, lines in COMMANDS.items() for part in (f"## {group.capitalize()}", *_group(lines))
    )


def _group(lines: dict[str, str]) -> Iterator[str]:
    for name, line in lines.items():
        yield f"### `rnan {name}`"
        yield f"{line[0].upper()}{line[1:]}."
        module = importlib.import_module(module_of(name))
        yield from _arguments(_launching_parser() if name in FORWARDING else parser_of(name, module))


def _launching_parser() -> argparse.ArgumentParser:
    """The parser of `train` and `test`, whose arguments are those of BasicSR's scripts."""
    return importlib.import_module("rnan_plugin.training.launcher").argument_parser()


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    actions = [action for action in parser._actions if action.dest != "help" and action.help != argparse.SUPPRESS]
    if actions:
        rows = [f"| `{_spelling(action)}` | {_cell(_help(parser, action))} |" for action in actions]
        yield "\n".join(["| argument | |", "|---|---|", *rows])
    if parser.epilog:
        yield f"```text\n{parser.epilog.removeprefix('examples:').strip(chr(10)).rstrip()}\n```"


def _spelling(action: argparse.Action) -> str:
    """An argument as one types it: `--tile SIDE`, `[SOURCE ...]`."""
    formatter = argparse.HelpFormatter("")
    if not action.option_strings:
        return formatter._format_args(action, formatter._get_default_metavar_for_positional(action))
    values = "" if action.nargs == 0 else formatter._format_args(action, _value_name(action))
    return f"{', '.join(action.option_strings)} {values}".strip()


def _value_name(action: argparse.Action) -> str:
    return "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return f"required; {text}" if action.required and action.option_strings else text


def options() -> str:
    """Keys of option files, from the dataclasses that they become."""
    named = {title: _named(path) for title, path in SECTIONS.items()}
    own = {f"{_subject(section)} (`{section.__name__}`)": section for section in _own_sections()}
    return "\n\n".join(f"## {title}\n\n{_fields(section)}" for title, section in (named | own).items())


def _own_sections() -> Iterator[type]:
    """The dataclasses of `SECTION_MODULES` that are no other's base."""
    for name in SECTION_MODULES:
        members = vars(importlib.import_module(name)).values()
        classes = (item for item in members if isinstance(item, type) and item.__module__ == name)
        found = list(filter(dataclasses.is_dataclass, classes))
        yield from (kind for kind in found if not any(kind in other.__mro__[1:] for other in found))


def _subject(section: type) -> str:
    """What a docstring begins with: "The section `path`"."""
    return re.split(r"[;:.,](?:\s|$)", inspect.cleandoc(section.__doc__ or section.__name__))[0]


def degradations() -> str:
    """The types of `degradation`, with their keys."""
    return "\n\n".join(f"## `type: {name}`\n\n{_fields(kind)}" for name, kind in DEGRADATIONS.items())


def _named(path: str) -> type:
    module, _, name = path.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


def _fields(section: Any) -> str:
    """What a dataclass is, and a table of its fields."""
    text = inspect.cleandoc(section.__doc__ or "")
    told = described_fields(section)
    head = re.split(r"\n(?:Args|Raises|Source):", text)[0].strip()
    hints = get_type_hints(section, include_extras=True)
    lines = [f"{head}\n", "| key | takes | default | |", "|---|---|---|---|"]
    for item in dataclasses.fields(section):
        cells = f"`{item.name}`", _cell(takes(hints[item.name])), _default(item), _cell(told.get(item.name, ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_WORDS = {int: "whole number", float: "number", str: "text", bool: "`true`, `false`", Any: "", type(None): "`~`"}


def takes(hint: Any) -> str:
    """A type hint in words: "number", "whole number, from 1 to 5, or `~`"."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{_yaml(part)}`" for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(map(takes, parts))
    if origin is Annotated:
        return ", ".join([takes(parts[0]), *(str(getattr(rule, "says", "")) for rule in parts[1:])])
    if origin in (list, tuple):
        return f"list of {takes(parts[0])}"
    return "section" if origin is Mapping else _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _default(item: dataclasses.Field[Any]) -> str:
    if item.default_factory is not dataclasses.MISSING:
        value = item.default_factory()
        return "" if dataclasses.is_dataclass(value) else f"`{value}`"
    if item.default is dataclasses.MISSING:
        return "required"
    return "none" if item.default is None else f"`{_yaml(item.default)}`"


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def modules() -> str:
    """What Sphinx is told to take from docstrings."""
    return "\n\n".join(
        f"## `rnan_plugin.{name}`\n\n```{{eval-rst}}\n.. automodule:: rnan_plugin.{name}\n   :members:\n```"
        for name in MODULES
    )


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "options": options,
    "degradations": degradations,
    "modules": modules,
}
