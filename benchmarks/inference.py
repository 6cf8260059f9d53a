"""Time and memory of attention and of whole-image restoration against the released formulation, in one run.

    python benchmarks/inference.py                  # a few minutes on 2 cores; prints ratios
    python benchmarks/inference.py --json FILE      # and writes them

Speed-ups and the share of the convolution's rate are medians over pairs measured in turn, so that a drifting machine
harms them little. Memory is the peak of a process above its idle state, each in a process of its own. The baseline is
the formulation of the release, written here for this purpose only: the N×N matrix, its softmax, a product, and
recursive halving below 10 000 pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast, get_args
from unittest import mock

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rnan_plugin.archs import fused, non_local
from rnan_plugin.archs.attention import SoftmaxOver, non_local_attention
from rnan_plugin.archs.rnan_arch import RELEASED, RNAN
from rnan_plugin.choices import PolicyName
from rnan_plugin.device import PeakMemory
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.whole_images import restore

Run = Callable[[], object]

SIZE = 256  # side of the image that is restored
EMBED = 32  # channels of the attention (Fig. 3)
OURS = Policy("tile", 96, 8)


def all_pairs_attention(query: Tensor, key: Tensor, value: Tensor, softmax_over: SoftmaxOver) -> Tensor:
    """The baseline: Eq. 3–5 with the N×N matrix."""
    return torch.softmax(query @ key.transpose(1, 2), dim=2 if softmax_over == "keys" else 1) @ value


@contextmanager
def released_formulation() -> Iterator[None]:
    """Let the non-local blocks make the matrix of all pairs, and convolution, ReLU and sum be passes of their own."""
    with (
        mock.patch.object(non_local, "non_local_attention", all_pairs_attention),
        mock.patch.object(fused, "_AVAILABLE", new=False),
    ):
        yield


def seconds(run: Run) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def speedup(baseline: Run, ours: Run, pairs: int) -> float:
    """Median over pairs, measured in turn after one warm-up each, of baseline time / our time."""
    baseline(), ours()
    return statistics.median(seconds(baseline) / seconds(ours) for _ in range(pairs))


def network(**changes: object) -> RNAN:
    """The full network with the released settings: 10 blocks, 64 features."""
    torch.manual_seed(0)
    return RNAN(**{**RELEASED, **changes}).eval()


def run_released(net: RNAN, img: Tensor) -> Run:
    """The baseline for restoring: all pairs, halving, contiguous."""

    def run() -> object:
        with released_formulation():
            return restore(net, img, Policy("release"))

    return run


def run_policy(net: RNAN, img: Tensor, policy: Policy) -> Run:
    """Ours, channels-last."""
    net, img = net.to(memory_format=torch.channels_last), img.contiguous(memory_format=torch.channels_last)
    return lambda: restore(net, img, policy)


def embeddings(side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of side² positions."""
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, side * side, EMBED)
    return query, key, value


@torch.inference_mode()
def attention_ratios() -> dict[str, float]:
    """Attention alone at 128×128 positions: speed-ups, and the share of the floor's speed that is reached."""
    args = embeddings(128)
    positions = args[0].shape[1]
    floor = 4 * positions**2 * EMBED / matrix_rate() + positions**2 / exponential_rate()
    ratios = {"attention_floor_seconds": floor}
    for over in get_args(SoftmaxOver):
        baseline, ours = partial(all_pairs_attention, *args, over), partial(non_local_attention, *args, over)
        ratios[f"attention_speedup_{over}"] = speedup(baseline, ours, 5)
        ratios[f"attention_floor_fraction_{over}"] = floor / min(seconds(ours) for _ in range(3))
    return ratios


def matrix_rate() -> float:
    """Operations a second of a 2048×2048 matrix product."""
    matrix = torch.randn(2048, 2048)
    return 2 * 2048**3 / min(seconds(lambda: matrix @ matrix) for _ in range(5))


def exponential_rate() -> float:
    """Exponentials a second, in cache."""
    values, out = torch.randn(2**18), torch.empty(2**18)

    def run() -> None:
        for _ in range(64):
            torch.exp(values, out=out)

    return 64 * 2**18 / min(seconds(run) for _ in range(5))


def repeat(module: torch.nn.Module, data: Tensor, count: int) -> None:
    """Apply a module `count` times."""
    for _ in range(count):
        module(data)


