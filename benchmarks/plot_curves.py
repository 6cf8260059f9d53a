"""Plot what `benchmarks/inference.py --curves FILE` measured: time, time per pixel, and memory against pixels.

python benchmarks/plot_curves.py docs/performance_curves.json docs/performance_curves.png
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

PANELS = (
    ("seconds", lambda point: point["seconds"]),
    ("microseconds per pixel", lambda point: 1e6 * point["seconds"] / point["side"] ** 2),
    ("MiB above the idle process", lambda point: point["bytes"] / 2**20),
)


def draw(axes: Axes, title: str, curves: dict[str, list[dict[str, float]]], value: Any) -> None:
    """One panel: a line for each policy, both axes logarithmic."""
    for name, points in curves.items():
        style = "k--" if name == "baseline" else "o-"
        axes.plot([point["side"] ** 2 for point in points], [value(point) for point in points], style, label=name, ms=4)
    sides = sorted({int(point["side"]) for points in curves.values() for point in points})
    axes.set(title=title, xlabel="pixels", xscale="log", yscale="log")
    axes.set_xticks([side**2 for side in sides], [f"{side}²" for side in sides])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("curves", type=Path, help="JSON of benchmarks/inference.py --curves")
    parser.add_argument("figure", type=Path, help="PNG, SVG or PDF to write")
    args = parser.parse_args()
    curves = json.loads(args.curves.read_text(encoding="utf-8"))
    figure, panels = plt.subplots(1, len(PANELS), figsize=(15, 4.5), layout="constrained")
    for axes, (title, value) in zip(panels, PANELS, strict=True):
        draw(axes, title, curves, value)
    panels[0].legend(fontsize=8)
    figure.savefig(args.figure, dpi=110)
    return 0


if __name__ == "__main__":
    sys.exit(main())
