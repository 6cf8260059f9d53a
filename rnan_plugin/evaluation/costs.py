"""What methods cost: parameters, multiply-adds, time, memory, measured in turn in one run."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rnan_plugin import device as devices
from rnan_plugin.archs.windows import windowed
from rnan_plugin.device import PeakMemory
from rnan_plugin.evaluation.methods import Method
from rnan_plugin.images.degradations import Image
from rnan_plugin.inference.network_facts import size_multiple_of
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.whole_images import padded
from rnan_plugin.paper.tasks import TaskAtLevel

_REPEATS, _MEMORY_REPEATS = 5, 3


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


def measure_costs(methods: Sequence[Method], lq: Image, policy: Policy) -> dict[str, Cost]:
    """Time and memory of all methods in one run, in turn with each other, after one warm-up each; none for files."""
    device = devices.choose()
    timed = {method.name: method.restore for method in methods if method.computes}
    times: dict[str, list[float]] = {name: [] for name in timed}
    peaks: dict[str, list[int]] = {name: [] for name in timed}
    for restore in timed.values():
        restore(lq, "warm-up")
    for _ in range(_REPEATS):
        for name, restore in timed.items():
            start = time.perf_counter()
            restore(lq, "timing")
            times[name].append(time.perf_counter() - start)
    for _ in range(_MEMORY_REPEATS):  # apart from the times, since it empties the allocator's store
        for name, restore in timed.items():
            with PeakMemory(device) as memory:
                restore(lq, "memory")
            peaks[name] += [memory.bytes] if memory.bytes is not None else []
    # What a network computes for a pixel depends on the size of the part that it sees at once.
    tiles = policy.name == "tile"
    side, window = (policy.tile, policy.window) if tiles else (max(lq.shape[:2]), None)
    costs = {}
    for method in methods:
        method.facts()  # the policies of these images are not those of the scores
        seconds = median(times[method.name]) if method.name in timed else None
        peak = int(median(peaks[method.name])) if peaks.get(method.name) else None
        if method.net is None:
            # On a GPU's machine the peak is the GPU's, which these methods do not use.
            costs[method.name] = Cost(seconds=seconds, peak_bytes=peak if device.type == "cpu" else None)
        else:
            parameters = sum(weight.numel() for weight in method.net.parameters())
            products = method.passes * multiply_adds(method.net, side, lq.shape[2], window)
            costs[method.name] = Cost(parameters, products, seconds, peak)
    return costs


def multiply_adds(net: nn.Module, side: int, channels: int, window: int | None = None) -> float:
    """Multiply-adds for each pixel of an input of side×side pixels: convolutions, linear layers, attention.

    Attention is counted over all of the input, or within windows of a side.
    """
    img = torch.zeros(1, channels, side, side)
    # With gradients, because what inference fuses is not counted.
    with torch.enable_grad(), FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        twin = copy.deepcopy(net).cpu().to(memory_format=torch.contiguous_format)
        windowed(padded(twin, size_multiple_of(twin)), window)(img)
    return float(counter.get_total_flops()) / 2 / side**2


def _linear_flops(shape: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * prod(shape) * weight[0]


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


# What torch's `FlopCounterMode` doesn't know, for its `custom_mapping`: attention on the CPU.
UNCOUNTED = {
    operator: count
    for operator, count in (
        (getattr(torch.ops.mkldnn, "_linear_pointwise", None), _linear_flops),
        (getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None), _attention_flops),
    )
    if operator is not None
}


def timing_input(task: TaskAtLevel, timing_side: int) -> Image:
    """The LQ image on which time and memory are measured: noise in a photograph's place costs the same."""
    side = timing_side * task.scale
    channels = task.row.num_channel
    gt = np.random.default_rng(0).integers(0, 256, (side, side, channels), dtype=np.uint8)
    return task.degradation(gt, np.random.default_rng(0)).astype(np.uint8, copy=False)
