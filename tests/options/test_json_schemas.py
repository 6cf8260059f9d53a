"""Schemas for editors: current, referred to by every shipped file, and of one mind with the checks about values."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from changed_options import REMOVED, change
from conftest import REPOSITORY
from jsonschema import Draft7Validator

import rnan_plugin.training.connect  # noqa: F401 - BasicSR has to know the plugin
from rnan_plugin.errors import UserError
from rnan_plugin.evaluation.comparison_file import read_comparison
from rnan_plugin.options.json_schema import by_type, closed, described, value_schema
from rnan_plugin.options.schema import read_option_file
from rnan_plugin.options.values import MISFIT, Count, Milestones, Positive, Rule, Share, fitted, within
from rnan_plugin.training.launcher import _derive_paths
from rnan_plugin.training.option_check import check_option_file
from rnan_plugin.training.section_check import check_values

OPTIONS = REPOSITORY / "options"
FILES = sorted(OPTIONS.rglob("*.yml"))
COMPARISONS = [REPOSITORY / "docs/equal_budget.yml"]
MISSING = ("dataroot_gt: datasets/", "path.pretrain_network_g: ")  # data and weights, which aren't there


@cache
def validator(name: str) -> Draft7Validator:
    schema = json.loads((OPTIONS / f"schemas/{name}.json").read_text(encoding="utf-8"))
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def refused_by_schema(content: Any, name: str = "option_file") -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(content)]


def refused_by_checks(content: dict[str, Any], folder: Path) -> list[str]:
    """What `rnan train` says of a file, missing data left out."""
    (folder / "x.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    try:
        opt = dict(read_option_file(str(folder / "x.yml")))
        opt |= {"is_train": "train" in opt, "dist": False, "rank": 0, "world_size": 1, "auto_resume": False}
        lines = check_values(opt, "x.yml", is_train="train" in opt)
        _derive_paths(opt)
        check_option_file(opt, "x.yml", lines)
    except UserError as error:
        return [line for line in str(error).splitlines() if not any(part in line for part in MISSING)]
    return []


def changed(file: str, place: str, value: Any) -> dict[str, Any]:
    """A shipped file with another value at a place such as `train.optim_g.lr`; `REMOVED` takes the key out."""
    content: dict[str, Any] = yaml.safe_load((OPTIONS / file).read_text(encoding="utf-8"))
    return change(content, {place: value})


FILE = "small/train_RNAN_small_CAR_q10.yml"


def test_schemas_are_current() -> None:
    check = [sys.executable, "-m", "rnan_plugin", "options", "--check"]  # a process of its own: no test's networks
    result = subprocess.run(check, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "options: every option file is as its recipe\n")


@pytest.mark.parametrize("file", [*FILES, *COMPARISONS], ids=lambda file: file.stem)
def test_first_line_leads_to_a_schema_that_takes_the_file(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", text.splitlines()[0])
    assert found
    schema = (file.parent / found[1]).resolve()
    assert schema == OPTIONS / f"schemas/{'comparison' if file in COMPARISONS else 'option'}_file.json"
    assert refused_by_schema(yaml.safe_load(text), schema.stem) == []


def test_schema_is_printed(tmp_path: Path) -> None:
    for arguments, name in ((["--schema"], "option_file"), (["--schema", "comparison"], "comparison_file")):
        command = [sys.executable, "-m", "rnan_plugin", "options", *arguments]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        assert result.stdout == (OPTIONS / f"schemas/{name}.json").read_bytes()


WRONG = [
    ("taks", 1),
    ("name", "a/b"),
    ("name", REMOVED),
    ("num_gpu", -1),
    ("num_gpu", "all"),
    ("scale", 0),
    ("manual_seed", 2**32),
    ("deterministic", 1),
    ("network_g", REMOVED),
    ("network_g.type", "RNNA"),
    ("network_g.num_features", 64),
    ("network_g.num_feat", "many"),
    ("network_g.num_feat", 16.5),
    ("network_g.softmax_over", "key"),
    ("datasets.training", {}),
    ("datasets.train.type", "RestoringDataset"),
    ("datasets.train.patch", 48),
    ("datasets.train.gt_size", 0),
    ("datasets.train.gt_size", REMOVED),
    ("datasets.train.channels", "grey"),
    ("datasets.train.dataroot_gt", []),
    ("datasets.train.dataroot_gt", " "),
    ("datasets.train.batch_size_per_gpu", REMOVED),
    ("datasets.train.num_worker_per_gpu", -1),
    ("datasets.train.io_backend", {"type": "hdf5"}),
    ("datasets.train.filename_tmpl", "{}_{}"),
    ("datasets.train.degradation", {"type": "jpg", "quality": 10}),
    ("datasets.train.degradation", {"type": "jpeg"}),
    ("datasets.train.degradation", {"type": "jpeg", "quality": 101}),
    ("datasets.train.degradation", {"type": "jpeg", "quality": [10, 20, 30]}),
    ("datasets.train.degradation", {"type": "jpeg", "quality": {"low": 1}}),
    ("datasets.train.degradation", {"type": "awgn", "sigma": -1}),
    ("datasets.train.degradation", {"type": "awgn", "sigma": 10, "sgima": 10}),
    ("datasets.val.degradation", {"type": "mosaic", "pattern": "GBR"}),
    ("datasets.val.dataroot_gt", ["a", "b"]),
    ("datasets.val.name", ""),
    ("path.strict_load_g", "yes please"),
    ("path.resume", "x"),
    ("train.total_iter", 0),
    ("train.optim_g", REMOVED),
    ("train.optim_g.type", "Sgd"),
    ("train.optim_g.lr", -1),
    ("train.optim_g.lr", "-1e-4"),
    ("train.optim_g.betas", [0.9]),
    ("train.optim_g.betas", [0.9, 1]),
    ("train.scheduler.type", "Cosine"),
    ("train.scheduler.periods", REMOVED),
    ("train.scheduler.periods", []),
    ("train.scheduler.milestones", [1]),
    ("train.precision", "float8"),
    ("train.clip_grad_norm", 0),
    ("train.pixel_opt.type", "L3Loss"),
    ("train.pixel_opt.reduction", "none"),
    ("train.pixel_opt.loss_wieght", 1),
    ("train.ema_decay", 1),
    ("val.tile", 0),
    ("val.policy", "tiles"),
    ("val.metrics.psnr.type", "calculate_psrn"),
    ("val.metrics.psnr.crop_border", -1),
    ("val.metrics.psnr.crop_border", REMOVED),
    ("val.metrics.psnr.border", 1),
    ("train.scheduler", REMOVED),
    ("train.optim_g.momentum", 0.9),
    ("train.optim_g", {"type": "AdamWScheduleFree"}),
    ("logger.mlflow", {"experimnt": "x"}),
    ("val.metrics.psnr", {"type": "calculate_lpips", "weights": "a.pth"}),
    ("logger.print_freq", REMOVED),
    ("logger.keep_last", 0),
    ("dist_params.port", 70000),
]


PAIRS = {"name": "x", "type": "PairedImageDataset", "dataroot_gt": "a", "dataroot_lq": "b", "io_backend": {}}
WRONG += [
    ("datasets.val", PAIRS | {"name": "../x"}),
    ("datasets.val", PAIRS | {"num_worker_per_gpu": -1}),
    ("datasets.train", PAIRS | {"num_worker_per_gpu": 0, "batch_size_per_gpu": 0}),
    ("datasets.train", PAIRS | {"num_worker_per_gpu": 0}),
    ("datasets.val", {key: value for key, value in PAIRS.items() if key != "name"}),
]


@pytest.mark.parametrize(("place", "value"), WRONG, ids=lambda item: "left out" if item is REMOVED else str(item))
def test_what_the_checks_refuse_is_refused(place: str, value: Any, tmp_path: Path) -> None:
    content = changed(FILE, place, value)
    assert refused_by_checks(content, tmp_path)
    assert refused_by_schema(content)


RIGHT = [
    ("train.optim_g.lr", "1e-4"),
    ("train.optim_g.lr", " +.5E-3 "),
    ("train.optim_g.lr", 1),
    ("train.optim_g.betas", ["9e-1", 0.999]),
    ("train.total_iter", "5e3"),
    ("train.total_iter", 5e3),
    ("train.scheduler.eta_min", "1e-7"),
    ("train.scheduler.periods", ["2e4"]),
    ("train.clip_grad_norm", "1e-1"),
    ("train.clip_grad_norm", None),
    ("train.warmup_iter", "-1"),
    ("train.pixel_opt.loss_weight", "1e-2"),
    ("val.val_freq", "1e3"),
    ("val.metrics.psnr.better", "higher"),
    ("train.optim_g", {"type": "SGD", "lr": "1e-2", "momentum": 0.9, "nesterov": True}),
    ("train.optim_g", {"type": "Adafactor", "eps": [None, 1e-3]}),
    ("train.perceptual_opt", None),
    ("network_g.img_range", "2.55e2"),
    ("num_gpu", 0),
    ("manual_seed", None),
    ("logger.wandb", None),
    ("datasets.train.dataroot_gt", ["datasets/a", "datasets/b.lmdb"]),
    ("datasets.train.degradation", {"type": "jpeg", "quality": "1e1"}),
    ("datasets.train.degradation", {"type": "jpeg", "quality": [10, 95]}),
    ("datasets.train.degradation", {"type": "jpeg", "quality": {"low": 5, "high": 95, "spread": "log"}}),
    ("datasets.train.degradation", {"type": "awgn", "sigma": ["1e-1", 75]}),
    ("datasets.train.degradation", {"type": "awgn", "sigma": {"low": "1e-1", "high": 75}}),
    ("datasets.train.degradation", [{"type": "awgn", "sigma": 0.5}, {"type": "jpeg", "quality": 100}]),
]


@pytest.mark.parametrize(("place", "value"), RIGHT, ids=str)
def test_what_the_checks_accept_is_accepted(place: str, value: Any, tmp_path: Path) -> None:
    content = changed(FILE, place, value)
    assert refused_by_checks(content, tmp_path) == []
    assert refused_by_schema(content) == []


HINTS = [int, float, bool, str, int | None, Count, Share, Positive, Milestones, list[float], tuple[Share, Share]]
HINTS += [
    Literal["auto"] | Annotated[int, within(0, 8)],
    Literal[False],
    dict[str, Any],
    Annotated[str, Rule(bool, "")],
]
VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    5,
    10**10,
    0.5,
    -0.5,
    1.0,
    1.5,
    "",
    "auto",
    "x",
    "1e-4",
    "5e3",
    "-2",
    "1e",
    "0x1",
]
VALUES += [[], [1], [1, 2], [0.5, 0.25], ["1e-4", 0], ["x"], {}, {"a": 1}]


@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_a_hints_schema_takes_what_is_fitted(hint: Any) -> None:
    """And refuses the rest, but for texts: whether `0.5` is whole, or in an interval, a pattern doesn't say."""
    schema = Draft7Validator(value_schema(hint))
    for value in VALUES:
        fits = fitted(value, hint) is not MISFIT
        texts = isinstance(value, str) or (isinstance(value, list) and any(isinstance(item, str) for item in value))
        if fits or not (texts or value in ("", [])):
            assert schema.is_valid(value) == fits, (value, hint)


