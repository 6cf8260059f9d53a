"""How far methods lie apart on the same images, and how sure that is: paired intervals and tests, by SciPy."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from rnan_plugin.evaluation.evaluate import Evaluation
from rnan_plugin.evaluation.reports import METRICS, markdown_table, text_table
from rnan_plugin.files import write_texts

Metric = Literal["psnr", "ssim", "lpips"]

_RESAMPLES, _SEED, _CONFIDENCE = 9999, 0, 0.95
_BATCH = 500  # resamples at a time: those of a set of thousands of images would fill the memory
_METRICS: tuple[Metric, ...] = ("psnr", "ssim", "lpips")
HOW = {
    "difference": "score of `method` minus that of `against`, mean over the images that both have",
    "interval": f"{_CONFIDENCE:.0%}, paired bootstrap over the images (BCa), {_RESAMPLES} resamples, seed {_SEED}",
    "p": "Wilcoxon's signed-rank test, two-sided, not corrected for the number of pairs",
}
IN_SHORT = "mean difference over the images [95 % interval, paired bootstrap]; p: Wilcoxon's signed-rank test"


@dataclass(frozen=True)
class Difference:
    """Two methods on one image set, by one metric.

    Args:
        image_set: Name of the set.
        method: The one with the higher mean PSNR there.
        against: The other.
        metric: "psnr" (dB), "ssim", or "lpips", where below 0 is better.
        images: How many both have.
        mean: Of the images' differences; infinite where PSNRs are, NaN where they are so in both directions.
        low: Lower end of the interval; None for one image, and for a mean that is not finite.
        high: Upper end.
        p: None for one image.
        remark: What is special, in words.
    """

    image_set: str
    method: str
    against: str
    metric: Metric
    images: int
    mean: float
    low: float | None
    high: float | None
    p: float | None
    remark: str


def differences(results: dict[str, list[Evaluation]]) -> list[Difference]:
    """Compare each pair of methods once on every image set, the better one first.

    A method without scores on a set is passed over there, and so are images that only one of two methods has.
    """
    names = dict.fromkeys(item.image_set for items in results.values() for item in items)
    return [found for name in names for found in _on_set(name, results)]


def _on_set(image_set: str, results: dict[str, list[Evaluation]]) -> Iterator[Difference]:
    on_set = [(method, item) for method, items in results.items() for item in items if item.image_set == image_set]
    scored = {method: item for method, item in on_set if item.scores}
    best_first = sorted(scored, key=lambda method: scored[method].mean.psnr, reverse=True)
    for method, against in combinations(best_first, 2):
        ours, theirs = scored[method].scores, scored[against].scores
        shared = [name for name in ours if name in theirs]
        for metric in _METRICS if shared else ():
            if any(getattr(scores[name], metric) is None for scores in (ours, theirs) for name in shared):
                continue
            pairs = [(getattr(ours[name], metric), getattr(theirs[name], metric)) for name in shared]
            values = [0.0 if one == other else one - other for one, other in pairs]  # infinite both: equal
            yield Difference(image_set, method, against, metric, len(values), *_judged(values))


def _judged(values: Sequence[float]) -> tuple[float, float | None, float | None, float | None, str]:
    """Mean, ends of the interval, p, remark."""
    mean = sum(values) / len(values)
    infinite = sum(math.isinf(value) for value in values)
    if len(values) == 1:
        return mean, None, None, None, "one image: no interval, no p"
    if not any(values):
        return 0.0, 0.0, 0.0, 1.0, "equal on every image"
    low, high = (None, None) if infinite else _interval(values)
    return mean, low, high, _p(values), f"only one PSNR is infinite on {infinite} image(s)" if infinite else ""


def _interval(values: Sequence[float]) -> tuple[float, float]:
    from scipy.stats import bootstrap

    if min(values) == max(values):  # any resample has the same mean, of which BCa makes NaN
        return values[0], values[0]
    found = bootstrap(
        (np.asarray(values),),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=_BATCH,
        confidence_level=_CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def _p(values: Sequence[float]) -> float:
    from scipy.stats import wilcoxon

    # The test looks at ranks: what is infinite is above all else, and arithmetic with it would be NaN.
    top = 2 * max((abs(value) for value in values if math.isfinite(value)), default=0.0) + 1
    return float(wilcoxon([math.copysign(top, value) if math.isinf(value) else value for value in values]).pvalue)


def difference_rows(found: Sequence[Difference], image_set: str) -> list[list[str]]:
    """A table of an image set: a row for each pair, the headings first; no rows at all where there is no pair."""
    by_pair: dict[tuple[str, str], list[Difference]] = {}
    for item in found:
        if item.image_set == image_set:
            by_pair.setdefault((item.method, item.against), []).append(item)
    rows = [[*pair, str(items[0].images), *_cells(items)] for pair, items in by_pair.items()]
    metrics = [item.metric for item in next(iter(by_pair.values()), [])]
    headings = ["method", "against", "images", *(text for metric in metrics for text in (METRICS[metric][0], "p"))]
    return [headings, *rows] if rows else []


def _cells(items: Sequence[Difference]) -> Iterator[str]:
    for item in items:
        digits = METRICS[item.metric][1]
        interval = "" if item.low is None else f" [{item.low:+.{digits}f}, {item.high:+.{digits}f}]"
        mean = "undefined" if math.isnan(item.mean) else f"{item.mean:+.{digits}f}"
        yield "equal" if item.p == 1 and item.low == item.high == 0 else mean + interval
        yield "–" if item.p is None else f"{item.p:.3g}"


def differences_as_text(found: Sequence[Difference]) -> str:
    """The tables for the screen, one of each image set; empty where there is no pair of methods."""
    sets = dict.fromkeys(item.image_set for item in found)
    tables = [f"differences on {name}:\n{text_table(difference_rows(found, name))}" for name in sets]
    return "\n\n".join([*tables, IN_SHORT]) if tables else ""


def write_differences(found: Sequence[Difference], folder: Path) -> None:
    """Write `differences.csv`, `.json` and `.md` into a folder; in JSON a number that is not finite is null."""
    text = io.StringIO()
    text.writelines(f"# {key}: {value}\n" for key, value in HOW.items())
    table = csv.writer(text, lineterminator="\n")
    table.writerow([item.name for item in fields(Difference)])
    table.writerows(asdict(item).values() for item in found)
    markdown = "".join(
        f"# Differences on {name}\n\n{markdown_table(difference_rows(found, name))}\n"
        for name in dict.fromkeys(item.image_set for item in found)
    )
    content = {"how": HOW, "differences": [_for_json(item) for item in found]}
    tables = {
        "csv": text.getvalue(),
        "json": json.dumps(content, indent=1) + "\n",
        "md": markdown + "".join(f"- {key}: {value}\n" for key, value in HOW.items()),
    }
    write_texts({folder / f"differences.{ending}": written for ending, written in tables.items()})


def _for_json(item: Difference) -> dict[str, str | int | float | None]:
    return asdict(item) | {"mean": item.mean if math.isfinite(item.mean) else None}
