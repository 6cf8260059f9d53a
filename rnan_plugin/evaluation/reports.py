"""Evaluations as a table on the screen, and as CSV, JSON and Markdown files, each with its protocol and the paper's."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from rnan_plugin.errors import one_line
from rnan_plugin.evaluation.comparison_file import Comparison
from rnan_plugin.evaluation.costs import Cost
from rnan_plugin.evaluation.evaluate import Evaluation, Score
from rnan_plugin.files import shortened, write_texts
from rnan_plugin.options.schema import flat
from rnan_plugin.paper.tables import OTHER_SSIM, Published, published_rows
from rnan_plugin.targets import is_file

Rows = Sequence[Sequence[str]]

# By the name of a score, its heading and how many digits a table shows.
METRICS = {"psnr": ("PSNR (dB)", 3), "ssim": ("SSIM", 4), "lpips": ("LPIPS", 4)}
_COLUMNS = {**METRICS, "seconds": ("seconds", 2)}


def measured(score: Score, names: Iterable[str] = METRICS) -> list[str]:
    """Which scores there are."""
    return [name for name in names if getattr(score, name) is not None]


def markdown_table(rows: Rows) -> str:
    """A table in Markdown; the first row has the headings. What would end a cell is escaped."""
    lines = ["| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def text_table(rows: Rows) -> str:
    """A table for the screen, its columns aligned."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_text(evaluation: Evaluation) -> str:
    """The table for the screen, the paper's rows below it."""
    heading = one_line(f"{evaluation.task}, {evaluation.image_set}: {evaluation.method}")
    return "\n".join([heading, "", text_table(list(_rows(evaluation))), "", *_own_paper_rows(evaluation)])


def as_markdown(evaluation: Evaluation) -> str:
    """The table and its protocol."""
    heading = one_line(f"# {evaluation.task}, {evaluation.image_set}: {evaluation.method}") + "\n"
    published = [f"- {line}" for line in _own_paper_rows(evaluation)]
    protocol = [f"- {key}: {value}" for key, value in flat(evaluation.protocol)]
    table = markdown_table(list(_rows(evaluation)))
    return "\n".join([heading, table, *published, "", "## Protocol", "", *protocol]) + "\n"


def as_csv(evaluation: Evaluation) -> str:
    """One line for each image, the protocol and the paper's rows in comment lines above."""
    text = io.StringIO()
    text.writelines(f"# {key}: {value}\n" for key, value in flat(evaluation.protocol))
    text.writelines(f"# {line.strip()}\n" for line in _own_paper_rows(evaluation))
    writer = csv.writer(text, lineterminator="\n")
    columns = measured(evaluation.mean, _COLUMNS)
    writer.writerow(["image", *columns])
    for name, row in [*evaluation.scores.items(), ("mean", evaluation.mean)]:
        writer.writerow([name, *(getattr(row, column) for column in columns)])
    return text.getvalue()


def as_json(evaluation: Evaluation) -> str:
    """Protocol, scores, means, and the paper's rows."""
    return json.dumps(
        {
            "protocol": evaluation.protocol,
            "mean": as_dict(evaluation.mean),
            "images": {name: as_dict(row) for name, row in evaluation.scores.items()},
            "published": [asdict(row) for row in _published(evaluation)],
            "published_notes": [line for line in _own_paper_rows(evaluation) if not line.startswith(" ")],
        },
        indent=1,
    )


def as_dict(score: Score) -> dict[str, float | None]:
    """A score for JSON, which has no infinity: the PSNR of equal images is None."""
    values = {key: value for key, value in asdict(score).items() if value is not None}
    return {key: value if math.isfinite(value) else None for key, value in values.items()}


def write_report(evaluation: Evaluation, folder: Path, *, replace: bool = False) -> list[Path]:
    """Write the three files, `METHOD_TASK_LEVEL_SET.csv` and so on; return their names.

    Files of that name that hold another method, policy or image set stay, unless `replace` is asked for: a number is
    added to the new one's. All three are written, or none.

    Raises:
        UserError: They can't be written.
    """
    task = evaluation.task
    seed = [f"seed{task.noise_seed}"] if task.noise_seed else []
    stem = "_".join([evaluation.method, *str(task).split(), *seed, evaluation.image_set]).replace("/", "_")
    stems = map(_fitting, _numbered(stem))
    stem = next(name for name in stems if replace or not _holds_another(folder / f"{name}.json", evaluation))
    contents = {"csv": as_csv(evaluation), "json": as_json(evaluation) + "\n", "md": as_markdown(evaluation)}
    files = {folder / f"{stem}.{ending}": text for ending, text in contents.items()}
    write_texts(files)
    return list(files)


