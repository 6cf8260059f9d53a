"""From the sections of an option file to typed objects; an unknown key is an error that says where it belongs."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml

from rnan_plugin.errors import UserError, nearest, said_by, shown
from rnan_plugin.options.values import MISFIT, describe, fitted, like_default
from rnan_plugin.targets import why_no_file

Options = TypeVar("Options")

_LARGEST_FILE = 2**20  # bytes of a YAML file; PyYAML takes a minute for 10 MB
_OTHER_CODE = "; save it as UTF-8, which PowerShell's > does not"
_MOST_NEAREST = 10  # unknown keys of a section for which a hint is looked up


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that stands twice: the last would win without a word."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for place, key in ((key, loader.construct_object(key)) for key, _ in node.value if key.tag != _MERGE):
        with suppress(TypeError):  # unhashable: refused below
            if key in seen:
                told = f"key {shown(key)} stands twice"
                raise yaml.constructor.ConstructorError(None, None, told, place.start_mark)
            seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


def _number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """A number; what YAML 1.1 reads to the base of 8 or 60 was hardly meant so, and is refused."""
    number = (loader.construct_yaml_int if node.tag == _INT else loader.construct_yaml_float)(node)
    digits = str(node.value).lstrip("+-").replace("_", "")
    if ":" in digits or (node.tag == _INT and digits.isdigit() and digits != str(int(digits))):
        told = f"{node.value} is {number} in YAML; write {number}, or '{node.value}' for a text"
        raise yaml.constructor.ConstructorError(None, None, told, node.start_mark)
    return number


_MERGE, _INT, _FLOAT = (f"tag:yaml.org,2002:{kind}" for kind in ("merge", "int", "float"))
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor(_INT, _number)
_Loader.add_constructor(_FLOAT, _number)


def read_yaml(path: str | Path, kind: str) -> dict[str, Any]:
    """Read a YAML file of keys with the safe loader.

    Args:
        path: The file.
        kind: What it is, for errors: "option file".

    Raises:
        UserError: Missing, too large, not YAML, a key that stands twice, or not keys and values.
    """
    if reason := why_no_file(path, kind):  # a pipe, too, can be read but once
        raise UserError(f"{path}: {reason}; check the path")
    try:
        if Path(path).stat().st_size > _LARGEST_FILE:
            raise UserError(f"larger than {_LARGEST_FILE >> 20} MiB, which no {kind} is")
        text = Path(path).read_text(encoding="utf-8")
        if "\0" in text:
            raise UserError(f"not valid YAML, it holds NULs{_OTHER_CODE}")
        content = parse_yaml(text)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML ({said_by(error)}){_OTHER_CODE}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a file of keys and values; start from one of options/*.yml")
    return content


def parse_yaml(text: str) -> Any:
    """What a YAML text says, by the safe loader, in which no key stands twice.

    Raises:
        UserError: It is not YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"not valid YAML ({said_by(error, 300)})") from None


def flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of sections within sections, joined by dots, and their values."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_option_file(path: str) -> Mapping[str, Any]:
    """Read an option file with the safe loader.

    Files of other models pass as long as they have what the toolbox's own parsing reads.

    Raises:
        UserError: Missing, not YAML, or without a section that the toolbox needs.
    """
    config = read_yaml(path, "option file")
    check_sections(config, path)
    return config


def check_sections(config: Mapping[str, Any], path: str) -> None:
    """Check that the sections that the toolbox's parsing reads are there; errors as of `read_option_file`."""
    ours = config.get("model_type") == "RestorationModel"
    sections = ("datasets", "path", "network_g") if ours else ("datasets", "path")
    for key in ("name", "model_type", "num_gpu", *sections):
        if key not in config:
            raise UserError(f"{path}: key '{key}' is missing; start from one of options/*.yml")
    for key in sections:
        _check_section(config[key], f"{path}, {key}")
    for phase, dataset in config["datasets"].items():
        if phase in _PLACES.keys() - {"train", "val"} and not isinstance(dataset, Mapping):
            raise UserError(f"{path}, datasets: unknown key {shown(phase)}{_hint(phase, (), where='')}")
        _check_section(dataset, f"{path}, datasets.{phase}")


def _check_section(section: Any, where: str) -> None:
    if not isinstance(section, Mapping):
        raise UserError(f"{where}: the section is empty or not 'key: value' lines; fill it or take it out")
    for key in section:
        if not isinstance(key, str):
            raise UserError(f"{where}: key {shown(key)} is not a text")


_PLACES: dict[str, list[str]] = {}  # by key the sections that have it


def place_keys(keys: Iterable[str], place: str) -> None:
    """Tell where keys belong, "in train" or "at the top", for errors on files that have them elsewhere."""
    for key in keys:
        places = _PLACES.setdefault(key, [])
        places += [] if place in places else [place]


def _hint(key: str, legal: Iterable[str], where: str) -> str:
    """Where a key belongs that one or two sections have; of others the nearest legal ones."""
    places = [place for place in _PLACES.get(key, []) if not where.endswith(place.split()[-1])]
    return f" (belongs {' or '.join(places)})" if 1 <= len(places) <= _MOST_PLACES else nearest(key, legal)


_MOST_PLACES = 2  # a key that more sections have, such as type, has none of its own


def unknown_keys(keys: Mapping[Any, Any], legal: Sequence[str] | frozenset[str], where: str) -> Iterator[str]:
    """Yield a line for each key that is not legal; the first ones say where it belongs, or the nearest legal key."""
    wrong = (key for key in keys if key not in legal)
    for number, key in enumerate(wrong):
        if not isinstance(key, str):
            yield f"{where}: key {shown(key)} is not a text"
        else:
            yield f"{where}: unknown key {shown(key)}{_hint(key, legal, where) if number < _MOST_NEAREST else ''}"