def test_sections_by_type_and_descriptions() -> None:
    schema = by_type({"a": closed({"type": {}, "x": {"type": "integer"}}, ["x"]), "b": {}})
    valid = Draft7Validator(schema).is_valid
    assert valid({"type": "a", "x": 1})
    assert valid({"type": "b", "anything": 1})
    assert not any(map(valid, ({"type": "a"}, {"type": "a", "x": 1, "y": 1}, {"type": "c"}, {"x": 1}, [])))

    def function(first: int, second: int) -> None:
        """Do it.

        Args:
            first: In two
                lines.
            second (int): With its type.
        """

    assert described(function) == {"first": "In two lines.", "second": "With its type."}


def test_editors_tell_what_a_key_is() -> None:
    schema = validator("option_file").schema
    assert isinstance(schema, dict)
    train = schema["properties"]["train"]["anyOf"][0]["properties"]
    assert train["skip_limit"]["description"].startswith("Steps in a row that may be skipped")
    assert train["skip_limit"]["default"] == 20
    entry = schema["properties"]["datasets"]["properties"]["train"]["allOf"][0]["then"]["properties"]
    assert entry["gt_size"]["description"].startswith("Side of a training patch")
    (rnan,) = [
        case["then"]
        for case in schema["properties"]["network_g"]["allOf"]
        if case["if"]["properties"]["type"] == {"const": "RNAN"}
    ]
    assert rnan["properties"]["softmax_over"]["enum"] == ["keys", "queries"]
    assert rnan["properties"]["num_rab"]["description"]


