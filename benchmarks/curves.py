"""Cost of restoring against pixels and threads: measures it, and draws four panels.

    python benchmarks/curves.py docs/performance_curves              # writes .json and .png; minutes
    python benchmarks/curves.py docs/performance_curves --draw-only  # draws what the .json holds

The full network with the released settings on square images, by the policies that matter, beside the release's
formulation (see `benchmarks/inference.py`); each time and peak in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from inference import in_process
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Point = Mapping[str, float]
Curves = Mapping[str, list[Point]]

SIDES = (64, 96, 128, 192, 256, 384)
THREADS_SIDE = 256  # of the image that different numbers of threads restore
BASELINE = "baseline"
# What each is called at the end of its line, and its colour.
LINES = {
    BASELINE: ("release's formulation", "black"),
    "whole": ("whole", "tab:blue"),
    "128": ("tiles of 128", "tab:orange"),
    "auto": ("auto: tiles of 64", "tab:green"),
}


def measured() -> dict[str, Any]:
    """Seconds and bytes above the idle process for each policy and side, and seconds for each number of threads."""
    policies: dict[str, list[Point]] = {}
    for kind in LINES:
        for side in SIDES:
            peak, seconds = in_process(kind, side)
            policies.setdefault(kind, []).append({"side": side, "seconds": seconds, "bytes": peak})
            print(f"{kind:10} {side}×{side}: {seconds:7.2f} s, {peak / 2**20:6.0f} MiB", flush=True)
    threads = []
    for count in range(1, (os.cpu_count() or 1) + 1):
        seconds = in_process("auto", THREADS_SIDE, threads=count)[1]
        threads.append({"threads": count, "seconds": seconds})
        print(f"auto       {THREADS_SIDE}×{THREADS_SIDE}, {count} thread(s): {seconds:7.2f} s", flush=True)
    return {"policies": policies, "threads": threads}


def draw_policies(axes: Axes, title: str, policies: Curves, value: Callable[[Point, Point], float]) -> None:
    """A panel with a line for each policy, its name at its end; `value` is of a point and the baseline's there."""
    ends = {}
    for kind, points in policies.items():
        label, colour = LINES[kind]
        values = [value(point, base) for point, base in zip(points, policies[BASELINE], strict=True)]
        style = "--" if kind == BASELINE else "o-"
        axes.plot([point["side"] ** 2 for point in points], values, style, color=colour, markersize=4)
        ends[label] = (values[-1], colour)
    axes.set(ylabel=title, xlabel="pixels of the image", xscale="log", yscale="log")
    axes.set_xticks([side**2 for side in SIDES], [f"{side}²" for side in SIDES])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    ticks = [step * 10**power for power in range(-2, 5) for step in (1, 2, 5) if low <= step * 10**power <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    _name_ends(axes, SIDES[-1] ** 2 * 1.1, ends)
    axes.set_xlim(right=SIDES[-1] ** 2 * 9)  # room for the names


def _name_ends(axes: Axes, right: float, ends: Mapping[str, tuple[float, str]]) -> None:
    """Names beside the lines' ends, in their order, moved apart where they would touch (on a logarithmic axis)."""
    low, high = axes.get_ylim()
    apart, above = (high / low) ** 0.06, 0.0
    for label, (value, colour) in sorted(ends.items(), key=lambda end: end[1][0]):
        above = max(value, above * apart)
        axes.text(right, above, label, color=colour, va="center", fontsize=9)


def draw_threads(axes: Axes, points: list[Point]) -> None:
    """Pixels a second against threads, beside what as many single ones would do."""
    pixels = [THREADS_SIDE**2 / point["seconds"] / 1000 for point in points]
    counts = [point["threads"] for point in points]
    ideal = [pixels[0] * count for count in counts]
    axes.plot(counts, ideal, "--", color="grey")
    axes.plot(counts, pixels, "o-", color=LINES["auto"][1], markersize=4)
    for name, values, colour in (("as many single threads", ideal, "grey"), ("auto", pixels, LINES["auto"][1])):
        lift = 8 if values is ideal else -14
        axes.annotate(name, (counts[-1], values[-1]), (-4, lift), textcoords="offset points", color=colour, ha="right")
    axes.set(ylabel="thousand pixels a second", xlabel="threads", xticks=counts, ylim=(0, 1.25 * ideal[-1]))


def draw(data: Mapping[str, Any], picture: Path) -> None:
    """All panels."""
    figure, panels = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    policies: Curves = data["policies"]
    draw_policies(panels[0, 0], "seconds", policies, lambda point, _: point["seconds"])
    draw_policies(
        panels[0, 1], "times as fast as the release's formulation", policies, lambda p, b: b["seconds"] / p["seconds"]
    )
    draw_policies(panels[1, 0], "MiB above the idle process", policies, lambda point, _: point["bytes"] / 2**20)
    draw_threads(panels[1, 1], data["threads"])
    for axes in panels.flat:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=110)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="of the .json and the .png, without ending")
    parser.add_argument("--draw-only", action="store_true", help="measure nothing, draw what the .json holds")
    args = parser.parse_args()
    numbers = args.out.with_suffix(".json")
    if not args.draw_only:
        numbers.write_text(json.dumps(measured(), indent=1) + "\n", encoding="utf-8")
    draw(json.loads(numbers.read_text(encoding="utf-8")), args.out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
