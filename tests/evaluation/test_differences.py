"""Differences of methods: known values, intervals and tests against enumeration, and every file they stand in."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from itertools import product
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from rnan_plugin.evaluation.differences import (
    Difference,
    difference_rows,
    differences,
    differences_as_text,
    write_differences,
)
from rnan_plugin.evaluation.evaluate import Evaluation, Score
from rnan_plugin.paper.tasks import TaskAtLevel

INF = math.inf
FIVE = [0.3, 0.1, 0.7, -0.05, 0.42]


def evaluated(psnrs: dict[str, float], image_set: str = "photos") -> Evaluation:
    scores = {name: Score(psnr, psnr / 100 if math.isfinite(psnr) else 1.0, 0.1) for name, psnr in psnrs.items()}
    return Evaluation("x", TaskAtLevel("car", 10), image_set, "0", scores)


def named(values: list[float]) -> dict[str, float]:
    return {f"image{number}": value for number, value in enumerate(values)}


def apart(values: list[float], base: float = 30.0) -> Difference:
    """The PSNR's difference of two methods that lie apart by these values."""
    ours = evaluated(named([base + value for value in values]))
    found = differences({"a": [ours], "b": [evaluated(named([base] * len(values)))]})
    return next(item for item in found if item.metric == "psnr")


def exact_p(values: list[float]) -> float:
    """Share of all signs of the differences, those of 0 dropped, whose rank sum is as far from its mean as theirs."""
    kept = np.round([value for value in values if value], 9)
    ranks = rankdata(np.abs(kept))
    middle = ranks.sum() / 2
    seen = abs(ranks[kept > 0].sum() - middle)
    sums = [np.dot(signs, ranks) for signs in product((0, 1), repeat=len(kept))]
    return fmean(abs(total - middle) >= seen - 1e-9 for total in sums)


@pytest.mark.parametrize(
    "values", [FIVE, [0.1, 0.2], [0.3, 0.0, 0.1, -0.2], [0.5, 0.25, -0.25, 0.5], [-0.1, -0.2, -0.3], [0.5] * 6]
)
def test_p_is_that_of_all_signs(values: list[float]) -> None:
    base = 32.0  # and values of few bits where ties matter: no rounding tells them apart
    found = apart(values, base)
    assert found.p == pytest.approx(exact_p(values))


def bca(values: list[float]) -> tuple[float, float]:
    """Efron's interval, from the means of all resamples there are rather than some drawn ones."""
    sample, count = np.asarray(values), len(values)
    means = np.sort([sample[list(chosen)].mean() for chosen in product(range(count), repeat=count)])
    mean = sample.mean()
    bias = norm.ppf((np.mean(means < mean - 1e-12) + np.mean(means <= mean + 1e-12)) / 2)
    left_out = (sample.sum() - sample) / (count - 1)
    spread = left_out.mean() - left_out
    skew = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    ends = [bias + norm.ppf(share) for share in (0.025, 0.975)]
    low, high = (np.quantile(means, norm.cdf(bias + end / (1 - skew * end))) for end in ends)
    return float(low), float(high)


@pytest.mark.parametrize("values", [FIVE, [1.0, 2.0, 4.0, 3.0], [0.1, -0.2, 0.3, 0.02, 0.9, -0.5]])
def test_interval_is_that_of_all_resamples(values: list[float]) -> None:
    found = apart(values)
    assert found.mean == pytest.approx(fmean(values))
    assert found.low is not None
    assert found.high is not None
    # 9999 of the resamples are drawn: their 2.5 % quantile is known to some hundredths of the interval's width.
    assert (found.low, found.high) == pytest.approx(bca(values), abs=0.04 * (found.high - found.low))
    assert found.low < found.mean < found.high


def test_numbers_are_the_same_each_time_and_whatever_else_is_compared() -> None:
    ours, theirs = evaluated(named([30 + value for value in FIVE])), evaluated(named([30.0] * 5))
    two = differences({"a": [ours], "b": [theirs]})
    three = differences({"c": [evaluated(named([20.0, 21, 25, 22, 23]))], "b": [theirs], "a": [ours]})
    assert two == differences({"a": [ours], "b": [theirs]})
    assert [item for item in three if "c" not in (item.method, item.against)] == two


def test_each_pair_once_the_better_one_first() -> None:
    scores = {"low": [20.0, 21], "high": [30.0, 31], "middle": [25.0, 26]}
    found = differences({name: [evaluated(named(values))] for name, values in scores.items()})
    pairs = [(item.method, item.against) for item in found if item.metric == "psnr"]
    assert pairs == [("high", "middle"), ("high", "low"), ("middle", "low")]
    assert [item.metric for item in found[:2]] == ["psnr", "ssim"]
    assert found[1].mean == pytest.approx(0.05)


