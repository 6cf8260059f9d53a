"""From the sections of an option file to typed objects; an unknown key is an error that names the nearest legal one."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from rnan_plugin.errors import UserError, collect, nearest, shown

Options = TypeVar("Options")

_LARGEST_FILE = 2**20  # bytes of a YAML file; PyYAML takes a minute for 10 MB


# Keys of the sections that the toolbox itself reads; `check_keys` adds nothing to them silently.
MODEL_KEYS: dict[str, frozenset[str]] = {
    "train": frozenset(
        {"ema_decay", "optim_g", "scheduler", "total_iter", "warmup_iter", "pixel_opt", "perceptual_opt"}
        | {"precision", "accumulate", "clip_grad_norm", "compile", "checkpoint_blocks", "skip_limit"}
    ),
    "val": frozenset(
        {"val_freq", "save_img", "pbar", "suffix", "metrics", "num_panel"}
        | {"policy", "tile", "tile_overlap", "tile_batch", "self_ensemble"}
    ),
    "path": frozenset(
        {"pretrain_network_g", "param_key_g", "strict_load_g", "resume_state", "ignore_resume_networks"}
        # added by the toolbox when it reads the file:
        | {"experiments_root", "models", "training_states", "log", "visualization", "results_root"}
    ),
    "logger": frozenset({"print_freq", "save_checkpoint_freq", "use_tb_logger", "wandb", "keep_last", "save_best"}),
}
TOP_KEYS = frozenset(
    {"name", "model_type", "scale", "num_gpu", "manual_seed", "dist_params", "find_unused_parameters", "device"}
    | {"datasets", "network_g", "path", "train", "val", "logger"}
    # added by the toolbox when it reads the file:
    | {"dist", "rank", "world_size", "auto_resume", "is_train", "root_path"}
)


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that stands twice: the last would win without a word."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value if key.tag != _MERGE]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            raise yaml.constructor.ConstructorError(None, None, f"key {shown(key)} stands twice", node.start_mark)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_MERGE = "tag:yaml.org,2002:merge"
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: str | Path, kind: str) -> dict[str, Any]:
    """Read a YAML file of keys with the safe loader.

    Args:
        path: The file.
        kind: What it is, for errors: "option file".

    Raises:
        UserError: Missing, too large, not YAML, a key that stands twice, or not keys and values.
    """
    try:
        if Path(path).stat().st_size > _LARGEST_FILE:
            raise UserError(f"{path}: larger than {_LARGEST_FILE >> 20} MiB, which no {kind} is")
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except OSError:
        raise UserError(f"{path}: no such {kind}; check the path") from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, LookupError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())[:300]})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a file of keys and values; start from one of options/*.yml")
    return content


def read_option_file(path: str) -> Mapping[str, Any]:
    """Read an option file with the safe loader.

    Files of other models pass as long as they have what the toolbox's own parsing reads.

    Raises:
        UserError: Missing, not YAML, or without a section that the toolbox needs.
    """
    config = read_yaml(path, "option file")
    ours = config.get("model_type") == "RestorationModel"
    sections = ("datasets", "path", "network_g") if ours else ("datasets", "path")
    for key in ("name", "model_type", "num_gpu", *sections):
        if key not in config:
            raise UserError(f"{path}: key '{key}' is missing; start from one of options/*.yml")
    for key in sections:
        _check_section(config[key], f"{path}, {key}")
    for phase, dataset in config["datasets"].items():
        _check_section(dataset, f"{path}, datasets.{phase}")
    return config


def _check_section(section: Any, where: str) -> None:
    if not isinstance(section, Mapping):
        raise UserError(f"{where}: the section is empty or not 'key: value' lines; fill it or take it out")


def check_keys(keys: Mapping[str, Any], legal: Sequence[str] | frozenset[str], where: str) -> None:
    """Raise a `UserError` with a line for each key that is not legal."""
    unknown = [f"{where}: unknown key '{key}'{nearest(key, legal)}" for key in keys if key not in legal]
    if unknown:
        raise UserError("\n".join(unknown))


def parse(options: type[Options], mapping: Mapping[str, Any], where: str) -> Options:
    """Build a dataclass from a mapping.

    Raises:
        UserError: An unknown or missing key, or a value of the wrong type.
    """
    fields = {item.name: item for item in dataclasses.fields(options)}  # type: ignore[arg-type]
    check_keys(mapping, frozenset(fields), where)
    for name, item in fields.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and mapping.get(name) is None:
            raise UserError(f"{where}: key '{name}' is missing")
    check_types(mapping, get_type_hints(options), where)
    return options(**mapping)


def check_types(arguments: Mapping[str, Any], hints: Mapping[str, Any], where: str) -> None:
    """Raise a `UserError` with a line for each value that is not of its key's type."""
    wrong = [
        f"{where}.{key}: {shown(value)} is not {_describe(hints[key])}"
        for key, value in arguments.items()
        if key in hints and not _fits(value, hints[key])
    ]
    if wrong:
        raise UserError("\n".join(wrong))


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return value in get_args(hint)
    if origin is Union or origin is type(int | None):
        return any(_fits(value, part) for part in get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is Union or isinstance(hint, type(int | None)):
        return " or ".join("~" if part is type(None) else _describe(part) for part in get_args(hint))
    return str(getattr(hint, "__name__", hint))


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
    parameters = inspect.signature(function).parameters.values()
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = {item.name: item for item in parameters if item.kind not in variable and item.name not in supplied}
    swallows = any(item.kind is item.VAR_KEYWORD for item in parameters) and not named
    if not swallows:
        check_keys({key: value for key, value in arguments.items() if key != "type"}, frozenset(named), where)
    for name, item in named.items():
        if item.default is item.empty and name not in arguments:
            raise UserError(f"{where}: key '{name}' is missing")


def check_sections(opt: Mapping[str, Any], where: str) -> None:
    """Check the keys of an option file's sections, except data sets, networks, losses and metrics."""
    sections = [(opt, TOP_KEYS, where)]
    sections += [(opt.get(name) or {}, legal, f"{where}, {name}") for name, legal in MODEL_KEYS.items()]
    collect(partial(check_keys, *section) for section in sections)
