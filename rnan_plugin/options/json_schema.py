"""JSON schemas for editors, from the type hints that option files are checked by.

A schema accepts whatever the checks accept of a value's form, numbers written as texts included, and refuses most of
what they refuse: types, intervals, choices, unknown and missing keys. What belongs together only the checks know.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from rnan_plugin.options.schema import argument_hints, dataclass_in, legal_arguments
from rnan_plugin.options.values import NUMBER_PATTERN, Rule, describe

Schema = dict[str, Any]

DIALECT = "http://json-schema.org/draft-07/schema#"  # the newest that all editors know


def value_schema(hint: Any) -> Schema:
    """What a value may be, from a hint that `values.fitted` reads it by; anything for hints that it doesn't judge."""
    origin, arguments = get_origin(hint), get_args(hint)
    if (inner := dataclass_in(hint)) is not None:
        return or_null(section_schema([inner])) if type(None) in arguments else section_schema([inner])
    if origin in _FORMS:
        return _FORMS[origin](arguments)
    if hint in _NUMBERS:
        return _number(hint, {})
    if hint in _SCALARS:
        return dict(_SCALARS[hint])
    kind = origin or hint
    return _collection(kind, arguments) if isinstance(kind, type) else {}


def _number(kind: type, keywords: Mapping[str, Any]) -> Schema:
    """A number, also as a text: YAML 1.1 takes `1e-4` for one."""
    lowest = keywords.get("minimum", keywords.get("exclusiveMinimum", -1))
    sign = "[+]?" if lowest >= 0 else "[-+]?"
    text = {"type": "string", "pattern": rf"^\s*{sign}{NUMBER_PATTERN}\s*$"}
    return {"anyOf": [{"type": _NUMBERS[kind], **keywords}, text]}


def _annotated(arguments: tuple[Any, ...]) -> Schema:
    keywords: Schema = {}
    for rule in arguments[1:]:
        keywords |= rule.keywords if isinstance(rule, Rule) else {}
    if arguments[0] in _NUMBERS:
        return _number(arguments[0], keywords)
    return value_schema(arguments[0]) | keywords


def _union(arguments: tuple[Any, ...]) -> Schema:
    """One of several; alternatives within alternatives are made one list, which editors tell more plainly."""
    options: list[Schema] = []
    for part in map(value_schema, arguments):
        options += part["anyOf"] if part.keys() == {"anyOf"} else [part]
    return {"anyOf": [part for index, part in enumerate(options) if part not in options[:index]]}


def _tuple(arguments: tuple[Any, ...]) -> Schema:
    fits = {"minItems": len(arguments), "maxItems": len(arguments)}
    return {"type": "array", "items": [value_schema(part) for part in arguments], **fits}


def _collection(kind: type, arguments: tuple[Any, ...]) -> Schema:
    if issubclass(kind, Mapping):
        return {"type": "object"}
    if issubclass(kind, Iterable):  # of another's hints, such as `Iterable[float]`
        return {"type": "array", **({"items": value_schema(arguments[0])} if arguments else {})}
    return {}


_NUMBERS: dict[Any, str] = {int: "integer", float: "number"}
_SCALARS: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    str: {"type": "string"},
    type(None): {"type": "null"},
    None: {"type": "null"},
}
_FORMS: dict[Any, Callable[[tuple[Any, ...]], Schema]] = {
    Annotated: _annotated,
    Literal: lambda choices: {"enum": list(choices)},
    Union: _union,
    UnionType: _union,
    list: lambda parts: {"type": "array", "items": value_schema(parts[0])},
    tuple: _tuple,
}


def or_null(schema: Schema) -> Schema:
    """The same, or nothing: `key: ~`."""
    return {"anyOf": [schema, {"type": "null"}]}


def section_schema(
    kinds: Sequence[type], replaced: Mapping[str, Schema] | None = None, *, needed: Sequence[str] = ()
) -> Schema:
    """A section whose keys are the fields of dataclasses, described by the `Args` of their docstrings.

    Args:
        kinds: The dataclasses.
        replaced: Schemas of keys whose hint says too little, and of further keys.
        needed: Keys that have to be there, beside those without default.
    """
    replaced = replaced or {}
    properties: Schema = {}
    required = set(needed)
    for kind in kinds:
        told, hints = described_fields(kind), get_type_hints(kind, include_extras=True)
        for item in dataclasses.fields(kind):
            if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
                required.add(item.name)
            schema = replaced.get(item.name) or value_schema(hints[item.name])
            about = told.get(item.name) or _in_words(hints[item.name])
            properties[item.name] = {"description": about, **schema} if about else schema
            if item.name not in required and _is_plain(item.default):
                properties[item.name] = {**properties[item.name], "default": item.default}
    properties |= {key: schema for key, schema in replaced.items() if key not in properties}
    return closed(properties, [key for key in properties if key in required])


def call_schema(
    function: Callable[..., Any], known: type | None = None, *, supplied: Sequence[str] = (), extra: Iterable[str] = ()
) -> Schema:
    """A section of a `type` and a function's arguments, judged as `check_arguments` and `check_call` do.

    Args:
        function: What is called.
        known: A dataclass with hints for keys.
        supplied: Parameters that are filled in by others.
        extra: Keys of `known` that the function does not take.
    """
    named, swallows = legal_arguments(function, supplied)
    hints, told = argument_hints(function, known), described(function)
    properties: Schema = {"type": {}}
    for name in (*named, *extra):
        properties[name] = value_schema(hints[name])
        if about := told.get(name):
            properties[name]["description"] = about
        if name in named and _is_plain(named[name].default):
            properties[name]["default"] = named[name].default
    required = [name for name, item in named.items() if item.default is item.empty]
    return {} if swallows else closed(properties, required)


def closed(properties: Mapping[str, Schema], required: Sequence[str] = ()) -> Schema:
    """A section with these keys alone."""
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "properties": dict(properties), **needed, "additionalProperties": False}


def by_type(kinds: Mapping[str, Schema]) -> Schema:
    """A section whose key `type` says which of several it is."""
    cases = [
        {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": schema}
        for name, schema in kinds.items()
        if schema
    ]
    return {"type": "object", "required": ["type"], "properties": {"type": {"enum": list(kinds)}}, "allOf": cases}


def described(item: Any) -> dict[str, str]:
    """What the `Args` of a docstring say of each argument, on one line; types in brackets are left out."""
    block = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)+)", inspect.cleandoc(item.__doc__ or ""), re.M)
    items = re.findall(r"^ {4}(\w+)(?: \([^)\n]*\))?: ((?:.*\n?)(?: {8}.*\n?)*)", block[1], re.M) if block else []
    return {name: " ".join(text.split()) for name, text in items}


def described_fields(kind: type) -> dict[str, str]:
    """What the docstrings of a dataclass and of those that it extends say of its fields."""
    return {name: text for base in reversed(kind.__mro__) for name, text in described(base).items()}


def _in_words(hint: Any) -> str:
    return "" if hint is Any or dataclass_in(hint) is not None else describe(hint).rstrip(",")


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)
