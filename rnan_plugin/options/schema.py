"""From the sections of an option file to typed objects; an unknown key is an error that names the nearest legal one."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from rnan_plugin.images.color import Channels
from rnan_plugin.images.degradations import Awgn, BayerMosaic, BicubicDown, Degradation, Jpeg, total_scale
from rnan_plugin.images.levels import DrawnDegradation, level_range
from rnan_plugin.errors import UserError, collect, nearest

Options = TypeVar("Options")

DEGRADATIONS: dict[str, Callable[..., Degradation]] = {
    "awgn": Awgn,
    "mosaic": BayerMosaic,
    "jpeg": Jpeg,
    "bicubic": BicubicDown,
}
# By type, the argument that may be a range in training and a list in validation.
LEVEL_KEYS = {name: kind.level for name, kind in DEGRADATIONS.items() if hasattr(kind, "level")}

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


@dataclass(frozen=True)
class DatasetOptions:
    """One entry of `datasets` in an option file.

    `sampling` says what training draws uniformly: images, or pixels (more patches of larger images).
    The keys from `phase` on are the toolbox's own: it adds the first two and its data loader reads the rest.
    """

    name: str
    type: str
    dataroot_gt: str
    degradation: Any = None
    dataroot_lq: str | None = None
    filename_tmpl: str = "{}"
    io_backend: Mapping[str, Any] = field(default_factory=lambda: {"type": "disk"})
    channels: Channels = "rgb"
    gt_size: int | None = None
    use_hflip: bool = True
    use_rot: bool = True
    noise_seed: int = 0
    sampling: Literal["images", "pixels"] = "images"
    phase: Literal["train", "val", "test"] = "train"
    scale: int = 1
    use_shuffle: bool | None = None
    num_worker_per_gpu: int | None = None
    batch_size_per_gpu: int | None = None
    dataset_enlarge_ratio: int = 1
    prefetch_mode: str | None = None
    num_prefetch_queue: int | None = None
    pin_memory: bool = False
    persistent_workers: bool = False

    @property
    def is_lmdb(self) -> bool:
        """Whether images come from an LMDB."""
        return bool(self.io_backend["type"] == "lmdb")


def option_file() -> str | None:
    """Name of the option file on the command line, if there is one."""
    arguments = [part for argument in sys.argv[1:] for part in re.split(r"(?<=^-opt)=", argument)]
    return arguments[arguments.index("-opt") + 1] if "-opt" in arguments[:-1] else None


def read_option_file(path: str) -> Mapping[str, Any]:
    """Read an option file with the safe loader.

    Files of other models pass as long as they have what the toolbox's own parsing reads.

    Raises:
        UserError: Missing, not YAML, or without a section that the toolbox needs.
    """
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{path}: no such option file; name one with -opt, such as options/…yml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    ours = isinstance(config, Mapping) and config.get("model_type") == "RestorationModel"
    sections = ("datasets", "path", "network_g") if ours else ("datasets", "path")
    for key in ("name", "model_type", "num_gpu", *sections):
        if not isinstance(config, Mapping) or key not in config:
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
        f"{where}.{key}: {value!r} is not {_describe(hints[key])}"
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


Chain = list[Degradation | DrawnDegradation]


def parse_dataset(mapping: Mapping[str, Any], where: str) -> tuple[DatasetOptions, Chain]:
    """Check one entry of `datasets` and build its chain of degradations.

    Raises:
        UserError: Naming `where` and the key.
    """
    options = parse(DatasetOptions, mapping, where)
    check_keys(options.io_backend, ["type"], f"{where}.io_backend")
    if options.io_backend.get("type") not in ("disk", "lmdb"):  # may be unhashable
        raise UserError(f"{where}.io_backend.type: {options.io_backend.get('type')!r} is not one of disk, lmdb")
    if (options.degradation is None) == (options.dataroot_lq is None):
        raise UserError(f"{where}: needs either 'degradation' (LQ made on the fly) or 'dataroot_lq' (ready-made)")
    chain = build_chain(options.degradation, f"{where}.degradation") if options.degradation is not None else []
    if chain and total_scale(chain) != options.scale:
        raise UserError(f"{where}: scale is {options.scale}, but its degradation shrinks by {total_scale(chain)}")
    if options.phase != "train" and any(isinstance(item, DrawnDegradation) for item in chain):
        raise UserError(f"{where}.degradation: a range is for training; give a level, or a list with a set for each")
    if options.phase == "train" and (options.gt_size is None or options.gt_size < 1):
        raise UserError(f"{where}: training needs 'gt_size', the side of the GT patch in pixels")
    if options.gt_size is not None and options.gt_size % options.scale:
        raise UserError(f"{where}.gt_size: {options.gt_size} is not a multiple of the scale {options.scale}")
    return options, chain


def build_chain(config: Any, where: str) -> Chain:
    """Build degradations from `{type: jpeg, quality: 10}` or a list of such mappings; a level may be a range.

    Raises:
        UserError: An unknown type or key, or a value outside its legal interval.
    """
    entries = [config] if isinstance(config, Mapping) else config
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{where}: {config!r} is not a mapping such as {{type: jpeg, quality: 10}}, or a list of them")
    return [_build_degradation(entry, where) for entry in entries]


def _build_degradation(entry: Any, where: str) -> Degradation | DrawnDegradation:
    if not isinstance(entry, Mapping) or "type" not in entry:
        raise UserError(f"{where}: {entry!r} has no 'type'{nearest('', DEGRADATIONS)}")
    kind = entry["type"]
    if not isinstance(kind, str) or kind not in DEGRADATIONS:
        raise UserError(f"{where}.type: unknown degradation '{kind}'{nearest(str(kind), DEGRADATIONS)}")
    arguments = {key: value for key, value in entry.items() if key != "type"}
    key = LEVEL_KEYS.get(kind, "")
    try:
        levels = level_range(arguments.get(key))
        if levels is None:
            return parse(DEGRADATIONS[kind], arguments, where)  # type: ignore[arg-type]
        return DrawnDegradation(partial(_at_level, kind, arguments, key, where), levels, whole=key == "quality")
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


def _at_level(kind: str, arguments: dict[str, Any], key: str, where: str, level: float) -> Degradation:
    degradation: Degradation = parse(DEGRADATIONS[kind], arguments | {key: level}, where)  # type: ignore[arg-type]
    return degradation


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


def missing_data_remedy(root: str) -> str:
    """What to run when a data set of the shipped option files is not there."""
    if "DIV2K" in root:
        return (
            f"pack DIV2K with: python scripts/pack_lmdb.py DIV2K_train_HR {root} --crop-size 480 --step 240 "
            "(no DIV2K at hand? bash scripts/quickstart.sh trains on sample photographs)"
        )
    if Path(root).suffix == ".lmdb":
        return f"pack it with: python scripts/pack_lmdb.py FOLDER {root}"
    return "put the images there or change the path"
