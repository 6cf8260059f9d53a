"""One HTML file of a comparison that opens from disk without a network: table, scores, images to look into."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from rnan_plugin.evaluation.comparison_file import GROUND_TRUTH, Comparison, file_name
from rnan_plugin.evaluation.differences import IN_SHORT, Difference, difference_rows
from rnan_plugin.evaluation.evaluate import Evaluation
from rnan_plugin.evaluation.reports import METRICS, measured
from rnan_plugin.files import write_texts
from rnan_plugin.images.degradations import Image
from rnan_plugin.images.eight_bit import decode_image
from rnan_plugin.training.curves import training_curves

# The file holds its images: more of them and no browser opens it with pleasure.
_IMAGES_OF_A_SET = 6


def write_html(
    comparison: Comparison,
    rows: list[list[str]],
    results: dict[str, list[Evaluation]],
    found: Sequence[Difference],
    folder: Path,
) -> Path:
    """Write `report.html` into the folder of a comparison, from its table, scores and restored images.

    Args:
        comparison: What was compared.
        rows: The table, its headings first.
        results: Evaluations by method, in the order of the comparison's sets.
        found: Differences of the methods.
        folder: Holds `images/SET/IMAGE/METHOD.png` of each method.
    """
    content = {
        "title": f"{comparison.name}: {comparison.task}",
        "table": rows,
        "sets": [_image_set(comparison, index, results, folder) for index in range(len(comparison.sets))],
        "differences": [difference_rows(found, item.image_set) for item in next(iter(results.values()))],
        "differences_in_short": IN_SHORT,
        "metrics": [METRICS[metric][0] for metric in measured(next(iter(results.values()))[0].mean)],
        "training": _training(comparison),
        "protocol": {name: [item.protocol for item in items] for name, items in results.items()},
    }
    # "</" would end the script element early.
    data = json.dumps(content).replace("</", "<\\/")
    template = (files("rnan_plugin.evaluation") / "html_report.html").read_text(encoding="utf-8")
    file = folder / "report.html"
    write_texts({file: template.replace('"THE CONTENT"', data)})
    return file


def _training(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """By metric and method: the curves of the methods whose section names the log of their training."""
    curves: dict[str, dict[str, Any]] = {}
    for method, source in comparison.methods.items():
        if source.training:
            for metric, curve in training_curves(Path(source.training)).items():
                curves.setdefault(metric, {})[method] = asdict(curve)
    return curves


def _image_set(
    comparison: Comparison, index: int, results: dict[str, list[Evaluation]], folder: Path
) -> dict[str, Any]:
    set_name = Path(comparison.sets[index]).stem
    names = list(next(iter(results.values()))[index].scores)[:_IMAGES_OF_A_SET]
    shown = {}
    for name in names:
        codes = {
            method: (folder / "images" / set_name / name / f"{file_name(method)}.png").read_bytes()
            for method in [GROUND_TRUTH, *results]
        }
        shown[name] = {
            "size": _size(decode_image(codes[GROUND_TRUTH], name)),
            "pictures": {method: {"png": _uri(code)} for method, code in codes.items()},
        }
    scores = {
        method: {name: [getattr(row, metric) for metric in measured(row)] for name, row in items[index].scores.items()}
        for method, items in results.items()
    }
    return {"name": set_name, "images": shown, "scores": scores}


def _size(img: Image) -> list[int]:
    return [img.shape[1], img.shape[0]]


def _uri(code: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(code).decode('ascii')}"