@pytest.mark.parametrize(
    "change",
    [
        {"taks": "car"},
        {"task": "denoise"},
        {"name": "a/b"},
        {"level": "high"},
        {"sets": "photos"},
        {"sets": []},
        {"timing_side": 0},
        {"timing_side": 5000},
        {"noise_seed": -1},
        {"policy": ""},
        {"tile": "wide"},
        {"tile": 0},
        {"policy": "tiles"},
        {"lpips": {"weights": "a.pth"}},
        {"methods": {}},
        {"methods": {"x": None}},
        {"methods": {"x": {"type": "nml"}}},
        {"methods": {"x": {"type": "network"}}},
        {"methods": {"x": {"type": "shipped", "opt": "a.yml"}}},
    ],
    ids=str,
)
def test_mistakes_of_a_comparison_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    content = {"task": "graydn", "level": 25, "sets": ["photos"], "methods": {"noisy": {"type": "input"}}}
    (tmp_path / "c.yml").write_text(yaml.safe_dump(content))
    read_comparison(str(tmp_path / "c.yml"))
    assert refused_by_schema(content, "comparison_file") == []
    (tmp_path / "c.yml").write_text(yaml.safe_dump(content | change))
    with pytest.raises(UserError):
        read_comparison(str(tmp_path / "c.yml"))
    assert refused_by_schema(content | change, "comparison_file")
