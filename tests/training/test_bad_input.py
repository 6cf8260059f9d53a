"""Slips in an option file end in one line that names the key and a remedy, before anything is made."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from bad_files import noise, one_line, save, truncate
from conftest import REPOSITORY
from torch import nn

import rnan_plugin.training.connect  # noqa: F401 - the toolbox has to know the plugin's classes
from rnan_plugin.__main__ import main
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.data.dataset_options import build_chain, option_file
from rnan_plugin.errors import UserError
from rnan_plugin.images.degradations import Awgn, BayerMosaic, BicubicDown, Jpeg
from rnan_plugin.toolbox.api import ARCH_REGISTRY
from rnan_plugin.training import launcher

REMOVED = object()
JPEG = {"type": "jpeg", "quality": 10}


@pytest.fixture
def legal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A small legal option file's content; its images lie in the current, otherwise empty folder."""
    monkeypatch.chdir(tmp_path)
    save(Path("photos/one.png"), noise(64, 64))
    dataset = {"name": "photos", "type": "RestorationDataset", "dataroot_gt": "photos", "degradation": dict(JPEG)}
    loader = {"gt_size": 16, "num_worker_per_gpu": 0, "batch_size_per_gpu": 1}
    metrics = {"psnr": {"type": "calculate_psnr", "crop_border": 0, "test_y_channel": False}}
    return {
        "name": "small",
        "model_type": "RestorationModel",
        "scale": 1,
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {"train": dataset | loader, "val": copy.deepcopy(dataset)},
        "network_g": {"type": "RNAN", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_rab": 1, "num_rnab": 1},
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "optim_g": {"type": "Adam", "lr": 1e-4},
            "scheduler": {"type": "MultiStepLR", "milestones": [10]},
            "total_iter": 4,
            "pixel_opt": {"type": "MSELoss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "val": {"val_freq": 4, "save_img": False, "tile": 128, "tile_overlap": 16, "metrics": metrics},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 4, "use_tb_logger": False},
    }


def change(options: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for place, value in changes.items():
        *sections, key = place.split(".")
        target = options
        for section in sections:
            target = target[section]
        if value is REMOVED:
            del target[key]
        else:
            target[key] = value
    return options


def parse(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    Path("small.yml").write_text(yaml.safe_dump(options), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["rnan_plugin train", "-opt", "small.yml"])
    return launcher.parse_options(str(Path.cwd()))


def test_unchanged_options_are_legal(legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opt, _ = parse(legal, monkeypatch)
    assert opt["network_g"]["num_feat"] == 8


MISSPELT = [
    # place, wrong key, nearest legal key
    ("", "mode_type", "model_type"),
    ("", "loger", "logger"),
    ("datasets.train", "gt_sise", "gt_size"),
    ("datasets.train", "batch_size", "batch_size_per_gpu"),
    ("datasets.val", "dataroot_g", "dataroot_gt"),
    ("datasets.val", "noise_sed", "noise_seed"),
    ("datasets.train.degradation", "qualty", "quality"),
    ("network_g", "num_feats", "num_feat"),
    ("train", "total_iters", "total_iter"),
    ("train.pixel_opt", "loss_wieght", "loss_weight"),
    ("train.optim_g", "beta", "betas"),
    ("train.scheduler", "milestone", "milestones"),
    ("val", "val_frequency", "val_freq"),
    ("val", "tile_overlp", "tile_overlap"),
    ("val.metrics.psnr", "test_y_chanel", "test_y_channel"),
    ("path", "pretrained_network_g", "pretrain_network_g"),
    ("logger", "save_checkpoint_frequency", "save_checkpoint_freq"),
]


@pytest.mark.parametrize(("place", "wrong", "right"), MISSPELT, ids=[f"{row[0]}-{row[1]}" for row in MISSPELT])
def test_misspelt_key_names_file_section_and_nearest_legal_key(
    legal: dict[str, Any],
    place: str,
    wrong: str,
    right: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    changed = change(legal, {f"{place}.{wrong}".lstrip("."): 1})
    (line,) = error_lines(changed, monkeypatch, capfd)
    assert f"unknown key '{wrong}' (did you mean '{right}'?)" in line
    assert line.startswith("error: small.yml")
    assert all(part in line for part in place.split("."))


def error_lines(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> list[str]:
    """The lines on standard error; nothing may have been created."""
    Path("small.yml").touch()
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as stop:
        parse(options, monkeypatch)
    assert stop.value.code == 2
    assert sorted(Path().rglob("*")) == before
    return capfd.readouterr().err.splitlines()


TRAIN, VAL = "datasets.train", "datasets.val"
WRONG = {
    # id: (changes, what the line contains beside the option file's name)
    "missing folder": ({f"{TRAIN}.dataroot_gt": "nowhere"}, ["dataroot_gt", "nowhere not found", "change the path"]),
    "missing lmdb": (
        {f"{TRAIN}.dataroot_gt": "no.lmdb", f"{TRAIN}.io_backend": {"type": "lmdb"}},
        ["dataroot_gt", "no.lmdb not found", "rnan prepare FOLDER no.lmdb"],
    ),
    "missing lq folder": (
        {f"{VAL}.dataroot_lq": "nowhere", f"{VAL}.degradation": REMOVED},
        ["dataroot_lq", "nowhere not found"],
    ),
    "degradation and lq": ({f"{VAL}.dataroot_lq": "photos"}, [VAL, "either 'degradation'", "or 'dataroot_lq'"]),
    "neither": ({f"{VAL}.degradation": REMOVED}, [VAL, "either 'degradation'", "or 'dataroot_lq'"]),
    "missing dataroot_gt": ({f"{TRAIN}.dataroot_gt": REMOVED}, [TRAIN, "'dataroot_gt' is missing"]),
    "empty dataroot_gt": ({f"{TRAIN}.dataroot_gt": None}, [TRAIN, "'dataroot_gt' is missing"]),
    "missing gt_size": ({f"{TRAIN}.gt_size": REMOVED}, [TRAIN, "needs 'gt_size'"]),
    "missing quality": ({f"{VAL}.degradation": {"type": "jpeg"}}, [f"{VAL}", "degradation", "'quality' is missing"]),
    "missing batch size": ({f"{TRAIN}.batch_size_per_gpu": REMOVED}, [TRAIN, "'batch_size_per_gpu' is missing"]),
    "missing network": ({"network_g": REMOVED}, ["'network_g' is missing", "options/*.yml"]),
    "missing network type": ({"network_g.type": REMOVED}, ["network_g.type"]),
    "missing train": ({"train": REMOVED}, ["'train' is missing"]),
    "missing optimiser": ({"train.optim_g": REMOVED}, ["train", "'optim_g' is missing"]),
    "missing total_iter": ({"train.total_iter": REMOVED}, ["train", "'total_iter' is missing"]),
    "missing milestones": ({"train.scheduler": {"type": "MultiStepLR"}}, ["scheduler", "'milestones' is missing"]),
    "missing loss": ({"train.pixel_opt": REMOVED}, ["train", "pixel_opt"]),
    "missing print_freq": ({"logger.print_freq": REMOVED}, ["logger", "'print_freq' is missing"]),
    "missing val_freq": ({"val.val_freq": REMOVED}, ["val", "'val_freq' is missing"]),
    "missing crop_border": ({"val.metrics.psnr.crop_border": REMOVED}, ["metrics.psnr", "'crop_border' is missing"]),
    "gt_size is text": (
        {f"{TRAIN}.gt_size": "48 px"},
        [f"{TRAIN}", ".gt_size", "'48 px' is not a whole number from 1"],
    ),
    "use_hflip is text": ({f"{TRAIN}.use_hflip": "yes"}, [".use_hflip", "'yes' is not true or false"]),
    "num_feat is text": ({"network_g.num_feat": "many"}, ["network_g.num_feat", "'many' is not a whole number"]),
    "tile is text": ({"val.tile": "128 px"}, ["val.tile", "'128 px' is not a whole number from 1"]),
    "channels": ({f"{TRAIN}.channels": "bgr"}, [".channels", "'bgr' is not one of rgb, gray, y"]),
    "io_backend": ({f"{TRAIN}.io_backend": {"type": "zip"}}, ["io_backend.type", "'zip' is not one of disk, lmdb"]),
    "network is empty": ({"network_g": None}, ["network_g"]),
    "data set is empty": ({VAL: None}, [VAL, "the section is empty"]),
    "path is empty": ({"path": None}, [", path", "the section is empty"]),
    "no such weights": (
        {"path.pretrain_network_g": "w.pth"},
        ["path.pretrain_network_g", "w.pth not found", "convert"],
    ),
    "no blocks": ({"network_g.num_rab": -1}, ["network_g", "num_rab -1"]),
    "model type": ({"model_type": "RestorationModle"}, ["small.yml, model_type: ", "did you mean 'RestorationModel'"]),
    "data set type": ({f"{TRAIN}.type": "RestorationDatset"}, [TRAIN, "did you mean 'RestorationDataset'"]),
    "network type": ({"network_g.type": "RNNA"}, ["network_g.type", "did you mean 'RNAN'"]),
    "loss type": ({"train.pixel_opt.type": "MSLoss"}, ["train.pixel_opt.type", "did you mean 'MSELoss'"]),
    "metric without keys": ({"val.metrics.psnr": None}, ["val.metrics.psnr", "needs a 'type'"]),
    "metric type": ({"val.metrics.psnr.type": "psnr"}, ["val.metrics.psnr.type", "'psnr'"]),
    "softmax_over": ({"network_g.softmax_over": "rows"}, ["network_g.softmax_over", "not one of keys, queries"]),
    "optimiser type": ({"train.optim_g.type": "adam"}, ["train.optim_g.type", "did you mean 'Adam'"]),
    "scheduler type": ({"train.scheduler.type": "MultiStep"}, ["train.scheduler.type", "did you mean 'MultiStepLR'"]),
    "tile_overlap": ({"val.tile_overlap": 65}, [", val", "tile_overlap", "is 65, not from 0 to half of tile: 128"]),
    "colour data, 1-channel network": (
        {"network_g.num_in_ch": 1, "network_g.num_out_ch": 1},
        ["datasets.train", "input of 3 channel(s) of 16×16", "num_in_ch"],
    ),
    "grey data, colour network": (
        {f"{TRAIN}.channels": "gray"},
        ["datasets.train", "input of 1 channel(s) of 16×16", "channels: gray", "num_in_ch"],
    ),
    "option scale": ({"scale": 2, f"{TRAIN}.gt_size": 16}, ["scale is 2", "its degradation shrinks by 1"]),
    "degradation scale": (
        {f"{TRAIN}.degradation": {"type": "bicubic", "scale": 3}},
        ["scale is 1", "its degradation shrinks by 3"],
    ),
    "gt_size and scale": (
        {"scale": 3, f"{TRAIN}.degradation": {"type": "bicubic", "scale": 3}},
        [".gt_size", "16 is not a multiple of the scale 3"],
    ),
    "no levels": ({f"{VAL}.degradation.quality": []}, [f"{VAL} (photos).degradation: [] has no level in it"]),
    "half a letter": ({"name": "a\ud800"}, ["small.yml, name: ", "is not a text that a folder can be called by"]),
    "better and best": (
        {"val.metrics.psnr.better": "lower"},
        ["val.metrics.psnr.better: lower, but of PSNR higher is better; take the key out"],
    ),
    "best of nothing": (
        {"datasets.val": REMOVED, "logger.save_best": "psnr"},
        ["logger.save_best: psnr, but there is no set to validate on; add datasets.val"],
    ),
    "pairs without inputs": (
        {VAL: {"name": "x", "type": "PairedImageDataset", "dataroot_gt": "photos", "io_backend": {"type": "disk"}}},
        [f"{VAL}: key 'dataroot_lq' is missing; PairedImageDataset needs it"],
    ),
    "pairs of nothing": (
        {
            VAL: {"name": "x", "type": "PairedImageDataset", **dict.fromkeys(("dataroot_gt", "dataroot_lq"), "no")}
            | {"io_backend": {"type": "disk"}}
        },
        [f"{VAL}: PairedImageDataset can't read its first image (", "'no'"],
    ),
    "colour set of BasicSR, grey network": (
        {
            **{f"network_g.num_{end}_ch": 1 for end in ("in", "out")},
            f"{TRAIN}.channels": "y",
            VAL: {"name": "x", "type": "SingleImageDataset", "dataroot_lq": "photos", "io_backend": {"type": "disk"}},
            "val.metrics": REMOVED,
        },
        [f"{VAL}: network_g can't take an input of 3 channel(s)"],
    ),
    "set of inputs to train on": (
        {
            TRAIN: {
                "name": "x",
                "type": "SingleImageDataset",
                "dataroot_lq": "photos",
                "io_backend": {"type": "disk"},
                "num_worker_per_gpu": 0,
                "batch_size_per_gpu": 1,
            }
        },
        [f"{TRAIN}: SingleImageDataset has no ground truth, which training needs"],
    ),
    "weights whose name is too long": (
        {"path.pretrain_network_g": "w" * 300},
        ["path.pretrain_network_g", "can't be read (File name too long)"],
    ),
    "unknown degradation": ({f"{VAL}.degradation": {"type": "jpg"}}, ["degradation.type", "did you mean 'jpeg'"]),
    "no degradation type": ({f"{VAL}.degradation": {"quality": 10}}, ["degradation", "no 'type'"]),
    "degradation is text": ({f"{VAL}.degradation": "jpeg"}, ["degradation", "'jpeg' is not a mapping", "quality: 10"]),
    "bad quality in a chain": (
        {f"{VAL}.degradation": [{"type": "awgn", "sigma": 5}, {"type": "jpeg", "quality": 101}]},
        [VAL, "degradation", "quality is 101"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_option_is_one_line_and_creates_nothing(
    legal: dict[str, Any], case: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    changes, fragments = WRONG[case]
    lines = error_lines(change(legal, changes), monkeypatch, capfd)
    assert len(lines) <= 2  # training and validation may share the problem
    assert all(line.startswith("error: small.yml") for line in lines)
    assert all(fragment in lines[0] for fragment in fragments), lines


def test_all_problems_of_an_option_file_are_told_at_once(
    legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    legal["train"] |= {"totl_iter": 3, "precision": "half", "accumulate": "two"}
    legal["vall"] = {}
    legal["network_g"]["num_fea"] = 8
    legal["datasets"]["val"]["dataroot_gt"] = "nowhere"
    legal["logger"]["save_best"] = "pnsr"
    legal["val"]["metrics"]["psnr"]["crop_boder"] = 0
    Path("x.yml").write_text(yaml.safe_dump(legal))
    monkeypatch.setattr(sys, "argv", ["train", "-opt", "x.yml"])
    with pytest.raises(SystemExit) as ended:
        launcher.parse_options(".", is_train=True)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("error: x.yml, ") or line.startswith("error: x.yml: ") for line in lines)
    for fragment in (
        "train: unknown key 'totl_iter' (did you mean 'total_iter'?)",
        "train.precision: 'half' is not",
        "train.accumulate: 'two' is not",
        "unknown key 'vall' (did you mean 'val'?)",
        "network_g: unknown key 'num_fea' (did you mean 'num_feat'?)",
        "datasets.val (photos).dataroot_gt: nowhere not found",
        "logger.save_best: no metric 'pnsr' in val.metrics (did you mean 'psnr'?)",
        "val.metrics.psnr: unknown key 'crop_boder' (did you mean 'crop_border'?)",
    ):
        assert sum(fragment in line for line in lines) == 1, fragment
    assert not Path("experiments").exists()


def test_legal_but_hardly_meant_is_a_warning(
    legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    legal["train"]["scheduler"]["milestones"] = [2, 10]
    legal["val"]["metrics"]["psnr"]["crop_border"] = 4
    Path("x.yml").write_text(yaml.safe_dump(legal))
    monkeypatch.setattr(sys, "argv", ["train", "-opt", "x.yml"])
    launcher.parse_options(".", is_train=True)
    assert capsys.readouterr().err.splitlines() == [
        "warning: x.yml, train.scheduler.milestones: [10] lie beyond total_iter 4 and are never reached",
        "warning: x.yml, val.metrics.psnr.crop_border: 4, the paper's protocol for this task has 0",
    ]


DOUBTS: dict[str, tuple[dict[str, Any], str]] = {
    "warm-up": ({"train.warmup_iter": 4}, "train.warmup_iter: 4 is no less than total_iter 4: all of it is warm-up"),
    "no rate": ({"train.optim_g.lr": 0}, "train.optim_g.lr: 0, with which nothing is learned"),
    "no loss": (
        {"train.pixel_opt.loss_weight": 0},
        "train.pixel_opt.loss_weight: 0, with which nothing is learned",
    ),
    "no network": (
        {"path.ignore_resume_networks": ["net_g"]},
        "path.ignore_resume_networks: 'net_g' is no network of this file, which has network_g",
    ),
    "channels": (
        {"datasets.val.channels": "y", "network_g": {"type": "AnyChannels"}},
        "datasets.val.channels: y, but training's are rgb",
    ),
    "0..1": (
        {"datasets.train.degradation": {"type": "awgn", "sigma": [0.1, 0.5]}},
        "datasets.train.degradation.sigma: [0.1, 0.5] is on the scale 0 to 255: hardly any noise",
    ),
}


@pytest.fixture
def any_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network for images of any channels."""

    class AnyChannels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    monkeypatch.setitem(ARCH_REGISTRY._obj_map, "AnyChannels", AnyChannels)


@pytest.mark.usefixtures("any_channels")
@pytest.mark.parametrize("case", DOUBTS)
def test_what_changes_the_outcome_without_a_word_is_a_warning(
    legal: dict[str, Any], case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    legal["train"]["scheduler"]["milestones"] = [2]
    parse(legal, monkeypatch)
    assert capsys.readouterr().err == ""
    changes, told = DOUBTS[case]
    parse(change(legal, changes), monkeypatch)
    assert f"warning: small.yml, {told}" in capsys.readouterr().err.splitlines()


def test_lower_is_better_of_niqe_where_nothing_is_said(legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    legal["val"]["metrics"]["niqe"] = {"type": "calculate_niqe", "crop_border": 0}
    opt, _ = parse(legal, monkeypatch)
    assert opt["val"]["metrics"]["niqe"]["better"] == "lower"


@pytest.mark.parametrize(
    ("forced", "told"),
    [
        ("datasets:val=~", "small.yml, datasets.val: the section is empty"),
        ("datasets=5", "small.yml, datasets: the section is empty or not 'key: value' lines"),
        ("path=~", "small.yml, path: the section is empty"),
        ("datasets:val:degradation={type: jpeg, quality: 10, quality: 20}", "key 'quality' stands twice"),
        ("train:total_iter=[", "--force_yml train:total_iter=[: the value is not valid YAML"),
    ],
)
def test_forced_values_are_judged_as_those_of_the_file(
    legal: dict[str, Any], forced: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("small.yml").write_text(yaml.safe_dump(legal), encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        main(["train", "-opt", "small.yml", "--force_yml", forced])
    (line,) = capfd.readouterr().err.splitlines()
    assert told in line


def test_equal_levels_are_one_set(legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opt, _ = parse(change(legal, {f"{VAL}.degradation.quality": [10, 10.0, 20]}), monkeypatch)
    assert list(opt["datasets"]) == ["train", "val_quality10", "val_quality20"]


# Tests


def with_weights(legal: dict[str, Any]) -> dict[str, Any]:
    """A training's file, with weights to test."""
    torch.save({"params": RNAN(**{k: v for k, v in legal["network_g"].items() if k != "type"}).state_dict()}, "net.pth")
    return change(legal, {"path.pretrain_network_g": "net.pth"})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"path.pretrain_network_g": None}, "path.pretrain_network_g: is empty; name the weights to test"),
        ({"datasets": {}}, "datasets: no set to test on; add datasets.test"),
        ({"datasets.val": REMOVED}, "datasets: no set to test on; add datasets.test"),
        ({"val": None}, "val: key 'save_img' is missing"),
        ({"val.save_img": REMOVED}, "val: key 'save_img' is missing"),
    ],
)
def test_what_can_not_be_tested_is_told_before_anything_is_made(
    legal: dict[str, Any], changes: dict[str, Any], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("small.yml").write_text(yaml.safe_dump(change(with_weights(legal), changes)), encoding="utf-8")
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit, match="2"):
        main(["test", "-opt", "small.yml"])
    assert capfd.readouterr().err.splitlines() == [f"error: small.yml, {told}"]
    assert sorted(Path().rglob("*")) == before


def test_a_test_passes_over_the_training_set(
    legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("small.yml").write_text(yaml.safe_dump(with_weights(legal)), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["rnan test", "-opt", "small.yml"])
    opt, _ = launcher.parse_options(str(Path.cwd()), is_train=False)
    assert list(opt["datasets"]) == ["val"]
    assert "datasets.train: passed over" in capfd.readouterr().out


def test_schedule_that_ends_before_the_run(legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    legal["train"]["scheduler"] = {"type": "CosineAnnealingRestartLR", "periods": [3]}
    Path("x.yml").write_text(yaml.safe_dump(legal))
    monkeypatch.setattr(sys, "argv", ["train", "-opt", "x.yml"])
    with pytest.raises(SystemExit):
        launcher.parse_options(".", is_train=True)


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        (None, ["no such option file", "check the path"]),
        (b"name: [1, 2", ["not valid YAML", "line 1"]),
        (b"name: \xff\xfe", ["not valid YAML"]),
        (b"", ["not a file of keys and values", "options/*.yml"]),
        (b"just text", ["not a file of keys and values"]),
        (b"name: a\nmodel_type: RestorationModel\nnum_gpu: 0\ndatasets: {}\npath: {}\n", ["'network_g' is missing"]),
    ],
    ids=["missing", "not YAML", "not UTF-8", "empty", "text", "no network_g"],
)
def test_unusable_option_file(
    content: bytes | None,
    fragments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("x.yml").write_bytes(content)
    monkeypatch.setattr(sys, "argv", [])  # `main` replaces it
    with pytest.raises(SystemExit) as stop:
        main(["train", "-opt", "x.yml"])
    assert stop.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: x.yml: ")
    assert all(fragment in line for fragment in fragments), line
    assert [path.name for path in tmp_path.iterdir()] == ([] if content is None else ["x.yml"])


# Values of degradations


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


# Whole processes


def train(folder: Path, option_file: Path | str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rnan_plugin", "train", "-opt", str(option_file)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RNAN_")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_shipped_options_without_div2k_say_what_to_run(tmp_path: Path) -> None:
    options = REPOSITORY / "options" / "train_RNAN_CAR_q10.yml"
    result = train(tmp_path, options)
    assert result.returncode == 2
    line, *others = result.stderr.splitlines()
    assert all(f"datasets/{name} not found" in "".join(others) for name in ("Classic5", "LIVE1"))
    assert line.startswith(f"error: {options}, datasets.train (DIV2K).dataroot_gt: ")
    assert "rnan prepare DIV2K_train_HR datasets/DIV2K/DIV2K_train_HR_sub.lmdb" in line
    assert "rnan options --size small" in line
    assert list(tmp_path.iterdir()) == []


def test_unreadable_image_met_by_a_worker_ends_training_with_one_line(legal: dict[str, Any]) -> None:
    bad = truncate(save(Path("photos/two.jpg"), noise(64, 64)))  # such that OpenCV adds no warning of its own
    loader = {"num_worker_per_gpu": 1, "batch_size_per_gpu": 2, "dataset_enlarge_ratio": 4}
    del legal["val"], legal["datasets"]["val"]
    legal["datasets"]["train"] |= loader
    Path("small.yml").write_text(yaml.safe_dump(legal), encoding="utf-8")
    result = train(Path.cwd(), "small.yml")
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert lines[-1] == f"error: {bad}: unreadable or truncated image; replace it or take it out"
    assert sum(line.startswith("error:") for line in lines) == 1
    assert "Traceback" not in result.stderr + result.stdout
    assert "Start training" in result.stderr + result.stdout  # that is, it was met by training itself


def test_help_of_the_launcher(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    assert "-opt" in capsys.readouterr().out


def test_option_files_of_other_models_are_left_alone(legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the hook enabled they pass through the same parsing; what is their own is not ours to judge."""
    del legal["network_g"]
    changes = {"model_type": "SomebodysModel", "network_sr": {"type": "Somebodys"}, "train.their_key": 1}
    for part in ("train", "val"):
        legal["datasets"][part] = {"name": part, "type": "PairedImageDataset", "their_key": 1}
    opt, _ = parse(change(legal, changes), monkeypatch)
    assert opt["train"]["their_key"] == 1
    assert opt["datasets"]["train"]["phase"] == "train"
