"""Several methods on the same inputs: cost and scores in one table; `scripts/compare.py` is the command."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rnan_plugin.evaluation.classical import CLASSICAL, classical
from rnan_plugin.evaluation.comparison_file import GROUND_TRUTH, Comparison, file_name
from rnan_plugin.images.degradations import Image
from rnan_plugin.images.codec import encode_png
from rnan_plugin.data.image_store import is_lmdb, open_store
from rnan_plugin.errors import UserError
from rnan_plugin.evaluation.evaluate import Evaluation, evaluate
from rnan_plugin.evaluation.methods import Method, NetworkMethod, RestoredFiles
from rnan_plugin.files import atomic_path
from rnan_plugin.inference.policy import Policy, padded, window_of
from rnan_plugin.device import PeakMemory
from rnan_plugin.inference.restorer import Settings

_REPEATS, _MEMORY_REPEATS = 5, 3


@dataclass(frozen=True)
class Compared:
    """A method of a comparison.

    Args:
        name: In the table.
        methods: By image set: files are others for each.
        describe: Tells what its results since the last call depend on.
        net: Its network, if it has one.
        passes: Through the network for each image: eight of a self-ensemble.
        is_files: Whether its results were there before.
    """

    name: str
    methods: dict[str, Method]
    describe: Callable[[], dict[str, Any]]
    net: nn.Module | None = None
    passes: int = 1
    is_files: bool = False


@dataclass(frozen=True)
class Cost:
    """What a method costs; None is what it does not have or the system does not tell.

    Args:
        parameters: Of the network.
        multiply_adds: For each input pixel, on a tile of the comparison's size, or on the input that was timed where
            there are no tiles; overlaps are not counted.
        seconds: For one input of `timing_side`² pixels; median of several, warm.
        peak_bytes: Most memory held at once above the idle process.
    """

    parameters: int | None = None
    multiply_adds: float | None = None
    seconds: float | None = None
    peak_bytes: int | None = None


def build_method(comparison: Comparison, name: str) -> Compared:
    """Build a method of a comparison for all its image sets; errors name file and method."""
    section, setting = comparison.methods[name], comparison.setting
    try:
        if section["type"] == "files":
            return _files(comparison, name)
        if section["type"] in CLASSICAL:
            method = classical(section["type"], setting)
            return Compared(name, dict.fromkeys(comparison.sets, method), CLASSICAL[section["type"]].describe)
        return _network(comparison, name)
    except UserError as error:
        raise UserError(f"{comparison.path}, methods.{name}: {error}") from None


def _files(comparison: Comparison, name: str) -> Compared:
    """Results of another program: the folder itself, or with several image sets a folder below it for each."""
    folder = comparison.methods[name]["files"]
    methods: dict[str, Method] = {}
    for root in comparison.sets:
        own = folder if len(comparison.sets) == 1 else str(Path(folder, Path(root).stem))
        methods[root] = RestoredFiles(own, open_store(root, is_lmdb=is_lmdb(root)).names)
    return Compared(name, methods, lambda: {"files": folder}, is_files=True)


def _network(comparison: Comparison, name: str) -> Compared:
    section, setting, policy = comparison.methods[name], comparison.setting, comparison.policy
    policy = Policy(policy.name, policy.tile, policy.overlap, self_ensemble=bool(section.get("self_ensemble")))
    settings = Settings(policy, channels=setting.task.channels)
    method = NetworkMethod(setting, settings, section.get("opt"), section.get("weights"))
    passes = 8 if policy.self_ensemble else 1
    return Compared(name, dict.fromkeys(comparison.sets, method), method.describe, method.net, passes)


def measure_costs(items: Sequence[Compared], lq: Image, policy: Policy) -> dict[str, Cost]:
    """Time and memory of all methods in one run, in turn with each other, after one warm-up each; none for files."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    timed = {item.name: next(iter(item.methods.values())) for item in items if not item.is_files}
    times: dict[str, list[float]] = {name: [] for name in timed}
    peaks: dict[str, list[int]] = {name: [] for name in timed}
    for method in timed.values():
        method(lq, "warm-up")
    for _ in range(_REPEATS):
        for name, method in timed.items():
            start = time.perf_counter()
            method(lq, "timing")
            times[name].append(time.perf_counter() - start)
    for _ in range(_MEMORY_REPEATS):  # apart from the times, since it empties the allocator's store
        for name, method in timed.items():
            with PeakMemory(device) as memory:
                method(lq, "memory")
            peaks[name] += [memory.bytes] if memory.bytes is not None else []
    # What a network computes for a pixel depends on the size of the part that it sees at once.
    side = policy.tile if policy.name == "tile" else max(lq.shape[:2])
    costs = {}
    for item in items:
        item.describe()  # the policies of these images are not those of the scores
        seconds = median(times[item.name]) if item.name in timed else None
        peak = int(median(peaks[item.name])) if peaks.get(item.name) else None
        if item.net is None:
            # On a GPU's machine the peak is the GPU's, which these methods do not use.
            costs[item.name] = Cost(seconds=seconds, peak_bytes=peak if device.type == "cpu" else None)
        else:
            parameters = sum(weight.numel() for weight in item.net.parameters())
            products = item.passes * multiply_adds(item.net, side, lq.shape[2])
            costs[item.name] = Cost(parameters, products, seconds, peak)
    return costs


def multiply_adds(net: nn.Module, side: int, channels: int) -> float:
    """Multiply-adds for each pixel of an input of side×side pixels: convolutions, linear layers, attention."""
    img = torch.zeros(1, channels, side, side)
    # With gradients, because what inference fuses is not counted.
    with torch.enable_grad(), FlopCounterMode(display=False, custom_mapping=_UNCOUNTED) as counter:
        twin = copy.deepcopy(net).cpu().to(memory_format=torch.contiguous_format)
        padded(twin, window_of(twin))(img)
    return float(counter.get_total_flops()) / 2 / side**2


def _linear_flops(shape: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * prod(shape) * weight[0]


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


# Attention on the CPU: over the queries of `rnan_plugin.archs.attention`, over the keys before torch 2.15.
_UNCOUNTED = {
    operator: count
    for operator, count in (
        (getattr(torch.ops.mkldnn, "_linear_pointwise", None), _linear_flops),
        (getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None), _attention_flops),
    )
    if operator is not None
}


def evaluate_method(comparison: Comparison, item: Compared, root: str, images: Path) -> Evaluation:
    """Score a method on an image set, and keep what it restored as `images/SET/IMAGE/METHOD.png`.

    The ground truth lies beside it: grey, Y, or cut to a multiple of the scale, as the task needs.
    """

    def keep(name: str, restored: Image, gt: Image) -> None:
        folder = images / Path(root).stem / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, img in ((file_name(item.name), restored), (GROUND_TRUTH, gt)):
            with atomic_path(folder / f"{file}.png") as temporary:
                temporary.write_bytes(encode_png(img, level=3))

    return evaluate(item.methods[root], comparison.setting, root, name=item.name, describe=item.describe, keep=keep)


def timing_input(comparison: Comparison) -> Image:
    """The LQ image on which time and memory are measured: noise in a photograph's place costs the same."""
    side = comparison.timing_side * comparison.setting.degradation.scale
    channels = 3 if comparison.setting.task.channels == "rgb" else 1
    gt = np.random.default_rng(0).integers(0, 256, (side, side, channels), dtype=np.uint8)
    return comparison.setting.degradation(gt, np.random.default_rng(0)).astype(np.uint8, copy=False)