def test_one_image_has_no_interval() -> None:
    found = apart([0.5])
    assert (found.mean, found.low, found.high, found.p) == (0.5, None, None, None)
    assert found.remark == "one image: no interval, no p"


@pytest.mark.parametrize("base", [30.0, INF])
def test_equal_scores_are_said_in_words(base: float) -> None:
    found = apart([0.0, 0.0, 0.0], base)
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert found.remark == "equal on every image"
    (_, row) = difference_rows([found], "photos")
    assert row[3:5] == ["equal", "1"]


def test_equal_differences_have_an_interval_without_width() -> None:
    found = apart([0.5, 0.5, 0.5])
    assert (found.low, found.mean, found.high) == (0.5, 0.5, 0.5)


def test_infinite_psnr_ranks_above_all() -> None:
    ours, theirs = evaluated(named([INF, 31.0, 30.2, 28.5])), evaluated(named([20.0, 30.0, 30.0, 29.0]))
    found = differences({"b": [theirs], "a": [ours]})[0]
    assert (found.method, found.mean, found.low, found.high) == ("a", INF, None, None)
    assert found.p == pytest.approx(exact_p([99, 1, 0.2, -0.5]))
    assert "infinite on 1 image" in found.remark
    mixed = differences({"a": [evaluated(named([INF, 30.0]))], "b": [evaluated(named([30.0, INF]))]})[0]
    assert math.isnan(mixed.mean)
    assert mixed.p == 1
    assert difference_rows([mixed], "photos")[1][3] == "undefined"


def test_missing_methods_and_images_are_passed_over(tmp_path: Path) -> None:
    some = evaluated({"image1": 31.0, "image2": 32.0, "other": 40.0})
    results = {"a": [evaluated(named([30.0, 31.5, 32.25])), evaluated({"z": 30.0}, "more")], "b": [some], "c": []}
    results["d"] = [evaluated({})]
    found = differences(results)
    assert {(item.image_set, item.method, item.against, item.images) for item in found} == {("photos", "b", "a", 2)}
    assert found[0].mean == pytest.approx(-0.375)  # on what both have
    assert differences({"a": results["a"], "e": [evaluated({"elsewhere": 1.0})]}) == []
    assert differences({"a": results["a"]}) == []
    assert differences_as_text([]) == ""
    write_differences([], tmp_path)
    assert json.loads((tmp_path / "differences.json").read_text())["differences"] == []


def test_files_hold_what_the_screen_shows(tmp_path: Path) -> None:
    results = {
        "good": [evaluated(named([30 + value for value in FIVE])), evaluated({"one": INF}, "more")],
        "other, worse": [evaluated(named([30.0] * 5)), evaluated({"one": 20.0}, "more")],
    }
    found = differences(results)
    write_differences(found, tmp_path)
    content = json.loads((tmp_path / "differences.json").read_text())
    first, last = content["differences"][0], content["differences"][2]
    assert (first["method"], first["against"], first["image_set"], first["images"]) == (
        *("good", "other, worse", "photos", 5),
    )
    assert (first["mean"], first["low"], first["p"]) == (found[0].mean, found[0].low, found[0].p)
    assert (last["mean"], last["p"]) == (None, None)  # JSON has no infinity
    assert "seed 0" in content["how"]["interval"]
    lines = [line for line in (tmp_path / "differences.csv").read_text().splitlines() if not line.startswith("# ")]
    rows = list(csv.DictReader(lines))
    assert [float(row["mean"]) for row in rows] == [item.mean for item in found]
    assert rows[0]["high"] == str(found[0].high)
    assert (rows[2]["p"], rows[2]["remark"]) == ("", "one image: no interval, no p")
    text, markdown = differences_as_text(found), (tmp_path / "differences.md").read_text()
    cell = f"+0.294 [{found[0].low:+.3f}, {found[0].high:+.3f}]"
    assert cell in text
    assert f"| good | other, worse | 5 | {cell} | 0.125 |" in markdown
    assert text.index("differences on photos:") < text.index("differences on more:")
    assert "good    other, worse  1       +inf" in text


def test_start_and_help_need_no_scipy() -> None:
    code = "import sys, rnan_plugin.__main__ as m\ntry: m.main(['compare', '-h'])\nexcept SystemExit: pass\n"
    code += "sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
