"""The tables of what the package's networks reach and took, from docs/small_models.json, in README and documentation.

    python tools/results_table.py            # write them
    python tools/results_table.py --check    # status 1 where a page is out of date

`python tools/small_models.py measure` measures the numbers; the paper's are those of `rnan_plugin.paper.tables`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from model_cards import NUMBERS, REPOSITORY

from rnan_plugin.inference.shipped import training_spent
from rnan_plugin.paper.tables import Published, published_rows
from rnan_plugin.paper.tasks import TASKS, TaskAtLevel

PAGES = [REPOSITORY / name for name in ("README.md", "docs/results.md", "docs/training_small.md")]
# A table's place in a page: the comment that names it, whatever stands there now, the comment that ends it.
PLACE = re.compile(r"(<!-- table (\w+), by tools/results_table.py -->\n).*?(<!-- end of table -->)", re.DOTALL)

Numbers = Mapping[str, Any]


def scores(measured: Iterable[Numbers]) -> str:
    """What the networks for one level reach, in Markdown."""
    head = (
        "| task | flags | set | PSNR (dB) / SSIM | with `--self-ensemble` | in the paper |\n|---|---|---|---|---|---|"
    )
    return "\n".join([head, *(_score_row(numbers) for numbers in measured if "plain" in numbers)])


def _score_row(numbers: Numbers) -> str:
    task = TaskAtLevel(numbers["task"], numbers["level"])
    flags = f"--task {task.name}" + (f" --level {task.level:g}" if task.level is not None else "")
    if numbers["size"] != "small":
        flags += f" --weights {task.file_stem}_{numbers['size']}"
    scores = [_pair(numbers.get(key)) for key in ("plain", "self_ensemble")]
    published = published_rows(task.name, task.level, numbers["image_set"])
    beside = ", ".join(f"{row.method} {row.psnr:.2f}" for row in _beside(published, numbers["plain"]["psnr"]))
    return f"| {_title(numbers)} | `{flags}` | {numbers['image_set']} | {' | '.join(scores)} | {beside} |"


def _pair(score: Numbers | None) -> str:
    return f"{score['psnr']:.2f} / {score['ssim']:.4f}" if score else "–"


def _beside(published: list[Published], psnr: float) -> list[Published]:
    """The paper's rows that say most: the best of those below `psnr`, and RNAN's own."""
    below = [row for row in published if row.psnr < psnr and row.method != "RNAN"]
    return sorted(below, key=lambda row: row.psnr)[-1:] + [row for row in published if row.method == "RNAN"][:1]


def _title(numbers: Numbers) -> str:
    title = TaskAtLevel(numbers["task"], numbers["level"]).title
    return title if numbers["size"] == "small" else f"{title}, {numbers['size']}"


def budgets(measured: Iterable[Numbers]) -> str:
    """What their training took, in Markdown."""
    head = "| task | parameters | iterations | core hours | PSNR aimed at (dB) | reached |\n|---|---|---|---|---|---|"
    return "\n".join([head, *(_budget_row(numbers) for numbers in measured if "plain" in numbers)])


def _budget_row(numbers: Numbers) -> str:
    iterations, hours = training_spent(numbers)
    size = f"{numbers['parameters']:,} | {iterations:,} | {hours:.2f}"
    return f"| {_title(numbers)} | {size} | {numbers['bar_psnr']:.2f} | {numbers['plain']['psnr']:.2f} |"


def blind(measured: Iterable[Numbers]) -> str:
    """What the networks for unknown levels reach, beside those for one level, in Markdown."""
    head = "| task | set | level | input (dB) | for unknown levels | for this level |\n|---|---|---|---|---|---|"
    measured = list(measured)
    return "\n".join(
        [head, *(row for numbers in measured if "levels" in numbers for row in _blind_rows(numbers, measured))]
    )


def _blind_rows(numbers: Numbers, measured: Iterable[Numbers]) -> Iterator[str]:
    task = TASKS[numbers["task"]]
    kind = task.title.split(",")[0] + ("" if numbers["is_the_tasks"] else " in colour")
    small = (found for found in measured if found.get("size") == "small" and found["task"] == task.name)
    singles = {found["level"]: found for found in small}
    for level, found in numbers["levels"].items():
        single = singles.get(float(level)) if numbers["is_the_tasks"] else None
        beside = f"{single['plain']['psnr']:.2f}" if single else "–"
        reached = f"{found['input_psnr']:.2f} | {found['psnr']:.2f} | {beside}"
        yield f"| {kind} | {numbers['image_set']} | {task.level} {level} | {reached} |"


TABLES: dict[str, Callable[[Iterable[Numbers]], str]] = {"scores": scores, "blind": blind, "budgets": budgets}


def with_tables(page: str) -> str:
    """A page with each table in its place.

    Raises:
        ValueError: It has no place for one.
    """
    measured = json.loads(NUMBERS.read_text(encoding="utf-8")).values()
    written, count = PLACE.subn(lambda place: f"{place[1]}{TABLES[place[2]](measured)}\n{place[3]}", page)
    if not count:
        raise ValueError("no place for a table; see PLACE in tools/results_table.py")
    return written


def outdated() -> list[Path]:
    """Pages whose tables are not what the numbers say."""
    pages = {file: file.read_text(encoding="utf-8") for file in PAGES}
    return [file for file, text in pages.items() if with_tables(text) != text]


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    old = outdated()
    for file in old:
        print(f"{file.relative_to(REPOSITORY)}: {'out of date' if args.check else 'written'}")
        if not args.check:
            file.write_text(with_tables(file.read_text(encoding="utf-8")), encoding="utf-8")
    return int(args.check and bool(old))


if __name__ == "__main__":
    sys.exit(main())
