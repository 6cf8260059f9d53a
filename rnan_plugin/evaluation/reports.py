"""Evaluations as a table on the screen, and as CSV, JSON and Markdown files, each with its protocol and the paper's."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from rnan_plugin.evaluation.evaluate import Evaluation, Score
from rnan_plugin.files import atomic_path
from rnan_plugin.paper.tables import OTHER_SSIM, Published, published_rows

Rows = Sequence[Sequence[str]]

HEADINGS = ("image", "PSNR (dB)", "SSIM", "seconds")


def markdown_table(rows: Rows) -> str:
    """A table in Markdown; the first row has the headings."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def text_table(rows: Rows) -> str:
    """A table for the screen, its columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_text(evaluation: Evaluation) -> str:
    """The table for the screen, the paper's rows below it."""
    heading = f"{evaluation.setting}, {evaluation.image_set}: {evaluation.method}"
    return "\n".join([heading, "", text_table([HEADINGS, *_rows(evaluation)]), "", *_published_lines(evaluation)])


def as_markdown(evaluation: Evaluation) -> str:
    """The table and its protocol."""
    heading = f"# {evaluation.setting}, {evaluation.image_set}: {evaluation.method}\n"
    published = [f"- {line}" for line in _published_lines(evaluation)]
    protocol = [f"- {key}: {value}" for key, value in _flat(evaluation.protocol)]
    table = markdown_table([HEADINGS, *_rows(evaluation)])
    return "\n".join([heading, table, *published, "", "## Protocol", "", *protocol]) + "\n"


def as_csv(evaluation: Evaluation) -> str:
    """One line for each image, the protocol and the paper's rows in comment lines above."""
    text = io.StringIO()
    text.writelines(f"# {key}: {value}\n" for key, value in _flat(evaluation.protocol))
    text.writelines(f"# {line.strip()}\n" for line in _published_lines(evaluation))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "psnr", "ssim", "seconds"])
    for name, row in [*evaluation.scores.items(), ("mean", evaluation.mean)]:
        writer.writerow([name, row.psnr, row.ssim, row.seconds])
    return text.getvalue()


def as_json(evaluation: Evaluation) -> str:
    """Protocol, scores, means, and the paper's rows."""
    return json.dumps(
        {
            "protocol": evaluation.protocol,
            "mean": as_dict(evaluation.mean),
            "images": {name: as_dict(row) for name, row in evaluation.scores.items()},
            "published": [asdict(row) for row in _published(evaluation)],
            "published_notes": [line for line in _published_lines(evaluation) if not line.startswith(" ")],
        },
        indent=1,
    )


def as_dict(score: Score) -> dict[str, float | None]:
    """A score for JSON, which has no infinity: the PSNR of equal images is None."""
    return {key: value if math.isfinite(value) else None for key, value in asdict(score).items()}


def write_report(evaluation: Evaluation, folder: Path, *, replace: bool = False) -> list[Path]:
    """Write the three files, `METHOD_TASK_LEVEL_SET.csv` and so on; return their names.

    Files of that name that hold another method, policy or image set stay, unless `replace` is asked for: a number is
    added to the new one's.
    """
    setting = evaluation.setting
    seed = [f"seed{setting.noise_seed}"] if setting.noise_seed else []
    stem = "_".join([evaluation.method, *str(setting).split(), *seed, evaluation.image_set]).replace("/", "_")
    folder.mkdir(parents=True, exist_ok=True)
    if not replace:
        stem = next(name for name in _numbered(stem) if not _holds_another(folder / f"{name}.json", evaluation))
    contents = {"csv": as_csv(evaluation), "json": as_json(evaluation) + "\n", "md": as_markdown(evaluation)}
    files = []
    for ending, text in contents.items():
        files.append(folder / f"{stem}.{ending}")
        with atomic_path(files[-1]) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return files


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    yield from (f"{stem}_{number}" for number in count(2))


def _holds_another(file: Path, evaluation: Evaluation) -> bool:
    """Whether a JSON file there is of another protocol, or of none."""
    if not file.exists():
        return False
    try:
        protocol = json.loads(file.read_text(encoding="utf-8"))["protocol"]
    except (ValueError, KeyError, TypeError):
        return True
    own = json.loads(json.dumps(evaluation.protocol))
    return any(protocol.get(key) != own[key] for key in own if key != "versions")


def _rows(evaluation: Evaluation) -> Iterator[tuple[str, str, str, str]]:
    for name, row in [*evaluation.scores.items(), ("mean", evaluation.mean)]:
        yield name, f"{row.psnr:.3f}", f"{row.ssim:.4f}", f"{row.seconds:.2f}"


def _published(evaluation: Evaluation) -> Sequence[Published]:
    return published_rows(evaluation.setting.name, evaluation.setting.level, evaluation.image_set)


def _published_lines(evaluation: Evaluation) -> Iterator[str]:
    """The paper's rows; what was measured here stands apart from them, and says in what it differs."""
    if evaluation.unlike_the_papers:
        yield f"not the paper's {evaluation.image_set}: {'; '.join(evaluation.unlike_the_papers)}"
    unlike = evaluation.settings.get("beside_the_paper")
    yield from published_lines(evaluation, f"measured here: {unlike}" if unlike else "")


def published_lines(evaluation: Evaluation, remark: str) -> Iterator[str]:
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


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
