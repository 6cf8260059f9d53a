"""Reading and checking comparison files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from rnan_plugin.choices import PolicyName
from rnan_plugin.errors import UserError, nearest, shown
from rnan_plugin.evaluation.classical import CLASSICAL
from rnan_plugin.evaluation.methods import MethodSource
from rnan_plugin.files import one_component, shortened
from rnan_plugin.inference.policy import policy_of
from rnan_plugin.inference.restorer import RestoreSettings
from rnan_plugin.options.schema import parse, read_yaml
from rnan_plugin.options.values import NOT_EMPTY, Count, CountOrNone, Name, PathText, Seed, within
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.perceptual import Lpips, lpips_network
from rnan_plugin.targets import expanded, why_no_folder, with_a_name

GROUND_TRUTH = "ground truth"  # stands beside the methods

# Keys of a method beside its type: those that it needs, those that it may have.
KEYS_OF_METHODS: dict[str, tuple[set[str], set[str]]] = {
    "network": ({"opt"}, {"weights", "self_ensemble", "training"}),
    "released": ({"weights"}, {"self_ensemble"}),
    "shipped": (set(), {"weights", "self_ensemble"}),
    "files": ({"files"}, set()),
    **{name: (set(), set()) for name in CLASSICAL},
}


@dataclass(frozen=True)
class ComparisonKeys:
    """The keys of a comparison file.

    Args:
        task: What is restored.
        sets: Folders or LMDBs of ground truth.
        methods: By name, what is compared.
        level: Sigma, quality or scale; left out for a task without levels.
        noise_seed: The noise of an image depends on it and the image's content.
        name: Of the comparison; left out, the file's.
        policy: How networks are applied to an image; left out, in tiles.
        tile: Largest side of a tile in pixels of the input.
        tile_overlap: Pixels that neighbouring tiles share.
        attention_window: Side in pixels of the windows of a tile within which attention over the keys compares.
        timing_side: Side of the image on which time and memory are measured.
        lpips: Computed too, where its files are named: weights and linear.
    """

    task: str
    sets: Annotated[list[PathText], NOT_EMPTY]
    methods: Annotated[Mapping[str, Any], NOT_EMPTY]
    level: float | None = None
    noise_seed: Seed | None = None
    name: Name | None = None
    policy: PolicyName | None = None
    tile: Count | None = None
    tile_overlap: CountOrNone | None = None
    attention_window: Count | None = None
    timing_side: Annotated[int, within(1, 4096)] | None = None
    lpips: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Comparison:
    """What a comparison file says; arguments as of `ComparisonKeys`, but

    Args:
        task: Task and level.
        settings: How networks are applied.
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
    keys = parse(ComparisonKeys, read_yaml(path, "comparison file"), path, joint=", ")
    methods = {str(name): _method(section, f"{path}, methods.{name}") for name, section in keys.methods.items()}
    _check_names([GROUND_TRUTH, *(file_name(str(name)) for name in keys.methods)], f"{path}, methods")
    sets = [with_a_name(expanded(root)) for root in keys.sets]  # sets are called by it
    _check_names([Path(root).stem for root in sets], f"{path}, sets")
    given = {key: value for key, value in asdict(keys).items() if value is not None}
    try:
        return Comparison(
            keys.name or one_component(Path(path).stem, "name"),
            TaskAtLevel(keys.task, keys.level, keys.noise_seed or 0),
            sets,
            RestoreSettings(policy_of({"policy": "tile", **given})),
            keys.timing_side or 256,
            methods,
            path,
            _lpips(keys.lpips) if keys.lpips is not None else None,
        )
    except UserError as error:
        raise error.within(f"{path}, ") from None


def _lpips(section: Mapping[str, Any]) -> Lpips:
    """The section `lpips`, its files read."""
    found = parse(Lpips, section, "lpips")
    try:
        lpips_network(found.weights, found.linear)
    except UserError as error:
        raise error.within("lpips: ") from None
    return found


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
    paths: dict[str, Any] = {key: expanded(path) for key in _PATHS if (path := getattr(method, key))}
    if "training" in paths:
        paths["training"] = _log(paths["training"], f"{where}.training")
    return replace(method, **paths)


_PATHS = ("opt", "weights", "files", "training")


def _log(training: str, where: str) -> str:
    """The folder of a training's log; the training's own is as good."""
    from rnan_plugin.evaluation.run_figure import log_of  # TensorBoard, which takes a while to import

    log = log_of(Path(training))
    if reason := why_no_folder(log) or (None if any(log.glob("*tfevents*")) else "holds no TensorBoard log"):
        raise UserError(f"{where}: {log}: {reason}; name a training's folder, experiments/NAME, or its tb_logger/NAME")
    return str(log)


def _check_names(names: list[str], where: str) -> None:
    """Names that no file can have, or that would share one, also where a file system ignores case."""
    if not all(name.strip() for name in names):
        raise UserError(f"{where}: an empty name; files are called by it, give it one")
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twice:
        raise UserError(f"{where}: '{twice[0]}' is taken twice; rename one")
