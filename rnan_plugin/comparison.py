"""Several methods on the same inputs: cost and scores in one table; `scripts/compare.py` is the command."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rnan_plugin.classical import CLASSICAL, classical
from rnan_plugin.data.degradations import Image
from rnan_plugin.data.image_store import encode_png, open_store
from rnan_plugin.data.tasks import TASKS, TaskAtLevel
from rnan_plugin.errors import UserError, nearest
from rnan_plugin.evaluation import Evaluation, Method, RestoredFiles, evaluate
from rnan_plugin.models.inference import Policy
from rnan_plugin.models.memory import PeakMemory
from rnan_plugin.models.restorer import Restorer, Settings, load_network, provenance_of

_KEYS = {"name", "task", "level", "noise_seed", "sets", "policy", "tile", "tile_overlap", "timing_side", "methods"}
_METHOD_KEYS = {"type", "opt", "weights", "files", "self_ensemble"}
_TYPES = {"network", "released", "shipped", "files", *CLASSICAL}
_REPEATS = 5
GROUND_TRUTH = "ground truth"  # beside the methods


@dataclass(frozen=True)
class Compared:
    """A method of a comparison, and its network if it has one."""

    name: str
    method: Method
    net: nn.Module | None
    settings: dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """What a method costs.

    Args:
        parameters: Of the network; None for a method without.
        multiply_adds: For each input pixel, on a tile of the comparison's size; None for a method without network.
        seconds: For one image of `timing_side`² pixels; median of several, warm.
        peak_bytes: Most memory held at once above the idle process; None where the system does not tell.
    """

    parameters: int | None
    multiply_adds: float | None
    seconds: float
    peak_bytes: int | None


@dataclass(frozen=True)
class Comparison:
    """A comparison file's content.

    Args:
        name: Of the comparison.
        setting: Task and level.
        sets: Folders or LMDBs of ground truth.
        policy: How networks are applied.
        timing_side: Side of the image on which time and memory are measured.
        methods: Sections by name of the method.
        path: The file, for errors.
    """

    name: str
    setting: TaskAtLevel
    sets: list[str]
    policy: Policy
    timing_side: int
    methods: dict[str, dict[str, Any]]
    path: str


def read_comparison(path: str) -> Comparison:
    """Read and check a comparison file.

    Raises:
        UserError: A key or value that is not legal, all named with the file.
    """
    content = _read_yaml(path)
    _check_keys(content, _KEYS, path, needed=("task", "sets", "methods"))
    if content["task"] not in TASKS:
        raise UserError(f"{path}, task: no task '{content['task']}'{nearest(str(content['task']), TASKS)}")
    for name, section in content["methods"].items():
        _check_method(section, f"{path}, methods.{name}")
    try:
        return Comparison(
            str(content.get("name", Path(path).stem)),
            TaskAtLevel(content["task"], content.get("level"), content.get("noise_seed", 0)),
            list(content["sets"]),
            Policy(content.get("policy", "tile"), content.get("tile", 128), content.get("tile_overlap", 16)),
            content.get("timing_side", 256),
            content["methods"],
            path,
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _check_method(section: Any, where: str) -> None:
    if not isinstance(section, dict):
        raise UserError(f"{where}: needs keys, at least a type ({', '.join(sorted(_TYPES))})")
    _check_keys(section, _METHOD_KEYS, where, needed=("type",))
    if section["type"] not in _TYPES:
        raise UserError(f"{where}.type: no type '{section['type']}'{nearest(str(section['type']), _TYPES)}")


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{path}: no such comparison file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a file of keys; see docs/evaluation.md")
    return content


def _check_keys(section: Mapping[str, Any], legal: set[str], where: str, needed: tuple[str, ...]) -> None:
    for key in section:
        if key not in legal:
            raise UserError(f"{where}: unknown key '{key}'{nearest(str(key), legal)}")
    for key in needed:
        if not section.get(key):
            raise UserError(f"{where}: key '{key}' is missing or empty")


def build_method(comparison: Comparison, name: str, root: str) -> Compared:
    """Build a method of a comparison for an image set; errors name file and method."""
    section, setting = comparison.methods[name], comparison.setting
    try:
        if section["type"] == "files":
            store = open_store(root, is_lmdb=root.endswith(".lmdb"))
            return Compared(name, RestoredFiles(section["files"], store.names), None, {"files": section["files"]})
        if section["type"] in CLASSICAL:
            source = CLASSICAL[section["type"]].source
            return Compared(name, classical(section["type"], setting), None, {"source": source})
        return _network(comparison, name)
    except UserError as error:
        raise UserError(f"{comparison.path}, methods.{name}: {error}") from None


def _network(comparison: Comparison, name: str) -> Compared:
    section, setting, policy = comparison.methods[name], comparison.setting, comparison.policy
    policy = Policy(policy.name, policy.tile, policy.overlap, self_ensemble=bool(section.get("self_ensemble")))
    settings = Settings(policy, channels=setting.task.channels)
    loaded = load_network(section.get("opt"), section.get("weights"), setting)
    restorer = Restorer(loaded.net, loaded.channels, settings)
    told = provenance_of(loaded.weights, settings, restorer)
    told["weights"] = Path(loaded.weights).name
    return Compared(name, lambda lq, key: restorer(lq, key)[0], loaded.net, told)


def measure_costs(methods: list[Compared], lq: Image, tile: int) -> dict[str, Cost]:
    """Time and memory of all methods in one run, in turn with each other, after one warm-up each."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    times: dict[str, list[float]] = {item.name: [] for item in methods}
    peaks: dict[str, int | None] = {}
    for item in methods:
        with PeakMemory(device) as memory:
            item.method(lq, "warm-up")
        peaks[item.name] = memory.bytes
    for _ in range(_REPEATS):
        for item in methods:
            start = time.perf_counter()
            item.method(lq, "timing")
            times[item.name].append(time.perf_counter() - start)
    return {
        item.name: Cost(
            sum(weight.numel() for weight in item.net.parameters()) if item.net is not None else None,
            multiply_adds(item.net, tile, lq.shape[2]) if item.net is not None else None,
            median(times[item.name]),
            peaks[item.name],
        )
        for item in methods
    }