def _fitting(stem: str) -> str:
    """Cut where a name with the longest of the endings would be too long."""
    return shortened(stem, ".json").removesuffix(".json")


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    yield from (f"{stem}_{number}" for number in count(2))


def _holds_another(file: Path, evaluation: Evaluation) -> bool:
    """Whether a JSON file there is of another protocol, or of none."""
    if not is_file(file):
        return False
    try:
        protocol = json.loads(file.read_text(encoding="utf-8"))["protocol"]
    except (OSError, ValueError, KeyError, TypeError):
        return True
    own = json.loads(json.dumps(evaluation.protocol))
    return any(protocol.get(key) != own[key] for key in own if key != "versions")


def _rows(evaluation: Evaluation) -> Iterator[list[str]]:
    columns = measured(evaluation.mean, _COLUMNS)
    yield ["image", *(_COLUMNS[column][0] for column in columns)]
    for name, row in [*evaluation.scores.items(), ("mean", evaluation.mean)]:
        yield [name, *(f"{getattr(row, column):.{_COLUMNS[column][1]}f}" for column in columns)]


def _published(evaluation: Evaluation) -> Sequence[Published]:
    return published_rows(evaluation.task.name, evaluation.task.level, evaluation.image_set)


def _own_paper_rows(evaluation: Evaluation) -> Iterator[str]:
    """The paper's rows; what was measured here stands apart from them, and says in what it differs."""
    if evaluation.set_problems:
        yield f"not the paper's {evaluation.image_set}: {'; '.join(evaluation.set_problems)}"
    reason = evaluation.settings.get("not_comparable_because")
    yield from paper_rows(evaluation, f"measured here: {reason}" if reason else "")


def paper_rows(evaluation: Evaluation, remark: str) -> Iterator[str]:
    """The paper's rows for an evaluation's task and image set, if it has any, below a heading with a remark."""
    rows = _published(evaluation)
    if rows:
        yield f"published on {evaluation.image_set}" + (f" ({remark})" if remark else "") + ":"
    for row in rows:
        ssim = f"  {row.ssim:.4f}" if row.ssim is not None else ""
        data = f", trained on {row.training_set}" if row.training_set else ""
        yield f"  {row.method}  {row.psnr:.2f}{ssim}  (Table {row.table}{data})"
    if any(row.other_ssim for row in rows):
        yield OTHER_SSIM


Results = dict[str, list[Evaluation]]


def _headings(comparison: Comparison) -> list[str]:
    """Names of the table's columns."""
    side = comparison.timing_side
    costs = ["method", "parameters", "multiply-adds / pixel", f"seconds ({side}×{side})", "peak memory (MiB)"]
    return costs + [
        f"{metric} {Path(root).stem}"
        for root in comparison.sets
        for metric in ("PSNR", "SSIM", *(["LPIPS"] if comparison.lpips else []))
    ]


def _cells(name: str, cost: Cost, evaluations: list[Evaluation]) -> list[str]:
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
        row += [] if evaluation.mean.lpips is None else [f"{evaluation.mean.lpips:.4f}"]
    return row


def write_comparison(comparison: Comparison, costs: dict[str, Cost], results: Results, folder: Path) -> list[list[str]]:
    """Write the table in three formats; return its rows, the headings first."""
    rows = [_headings(comparison), *(_cells(name, costs[name], results[name]) for name in results)]
    title = f"# {comparison.name}: {comparison.task}\n\n"
    markdown = title + markdown_table(rows) + "".join(f"\n- {line}" for line in comparison_paper_rows(results))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    content = {
        name: {"cost": asdict(costs[name]), "sets": [_scores(item) for item in items]}
        for name, items in results.items()
    }
    tables = {"md": markdown, "csv": text.getvalue(), "json": json.dumps(content, indent=1)}
    write_texts({folder / f"table.{ending}": written for ending, written in tables.items()})
    return rows


def comparison_paper_rows(results: Results) -> list[str]:
    """The paper's rows for each image set that it has."""
    remark = "what the methods here do not share with it is in their protocols"
    return [line for evaluation in next(iter(results.values())) for line in paper_rows(evaluation, remark)]


def _scores(evaluation: Evaluation) -> dict[str, Any]:
    images = {name: as_dict(score) for name, score in evaluation.scores.items()}
    return evaluation.protocol | {"mean": as_dict(evaluation.mean), "images_scores": images}
