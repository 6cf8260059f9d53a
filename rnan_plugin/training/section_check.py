"""The values of an option file's sections: brought into the form to compute with, before anything reads them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rnan_plugin.errors import UserError, nearest, shown
from rnan_plugin.options.schema import normalise, unknown_keys
from rnan_plugin.options.sections import AnyModel, Logger, Paths, Top, Train, Validation
from rnan_plugin.training.step import StepOptions

OUR_MODEL = "RestorationModel"
_SECTIONS: dict[str, tuple[type, ...]] = {
    "train": (Train, StepOptions),
    "val": (Validation,),
    "path": (Paths,),
    "logger": (Logger,),
}
# What BasicSR reads of a training's file, whatever the model.
_TRAINING_SECTIONS = ("train", "logger")


def check_values(opt: dict[str, Any], path: str, *, is_train: bool) -> list[str]:
    """Check top level and sections, and normalise them in place: numbers written as texts become numbers.

    Of another model than the plugin's, only what BasicSR's own parsing and training read.

    Args:
        opt: As read from the file.
        path: The file, for messages.
        is_train: Whether it is to be trained with.

    Returns:
        A line for each problem; the values in question have given way to legal ones.

    Raises:
        UserError: With all of these lines, where the rest of the file can't be judged without what is wrong.
    """
    ours = opt.get("model_type") == OUR_MODEL
    basic = list(_missing(opt, path)) if is_train else []
    basic += normalise(opt, [Top if ours else AnyModel], path, joint=", ", others=True)
    lines = list(unknown_keys(opt, frozenset(Top.__dataclass_fields__), path)) if ours else []
    for name, kinds in _SECTIONS.items():
        if opt.get(name) is not None and (ours or name == "path"):
            opt[name] = dict(opt[name])
            lines += normalise(opt[name], kinds, f"{path}, {name}", others=not ours)
    if ours and is_train:
        lines += [*_wandb(opt, path), *_mlflow(opt, path)]
    if basic:
        raise UserError(*basic, *lines)
    return lines


def _missing(opt: dict[str, Any], path: str) -> Iterator[str]:
    """Sections without which BasicSR's training fails."""
    for name in _TRAINING_SECTIONS:
        if opt.get(name) is None:
            yield f"{path}: section '{name}' is missing; start from one of options/train_*.yml"
    if not isinstance(opt["datasets"].get("train"), dict):
        yield f"{path}: section 'datasets.train' is missing; start from one of options/train_*.yml"


def _wandb(opt: dict[str, Any], path: str) -> Iterator[str]:
    logger = opt.get("logger") or {}
    if not (logger.get("wandb") or {}).get("project"):
        return
    if importlib.util.find_spec("wandb") is None:
        yield f"{path}, logger.wandb.project: the package wandb is not installed; pip install wandb, or set it to ~"
    elif not logger.get("use_tb_logger"):
        yield f"{path}, logger.wandb.project: copies TensorBoard's scalars; set use_tb_logger: true, or project: ~"


def _mlflow(opt: dict[str, Any], path: str) -> Iterator[str]:
    if (opt.get("logger") or {}).get("mlflow") is not None and importlib.util.find_spec("mlflow") is None:
        yield (
            f"{path}, logger.mlflow: the package mlflow is not installed; pip install 'rnan_plugin[mlflow]', or take "
            "the section out"
        )


def check_type(section: Any, key: str, registry: Any, where: str, joint: str = ".") -> None:
    """Raise a `UserError` unless a key of a section names something that a registry knows."""
    if not isinstance(section, Mapping):
        raise UserError(f"{where}: {shown(section)} is no section of keys; it needs a '{key}'")
    kind = section.get(key)
    if not isinstance(kind, str) or kind not in registry:
        known = nearest(kind if isinstance(kind, str) else "", registry.keys())
        raise UserError(f"{where}{joint}{key}: no {shown(kind)} in BasicSR{known}")


def missing_keys(section: Mapping[str, Any], keys: Sequence[str], where: str) -> list[str]:
    """A line for each of the keys that a section lacks, or leaves empty."""
    return [f"{where}: key '{key}' is missing" for key in keys if section.get(key) is None]


def raise_lines(lines: Sequence[str]) -> None:
    """Raise a `UserError` with the lines, if there are any."""
    if lines:
        raise UserError(*lines)
