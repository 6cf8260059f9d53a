"""Time and memory of a training step against the released formulation, in one run.

    python benchmarks/train.py                # full network and 1+1 blocks; some minutes on 2 cores
    python benchmarks/train.py --json FILE    # and write the ratios

A step is 16 patches of 48×48: forward, loss, backward, Adam. Each way of computing it is measured in processes of its
own, in turn with the others; times are medians, memory is the peak above the idle process. The baseline is the
formulation of the release, written in benchmarks/inference.py for this purpose only: N×N attention matrix, float32,
contiguous.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from inference import matrix_rate, released_formulation, seconds
from torch.utils.flop_counter import FlopCounterMode

import rnan_plugin.training.connect  # noqa: F401 - the toolbox has to know RNAN
from rnan_plugin.archs.rnan_arch import RELEASED, RNAN
from rnan_plugin.device import PeakMemory
from rnan_plugin.evaluation.costs import UNCOUNTED
from rnan_plugin.training.model import RestorationModel

BATCH, PATCH = 16, 48
NETWORKS = {"full": {"num_rab": 8, "num_rnab": 2}, "1+1": {"num_rab": 1, "num_rnab": 1}}
FUSED_ADAM = {"optim_g": {"type": "Adam", "lr": 1e-4, "fused": True}}
WAYS: dict[str, dict[str, Any]] = {
    "released": {},
    "plain": {},
    "fused Adam": FUSED_ADAM,
    "bfloat16": {"precision": "bfloat16"},
    "accumulate 4": {"accumulate": 4},
    "checkpoint_blocks": {"checkpoint_blocks": True},
    "compile": {"compile": True},
    "accumulate 4, fused Adam": {**FUSED_ADAM, "accumulate": 4},
    "accumulate 16, fused Adam": {**FUSED_ADAM, "accumulate": 16},
}
BEST = "accumulate 4, fused Adam"  # on a CPU, in float32


def model_of(network: str, way: str, device: str = "cpu") -> RestorationModel:
    """The model class with the options of a way."""
    train = {
        "optim_g": {"type": "Adam", "lr": 1e-4},
        "scheduler": {"type": "MultiStepLR", "milestones": [10**6]},
        "pixel_opt": {"type": "MSELoss", "loss_weight": 1.0, "reduction": "mean"},
    }
    arch = {"type": "RNAN", **RELEASED, **NETWORKS[network]}
    opt = {"name": "x", "num_gpu": 0, "dist": False, "rank": 0, "world_size": 1, "is_train": True, "path": {}}
    opt["device"] = device
    torch.manual_seed(0)
    return RestorationModel({**opt, "network_g": arch, "train": {**train, **WAYS[way]}, "val": {}})


def measure(network: str, way: str) -> None:
    """Print seconds of a step and peak memory above the idle process, in this process."""
    model = model_of(network, way)
    if way == "released":
        model.net_g.to(memory_format=torch.contiguous_format)
    data = {"lq": torch.rand(BATCH, 3, PATCH, PATCH), "gt": torch.rand(BATCH, 3, PATCH, PATCH)}
    times = []
    way_to_attend = released_formulation() if way == "released" else nullcontext()
    with PeakMemory(torch.device("cpu")) as memory, way_to_attend:
        for iteration in range(1, 5):
            start = time.perf_counter()
            model.feed_data(data)
            model.optimize_parameters(iteration)
            times.append(time.perf_counter() - start)
    print(min(times[1:]), memory.bytes)


def in_process(network: str, way: str) -> tuple[float, int]:
    """Measure in a new process; infinite where a way can't be had here."""
    command = [sys.executable, __file__, "--measure", network, way]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        print(f"  {network}, {way}: {done.stderr.strip().splitlines()[-1]}")
        return float("inf"), 0
    duration, peak = done.stdout.split()[-2:]
    return float(duration), int(peak)


def convolution_fraction(step: float, network: str) -> dict[str, float]:
    """Rate of a step in multiples of the rate of a bare 3×3 convolution of 64 channels, forward and backward."""
    net = RNAN(**{**RELEASED, **NETWORKS[network]})
    conv = torch.nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    feat = torch.rand(BATCH, 64, PATCH, PATCH).contiguous(memory_format=torch.channels_last).requires_grad_()
    rates = []
    for module, data in ((net, torch.rand(1, 3, PATCH, PATCH)), (conv, feat)):
        with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
            module(data).sum().backward()
        rates.append(float(counter.get_total_flops()))
    work, bare = rates[0] * BATCH, rates[1]

    def run() -> None:
        conv(feat).sum().backward()

    run()
    bare_rate = bare / min(seconds(run) for _ in range(9))
    return {
        "step_gflops": work / step / 1e9,
        "convolution_gflops": bare_rate / 1e9,
        "matrix_gflops": matrix_rate() / 1e9,
        "convolution_rate_fraction": work / step / bare_rate,
    }


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the ratios to this file")
    parser.add_argument("--rounds", type=int, default=3, help="times that each way is measured (default: 3)")
    parser.add_argument("--measure", nargs=2, metavar=("NETWORK", "WAY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure)
        return 0
    results: dict[str, Any] = {}
    for network in NETWORKS:
        rounds = [{way: in_process(network, way) for way in WAYS} for _ in range(args.rounds)]
        table = {}
        for way in WAYS:
            speedup = statistics.median(row["released"][0] / row[way][0] for row in rounds)
            ratio = statistics.median(row[way][1] / row["released"][1] for row in rounds)
            duration = statistics.median(row[way][0] for row in rounds)
            table[way] = {"seconds": duration, "speedup": speedup, "memory_ratio": ratio}
            print(
                f"{network:5} {way:28} {duration:7.2f} s  {speedup:5.2f} times as fast  memory {ratio:5.2f}", flush=True
            )
        rates = convolution_fraction(table[BEST]["seconds"], network)
        print(f"{network:5}", *(f"{key} {value:.3g} " for key, value in rates.items()))
        results[network] = {"ways": table, **rates}
    full = results["full"]
    results |= {"step_speedup": full["ways"][BEST]["speedup"], "step_memory_ratio": full["ways"][BEST]["memory_ratio"]}
    results["convolution_rate_fraction"] = full["convolution_rate_fraction"]
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