@torch.inference_mode()
def convolution_ratios() -> dict[str, float]:
    """GFLOP/s of the network without attention, against a bare 3×3 convolution of 64 channels and a matrix product."""
    last = torch.channels_last
    net = network(non_local=False).to(memory_format=last)
    img = torch.rand(1, 3, OURS.tile, OURS.tile).contiguous(memory_format=last)
    conv = torch.nn.Conv2d(64, 64, 3, padding=1).to(memory_format=last)
    feat = torch.rand(1, 64, OURS.tile, OURS.tile).contiguous(memory_format=last)
    runs, works = [], []
    for module, data, repeats in ((net, img, 1), (conv, feat, 50)):
        # The counter does not know the fused operators.
        with mock.patch.object(fused, "_AVAILABLE", new=False), FlopCounterMode(display=False) as counter:
            module(data)
        works.append(counter.get_total_flops() * repeats)
        runs.append(partial(repeat, module, data, repeats))
        runs[-1]()
    rates = [[work / seconds(run) / 1e9 for run, work in zip(runs, works, strict=True)] for _ in range(9)]
    return {
        "network_gflops": statistics.median(ours for ours, _ in rates),
        "convolution_gflops": statistics.median(bare for _, bare in rates),
        "matrix_gflops": matrix_rate() / 1e9,
        "convolution_rate_fraction": statistics.median(ours / bare for ours, bare in rates),
    }


def restore_ratios() -> dict[str, float]:
    """A 256×256 image through the full network: speed-ups against the baseline with its halving."""
    net, img = network(), torch.rand(1, 3, SIZE, SIZE)
    baseline = run_released(network(), img)
    return {
        "restore_speedup": speedup(baseline, run_policy(net, img, OURS), 5),
        "whole_speedup": speedup(baseline, run_policy(net, img, Policy("whole")), 5),
    }


def peak_above_idle(kind: str, side: int) -> tuple[int, float]:
    """Peak memory in bytes and time in seconds of one run in this process, after a small warm-up."""
    run, small = job(kind, side), job(kind, 16)
    small()
    with PeakMemory(torch.device("cpu")) as memory:
        duration = seconds(run)
    assert memory.bytes is not None, "the peak is measured on Linux alone"
    return memory.bytes, duration


def job(kind: str, side: int) -> Run:
    """What a process of its own measures: attention by its normalisation, or restoring by a policy."""
    if kind in get_args(SoftmaxOver):
        return partial(non_local_attention, *embeddings(side), cast("SoftmaxOver", kind))
    img = torch.rand(1, 3, side, side) if kind != "wide" else torch.rand(1, 3, side * 2 // 3, side)
    if kind == "baseline":
        return run_released(network(), img)
    policies = {name: Policy(name) for name in get_args(PolicyName)} | {
        "wide": Policy("whole"),
        "ours": OURS,
        "ensemble": replace(OURS, self_ensemble=True),
    }
    return run_policy(network(), img, policies.get(kind) or Policy("tile", int(kind), int(kind) // 8))


def in_process(kind: str, side: int, threads: int | None = None) -> tuple[int, float]:
    """Measure `peak_above_idle` in a new process, of all threads or so many."""
    command = [sys.executable, __file__, "--measure", kind, str(side)]
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    peak, duration = done.stdout.split()[-2:]
    return int(peak), float(duration)


def memory_ratios() -> dict[str, float]:
    """Slope of the attention's memory over positions, by least squares, and the ratio of peaks for a 256×256 image."""
    slopes = {over: memory_slope(over) for over in get_args(SoftmaxOver)}
    ours, ensemble, baseline = (in_process(kind, SIZE)[0] for kind in ("ours", "ensemble", "baseline"))
    print(f"  restoring {SIZE}×{SIZE}: ours {ours / 2**20:.0f} MiB, baseline {baseline / 2**20:.0f} MiB")
    return {
        "attention_memory_bytes_per_position": max(slopes.values()),
        **{f"attention_memory_bytes_per_position_{over}": slope for over, slope in slopes.items()},
        "restore_memory_ratio": ours / baseline,
        "self_ensemble_memory_ratio": ensemble / ours,
    }


def memory_slope(over: SoftmaxOver) -> float:
    """Bytes per position, from 64² to 512² positions."""
    sides = (64, 128, 256, 512)
    peaks = [in_process(over, side)[0] for side in sides]
    print("  " + ", ".join(f"{side}²: {peak / 2**20:.1f} MiB" for side, peak in zip(sides, peaks, strict=True)))
    return statistics.linear_regression([side**2 for side in sides], peaks).slope


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the ratios to this file")
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "SIDE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(*peak_above_idle(args.measure[0], int(args.measure[1])))
        return 0
    results: dict[str, float] = {}
    for part in (attention_ratios, convolution_ratios, restore_ratios, memory_ratios):
        measured = part()
        results |= measured
        for key, value in measured.items():
            print(f"{key:40} {value:10.3f}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
