"""Reading and checking comparison files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnan_plugin.errors import UserError, nearest, shown
from rnan_plugin.evaluation.classical import CLASSICAL
from rnan_plugin.evaluation.methods import MethodSource
from rnan_plugin.files import one_component, shortened
from rnan_plugin.inference.policy import policy_of
from rnan_plugin.inference.restorer import RestoreSettings
from rnan_plugin.options.schema import parse, read_yaml
from rnan_plugin.paper.tasks import TASKS, TaskAtLevel
from rnan_plugin.perceptual import Lpips, lpips_network
from rnan_plugin.targets import why_no_folder

GROUND_TRUTH = "ground truth"  # stands beside the methods

TYPES_OF_KEYS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "task": str,
    "level": (int, float),
    "noise_seed": int,
    "sets": list,
    "policy": str,
    "tile": int,
    "tile_overlap": int,
    "attention_window": int,
    "timing_side": int,
    "lpips": dict,
    "methods": dict,
}
NEEDED = ("task", "sets", "methods")
# Keys of a method beside its type: those that it needs, those that it may have.
KEYS_OF_METHODS: dict[str, tuple[set[str], set[str]]] = {
    "network": ({"opt"}, {"weights", "self_ensemble", "training"}),
    "released": ({"weights"}, {"self_ensemble"}),
    "shipped": (set(), {"weights", "self_ensemble"}),
    "files": ({"files"}, set()),
    **{name: (set(), set()) for name in CLASSICAL},
}


@dataclass(frozen=True)
class Comparison:
    """A comparison file's content.

    Args:
        name: Of the comparison.
        task: Task and level.
        sets: Folders or LMDBs of ground truth.
        settings: How networks are applied.
        timing_side: Side of the image on which time and memory are measured.
        methods: By name.
        lpips: Computed too, where its files are named: weights and linear.
        path: The file, for errors.
    """

    name: str
    task: TaskAtLevel
    sets: list[str]
    settings: RestoreSettings
    timing_side: int
    methods: dict[str, MethodSource]
    path: str
    lpips: Lpips | None = None


def file_name(method: str) -> str:
    """What a method's files are called."""
    return shortened(method.replace("/", "_"), ".png").removesuffix(".png")


def read_comparison(path: str) -> Comparison:
    """Read and check a comparison file.

    Raises:
        UserError: A key or value that is not legal, with the file's name.
    """
    content = read_yaml(path, "comparison file")
    for key in NEEDED:
        if not content.get(key):
            raise UserError(f"{path}: key '{key}' is missing or empty")
    content = {key: value for key, value in content.items() if value is not None}
    for key, value in content.items():
        _check_value(key, value, path)
    if content["task"] not in TASKS:
        raise UserError(f"{path}, task: no task '{content['task']}'{nearest(content['task'], TASKS)}")
    methods = {str(name): _method(section, f"{path}, methods.{name}") for name, section in content["methods"].items()}
    _check_names([GROUND_TRUTH, *map(file_name, map(str, content["methods"]))], f"{path}, methods")
    _check_names([Path(str(root)).stem for root in content["sets"]], f"{path}, sets")
    try:
        return Comparison(
            one_component(content.get("name", Path(path).stem), "name"),
            TaskAtLevel(content["task"], content.get("level"), content.get("noise_seed", 0)),
            [str(root) for root in content["sets"]],
            RestoreSettings(policy_of({"policy": "tile", **content})),
            content.get("timing_side", 256),
            methods,
            path,
            _lpips(content["lpips"]) if "lpips" in content else None,
        )
    except UserError as error:
        raise error.within(f"{path}: ") from None


def _lpips(section: dict[str, Any]) -> Lpips:
    """The section `lpips`, its files read."""
    found = parse(Lpips, section, "lpips")
    try:
        lpips_network(found.weights, found.linear)
    except UserError as error:
        raise error.within("lpips: ") from None
    return found


def _check_value(key: str, value: Any, path: str) -> None:
    if key not in TYPES_OF_KEYS:
        raise UserError(f"{path}: unknown key '{key}'{nearest(str(key), TYPES_OF_KEYS)}")
    legal = TYPES_OF_KEYS[key]
    if not isinstance(value, legal) or isinstance(value, bool):
        names = [kind.__name__ for kind in (legal if isinstance(legal, tuple) else (legal,))]
        raise UserError(f"{path}, {key}: {shown(value)} is not of type {' or '.join(names)}")
    if key == "timing_side" and isinstance(value, int) and value < 1:
        raise UserError(f"{path}, {key}: {value} is not a side of 1 pixel or more")


def _method(section: Any, where: str) -> MethodSource:
    """A section of `methods`.

    Raises:
        UserError: A key or value that is not legal for its type.
    """
    if not isinstance(section, dict) or "type" not in section:
        raise UserError(f"{where}: needs keys, at least a type ({', '.join(sorted(KEYS_OF_METHODS))})")
    kind = section["type"]
    if not isinstance(kind, str) or kind not in KEYS_OF_METHODS:
        raise UserError(f"{where}.type: no type {shown(kind)}{nearest(str(kind), KEYS_OF_METHODS)}")
    needed, possible = KEYS_OF_METHODS[kind]
    legal = {"type"} | needed | possible
    for key in section:
        if key not in legal:
            raise UserError(f"{where}: unknown key '{key}' for type {kind}{nearest(str(key), legal)}")
    for key in sorted(needed):
        if not section.get(key):
            raise UserError(f"{where}: type {kind} needs the key '{key}'")
    method = parse(MethodSource, section, where)
    _check_training(method.training, f"{where}.training")
    return method


def _check_training(training: str | None, where: str) -> None:
    if training and (reason := why_no_folder(training)):
        raise UserError(f"{where}: {training}: {reason}; name a training's tb_logger/NAME")


def _check_names(names: list[str], where: str) -> None:
    """Names that would share a file, also where a file system ignores case."""
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twice:
        raise UserError(f"{where}: '{twice[0]}' is taken twice; rename one")