def multiply_adds(net: nn.Module, side: int, channels: int) -> float:
    """Multiply-adds for each pixel of an input of side×side pixels: convolutions, linear layers, attention."""
    img = torch.zeros(1, channels, side, side)
    # With gradients, because what inference fuses is not counted.
    with torch.enable_grad(), FlopCounterMode(display=False, custom_mapping=_UNCOUNTED) as counter:
        copy.deepcopy(net).cpu().to(memory_format=torch.contiguous_format)(img)
    return float(counter.get_total_flops()) / 2 / side**2


def _linear_flops(shape: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * prod(shape) * weight[0]


# The attention over queries of `rnan_plugin.archs.attention`.
_UNCOUNTED = (
    {torch.ops.mkldnn._linear_pointwise: _linear_flops} if hasattr(torch.ops.mkldnn, "_linear_pointwise") else {}
)


def evaluate_method(comparison: Comparison, item: Compared, root: str, images: Path) -> Evaluation:
    """Score a method on an image set, and keep what it restored as `images/SET/IMAGE/METHOD.png`.

    The ground truth lies beside it: grey, Y, or cut to a multiple of the scale, as the task needs.
    """
    store = open_store(root, is_lmdb=root.endswith(".lmdb"))

    def keep(lq: Image, key: str) -> Image:
        restored = item.method(lq, key)
        folder = images / Path(root).stem / key
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{item.name.replace('/', '_')}.png").write_bytes(encode_png(restored, level=3))
        if not (folder / f"{GROUND_TRUTH}.png").exists():
            gt = comparison.setting.pair(store, key)[1]
            (folder / f"{GROUND_TRUTH}.png").write_bytes(encode_png(gt, level=3))
        return restored

    return evaluate(keep, comparison.setting, root, name=item.name, settings=item.settings)


def timing_input(comparison: Comparison) -> Image:
    """The LQ image on which time and memory are measured: noise in a photograph's place costs the same."""
    side = comparison.timing_side
    channels = 3 if comparison.setting.task.channels == "rgb" else 1
    gt = np.random.default_rng(0).integers(0, 256, (side, side, channels), dtype=np.uint8)
    return comparison.setting.degradation(gt, np.random.default_rng(0)).astype(np.uint8, copy=False)
