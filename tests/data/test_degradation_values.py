"""Degradations outside their legal values, made in Python or by an option file, are one line."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from bad_files import one_line

import rnan_plugin.training.connect  # noqa: F401 - the toolbox has to know the plugin's classes
from rnan_plugin.data.dataset_options import build_chain, option_file
from rnan_plugin.errors import UserError
from rnan_plugin.images.degradations import Awgn, BayerMosaic, BicubicDown, Jpeg


@pytest.mark.parametrize(
    ("make", "fragments"),
    [
        (lambda: Awgn(-1.0), ["sigma is -1.0", "0 or more"]),
        (lambda: Awgn(float("nan")), ["sigma is nan", "0 or more"]),
        (lambda: Awgn(float("inf")), ["sigma is inf", "0 or more"]),
        (lambda: Jpeg(0), ["quality is 0", "1 to 100"]),
        (lambda: Jpeg(101), ["quality is 101", "1 to 100"]),
        (lambda: Jpeg(10.5), ["quality is 10.5", "integer"]),  # type: ignore[arg-type]
        (lambda: Jpeg(True), ["quality is True", "integer"]),
        (lambda: BayerMosaic("GRGB"), ["pattern is 'GRGB'", "GRBG, RGGB, BGGR, GBRG"]),  # type: ignore[arg-type]
        (lambda: BicubicDown(1), ["scale is 1", "2 or more"]),
        (lambda: BicubicDown(2, "wrap"), ["border is 'wrap'", "replicate, mirror"]),  # type: ignore[arg-type]
        (lambda: build_chain({"type": "awgn", "sigma": -1}, "F, val"), ["F, val", "sigma is -1"]),
        (
            lambda: build_chain({"type": "awgn", "sigma": float("nan")}, "F, val"),
            ["F, val.sigma", "nan is not a finite number"],
        ),
        (
            lambda: build_chain({"type": "awgn", "sigma": "strong"}, "F, val"),
            ["F, val.sigma", "'strong' is not a finite number"],
        ),
        (lambda: build_chain({"type": "jpeg", "quality": 0}, "F, val"), ["F, val", "quality is 0"]),
        (
            lambda: build_chain({"type": "jpeg", "quality": 10.5}, "F, val"),
            ["F, val.quality", "10.5 is not a whole number"],
        ),
        (lambda: build_chain({"type": "mosaic", "pattern": "X"}, "F, val"), ["F, val.pattern", "GRBG, RGGB"]),
        (lambda: build_chain({"type": "noise"}, "F, val"), ["F, val.type", "'noise'", "awgn, bicubic, jpeg, mosaic"]),
        (lambda: build_chain([], "F, val"), ["F, val", "not a mapping"]),
        (lambda: build_chain({"type": ["jpeg"]}, "F, val"), ["F, val.type", "['jpeg']"]),
    ],
)
def test_degradation_outside_its_legal_values(make: Any, fragments: list[str]) -> None:
    with pytest.raises(UserError) as error:
        make()
    line = one_line(error)
    assert all(fragment in line for fragment in fragments), line


@pytest.mark.parametrize(
    "arguments", [["-opt", "x.yml"], ["-opt=x.yml"], ["--launcher", "none", "-opt", "x.yml", "--auto_resume"]]
)
def test_option_file_for_messages(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    assert option_file() == "x.yml"