def check_keys(keys: Mapping[str, Any], legal: Sequence[str] | frozenset[str], where: str) -> None:
    """Raise a `UserError` with a line for each key that is not legal."""
    if unknown := list(unknown_keys(keys, legal, where)):
        raise UserError(*unknown)


def normalise(
    section: dict[str, Any], kinds: Sequence[type], where: str, *, joint: str = ".", others: bool = False
) -> Iterator[str]:
    """Bring the values of a section into the form to compute with, in place.

    Numbers written as texts become numbers. A value that is not legal gives way to its default, so that what else is
    wrong can still be looked for.

    Args:
        section: Of an option file.
        kinds: Dataclasses whose fields are the legal keys.
        where: The section's place, for messages.
        joint: What stands between `where` and a key.
        others: Pass over keys that no dataclass has.

    Yields:
        A line for each problem.
    """
    fields = {item.name: item for kind in kinds for item in dataclasses.fields(kind)}
    hints = {key: hint for kind in kinds for key, hint in get_type_hints(kind, include_extras=True).items()}
    if not others:
        yield from unknown_keys(section, frozenset(fields), where)
    for key in [key for key in section if key in fields]:
        place = f"{where}{joint}{key}"
        inner = dataclass_in(hints[key])
        if inner is not None and isinstance(section[key], Mapping):
            section[key] = dict(section[key])
            yield from normalise(section[key], [inner], place)
        elif (value := fitted(section[key], _mapping_for(hints[key]))) is not MISFIT:
            section[key] = value
        else:
            yield f"{place}: {shown(section[key])} is not {describe(_mapping_for(hints[key]))}"
            section[key] = _default(fields[key])


def dataclass_in(hint: Any) -> type | None:
    """The dataclass of a hint `Section` or `Section | None`."""
    parts = (part for part in (hint, *get_args(hint)) if isinstance(part, type))
    return next((part for part in parts if dataclasses.is_dataclass(part)), None)


def _mapping_for(hint: Any) -> Any:
    """The hint, with the section of a dataclass told in words."""
    if dataclass_in(hint) is None:
        return hint
    return Mapping[str, Any] | None if type(None) in get_args(hint) else Mapping[str, Any]


def _default(item: dataclasses.Field[Any]) -> Any:
    """A legal value of a field; a section's are its keys'."""
    if item.default_factory is not dataclasses.MISSING:
        made = item.default_factory()
        return dataclasses.asdict(made) if dataclasses.is_dataclass(made) else made  # type: ignore[arg-type]
    return None if item.default is dataclasses.MISSING else copy.copy(item.default)


def parse(options: type[Options], mapping: Mapping[str, Any], where: str, *, joint: str = ".") -> Options:
    """Build a dataclass from a mapping; `where` and `joint` as of `normalise`.

    Raises:
        UserError: Unknown or missing keys, or values that are not legal; a line for each.
    """
    values, problems = dict(mapping), []
    for item in dataclasses.fields(options):  # type: ignore[arg-type]
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and values.get(item.name) is None:
            values.pop(item.name, None)
            problems.append(f"{where}: key '{item.name}' is missing")
    if problems := [*normalise(values, [options], where, joint=joint), *problems]:
        raise UserError(*problems)
    return options(**values)


def check_arguments(
    function: Callable[..., Any], arguments: dict[str, Any], where: str, known: type | None = None
) -> Iterator[str]:
    """Bring a section into the form that a function of BasicSR is called with, in place.

    Args:
        function: What is called.
        arguments: The section.
        where: The section's place, for messages.
        known: A dataclass with hints for keys; others are judged by the function's own hints, or by their defaults.

    Yields:
        A line for each value that is not legal.
    """
    hints = argument_hints(function, known)
    for key in [key for key in arguments if key in hints]:
        if (value := fitted(arguments[key], hints[key])) is not MISFIT:
            arguments[key] = value
        else:
            yield f"{where}.{key}: {shown(arguments[key])} is not {describe(hints[key])}"


def argument_hints(function: Callable[..., Any], known: type | None = None) -> dict[str, Any]:
    """By argument what `check_arguments` judges it by."""
    hints = {
        name: like_default(item.default) if item.annotation is item.empty else item.annotation
        for name, item in _parameters(function).items()
    }
    return hints | (get_type_hints(known, include_extras=True) if known is not None else {})


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function, eval_str=True).parameters
    except NameError:  # hints of a stranger's that are for type checkers alone
        parameters = inspect.signature(function).parameters
        return {name: item.replace(annotation=item.empty) for name, item in parameters.items()}


def check_call(
    function: Callable[..., Any], arguments: Mapping[str, Any], where: str, supplied: Sequence[str] = ()
) -> None:
    """Check the keys of a section against the signature of what the toolbox calls with it.

    Args:
        function: What is called.
        arguments: The section; its key `type` is passed over.
        where: The section's place, for messages.
        supplied: Parameters which the toolbox itself fills in.

    Raises:
        UserError: A key the function does not name, or a missing one.
    """
    named, swallows = legal_arguments(function, supplied)
    if not swallows:
        check_keys({key: value for key, value in arguments.items() if key != "type"}, frozenset(named), where)
    for name, item in named.items():
        if item.default is item.empty and name not in arguments:
            raise UserError(f"{where}: key '{name}' is missing")


def legal_arguments(
    function: Callable[..., Any], supplied: Sequence[str] = ()
) -> tuple[dict[str, inspect.Parameter], bool]:
    """The parameters that a section may name, and whether it may name any others."""
    parameters = inspect.signature(function).parameters.values()
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = {item.name: item for item in parameters if item.kind not in variable and item.name not in supplied}
    return named, any(item.kind is item.VAR_KEYWORD for item in parameters) and not named
