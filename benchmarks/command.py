"""Time the whole command `rnan restore` on a photograph, in turn with another checkout of the project.

    git worktree add ../before 60b2bcb
    python benchmarks/command.py photo.jpg --against ../before

Prints the median seconds from start to end for one processor and for two, and the ratios to the other checkout's,
beside those of a Python that imports torch and nothing else: the least that any such command takes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

HERE = Path(__file__).parents[1]
IMPORT = [sys.executable, "-c", "import torch"]


def seconds(command: list[str], checkout: Path, cores: set[int]) -> float:
    """Wall time of a command that sees a checkout and some of the processors."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(len(cores))}
    start = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=partial(os.sched_setaffinity, 0, cores),
    )
    return time.perf_counter() - start


def restoring(photo: Path, arguments: list[str], folder: str) -> list[str]:
    """The command, which writes to a new folder."""
    target = tempfile.mkdtemp(dir=folder)
    return [sys.executable, "-m", "rnan_plugin", "restore", str(photo.resolve()), target, *arguments]


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--against", type=Path, help="another checkout of the project (default: none)")
    parser.add_argument("--task", nargs=2, default=["car", "10"], metavar=("TASK", "LEVEL"), help="(default: car 10)")
    parser.add_argument("--rounds", type=int, default=3, help="of which medians are taken (default: 3)")
    args = parser.parse_args()
    named = ["--task", args.task[0], "--level", args.task[1]]
    kinds = {"default": (HERE, named), "--precision auto": (HERE, [*named, "--precision", "auto"])}
    if args.against:
        kinds["other checkout"] = (args.against.resolve(), named)
    with tempfile.TemporaryDirectory() as folder:
        there = sorted(os.sched_getaffinity(0))
        for cores in [set(there[:count]) for count in (1, 2) if count <= len(there)]:
            times: dict[str, list[float]] = {name: [] for name in ("import torch", *kinds)}
            for _ in range(args.rounds):
                times["import torch"].append(seconds(IMPORT, HERE, cores))
                for name, (checkout, arguments) in kinds.items():
                    times[name].append(seconds(restoring(args.photo, arguments, folder), checkout, cores))
            medians = {name: median(values) for name, values in times.items()}
            for name, value in medians.items():
                ratio = f", {value / medians['other checkout']:.3f} of the other's" if args.against else ""
                print(f"{len(cores)} processor(s), {name}: {value:.2f} s{ratio}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
