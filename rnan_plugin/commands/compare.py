"""Compare methods on the same inputs: parameters, multiply-adds, time, memory, PSNR, SSIM in one table.

    python scripts/compare.py comparison.yml

with a file such as

    task: car
    level: 10
    sets: [datasets/Classic5]
    methods:
      JPEG: {type: input}
      RNAN, small: {type: shipped}
      RNAN, small +: {type: shipped, self_ensemble: true}
      SwinIR: {type: network, opt: options/compare/train_SwinIR_CAR_q10.yml, weights: net_g_latest.pth}
      other: {type: files, files: results/other_program}

writes the table (CSV, JSON, Markdown), scores of each method, restored images and report.html below
results/comparison/NAME. Types: network (any of the toolbox), released (RNAN's published weights), shipped (the weights
in the package), files, and the classical methods of rnan_plugin/classical.py.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rnan_plugin.evaluation.costs import Cost, measure_costs, timing_input
from rnan_plugin.evaluation.comparison import build_method, evaluate_method
from rnan_plugin.evaluation.comparison_file import Comparison, read_comparison
from rnan_plugin.errors import exit_status
from rnan_plugin.evaluation.evaluate import Evaluation
from rnan_plugin.files import atomic_path
from rnan_plugin.evaluation.html_report import write_html
from rnan_plugin.evaluation.reports import as_dict, markdown_table, published_lines, text_table, write_report

Results = dict[str, list[Evaluation]]


def headings(comparison: Comparison) -> list[str]:
    """Names of the table's columns."""
    side = comparison.timing_side
    costs = ["method", "parameters", "multiply-adds / pixel", f"seconds ({side}×{side})", "peak memory (MiB)"]
    return costs + [f"{metric} {Path(root).stem}" for root in comparison.sets for metric in ("PSNR", "SSIM")]


def cells(name: str, cost: Cost, evaluations: list[Evaluation]) -> list[str]:
    """A row of the table."""
    none = "–"
    row = [
        name,
        f"{cost.parameters:,}" if cost.parameters is not None else none,
        f"{cost.multiply_adds:,.0f}" if cost.multiply_adds is not None else none,
        f"{cost.seconds:.3f}" if cost.seconds is not None else none,
        f"{cost.peak_bytes / 2**20:.0f}" if cost.peak_bytes is not None else none,
    ]
    for evaluation in evaluations:
        row += [f"{evaluation.mean.psnr:.2f}", f"{evaluation.mean.ssim:.4f}"]
    return row


def write_tables(comparison: Comparison, costs: dict[str, Cost], results: Results, folder: Path) -> list[list[str]]:
    """Write the table in three formats; return its rows, the headings first."""
    rows = [headings(comparison), *(cells(name, costs[name], results[name]) for name in results)]
    title = f"# {comparison.name}: {comparison.setting}\n\n"
    markdown = title + markdown_table(rows) + "".join(f"\n- {line}" for line in published(results))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    content = {
        name: {"cost": asdict(costs[name]), "sets": [_scores(item) for item in items]}
        for name, items in results.items()
    }
    for file, written in (
        ("table.md", markdown),
        ("table.csv", text.getvalue()),
        ("table.json", json.dumps(content, indent=1)),
    ):
        with atomic_path(folder / file) as temporary:
            temporary.write_text(written, encoding="utf-8")
    return rows


def published(results: Results) -> list[str]:
    """The paper's rows for each image set that it has."""
    remark = "what the methods here do not share with it is in their protocols"
    return [line for evaluation in next(iter(results.values())) for line in published_lines(evaluation, remark)]


def _scores(evaluation: Evaluation) -> dict[str, Any]:
    images = {name: as_dict(score) for name, score in evaluation.scores.items()}
    return evaluation.protocol | {"mean": as_dict(evaluation.mean), "images_scores": images}


def compare(path: str, out: Path) -> None:
    """Run a comparison file."""
    comparison = read_comparison(path)
    folder = out / comparison.name
    folder.mkdir(parents=True, exist_ok=True)
    items = [build_method(comparison, name) for name in comparison.methods]
    costs = measure_costs(items, timing_input(comparison), comparison.policy)
    results: Results = {}
    for item in items:
        results[item.name] = []
        for root in comparison.sets:
            results[item.name].append(evaluate_method(comparison, item, root, folder / "images"))
            write_report(results[item.name][-1], folder / "scores", replace=True)
    rows = write_tables(comparison, costs, results, folder)
    print(text_table(rows), *published(results), sep="\n")
    print(f"-> {write_html(comparison, rows, results, folder)}")


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("comparison", help="comparison file, see above")
    parser.add_argument("--out", type=Path, default=Path("results/comparison"), help="default: results/comparison")
    args = parser.parse_args()
    compare(args.comparison, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
