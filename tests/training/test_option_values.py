"""Every key of an option file with every kind of wrong value: read as documented, or refused in one line."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import importlib.util
import math
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
import yaml
from changed_options import REMOVED, change
from conftest import HookEnvironment
from legal_options import outcome, refused, train

from rnan_plugin.__main__ import main
from rnan_plugin.data.dataset_options import AnySet, DatasetOptions
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.images.levels import DrawnDegradation
from rnan_plugin.options.optimisers import KEYS_OF_OPTIMISERS, SCHEDULE_FREE, Optimiser
from rnan_plugin.options.sections import (
    CosineAnnealing,
    DistParams,
    Logger,
    Loss,
    Metric,
    Mlflow,
    MultiStep,
    Paths,
    Top,
    Train,
    Validation,
    Wandb,
)
from rnan_plugin.options.values import MISFIT, fitted
from rnan_plugin.toolbox.api import LOSS_REGISTRY
from rnan_plugin.training.step import StepOptions

WRONG: dict[str, Any] = {
    "text": "high",
    "number text": "5e3",
    "small number text": "1e-4",
    "list": [1, "a"],
    "mapping": {"a": 1},
    "null": None,
    "bool": True,
    "zero": 0,
    "negative": -1,
    "huge": 10**12,
    "nan": math.nan,
    "infinite": math.inf,
    "date": datetime.date(2020, 2, 29),
    "empty text": "",
    "path": "../../outside",
    "no such user": "~nosuchuser/x",
}
COSINE = {"type": "CosineAnnealingRestartLR", "periods": [10]}
# Of BasicSR; it has keys of its own.
PAIRS = {"name": "x", "type": "PairedImageDataset", **dict.fromkeys(("dataroot_gt", "dataroot_lq"), "photos")}
PAIRS |= {"io_backend": {"type": "disk"}}
PATCHES = PAIRS | {"gt_size": 16, "use_hflip": False, "use_rot": False}
PATCHES |= {"num_worker_per_gpu": 0, "batch_size_per_gpu": 1}
# Where each dataclass stands, and what its section needs there.
PLACES: list[tuple[str, type, dict[str, Any]]] = [
    ("", Top, {}),
    ("path", Paths, {}),
    ("train", Train, {}),
    ("train", StepOptions, {}),
    ("train.scheduler", MultiStep, {}),
    ("train.scheduler", CosineAnnealing, {"train.scheduler": COSINE}),
    ("train.pixel_opt", Loss, {"train.pixel_opt.type": "CharbonnierLoss"}),
    ("val", Validation, {}),
    ("val.metrics.psnr", Metric, {}),
    ("logger", Logger, {}),
    ("logger.wandb", Wandb, {"logger.wandb": {}}),
    ("logger.mlflow", Mlflow, {"logger.mlflow": {}}),
    ("dist_params", DistParams, {"dist_params": {}}),
    ("datasets.train", DatasetOptions, {}),
    ("datasets.val", DatasetOptions, {}),
    ("datasets.train", AnySet, {"datasets.train": PATCHES}),
    ("datasets.val", AnySet, {"datasets.val": PAIRS}),
]
KEYS = [
    (place, item.name, get_type_hints(kind, include_extras=True)[item.name], needed)
    for place, kind, needed in PLACES
    for item in dataclasses.fields(kind)
]
# Each key of `optim_g`, of an optimiser that takes it.
KEYS += [
    (
        "train.optim_g",
        key,
        hint,
        {"train.optim_g.type": kind} | ({"train.scheduler": None} if kind in SCHEDULE_FREE else {}),
    )
    for key, hint in get_type_hints(Optimiser, include_extras=True).items()
    for kind in [next(name for name, keys in KEYS_OF_OPTIMISERS.items() if key in keys)]
]
# What the launcher itself sets, or draws: any value gives way.
SET_BY_PARSING = {
    "dist",
    "rank",
    "world_size",
    "auto_resume",
    "is_train",
    "seed_drawn",
    "phase",
    "experiments_root",
    "models",
}
SCALES = {("datasets.train", "scale"), ("datasets.val", "scale")}  # the file's
SET_BY_PARSING |= {"training_states", "log", "visualization", "num_gpu", "manual_seed"}


def at(options: Any, place: str) -> Any:
    for part in place.split(".") if place else []:
        options = options[part]
    return options


def test_there_are_many_keys() -> None:
    assert len(KEYS) * len(WRONG) >= 480
    assert len(WRONG) >= 12


@pytest.mark.parametrize(("place", "key", "hint", "needed"), KEYS, ids=[f"{place}.{key}" for place, key, *_ in KEYS])
def test_a_value_is_read_or_refused(
    place: str,
    key: str,
    hint: Any,
    needed: dict[str, Any],
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for kind, value in WRONG.items():
        options = change(copy.deepcopy(legal), copy.deepcopy(needed) | {f"{place}.{key}".lstrip("."): value})
        parsed = outcome(options, monkeypatch, capfd)
        expected = fitted(value, hint)
        if isinstance(parsed, list):
            assert len(parsed) <= 6, (kind, parsed)
            assert all(len(line) < 700 for line in parsed)
        elif key not in SET_BY_PARSING and (place, key) not in SCALES and not dataclasses.is_dataclass(hint):
            assert expected is not MISFIT, (kind, parsed)
            assert at(parsed, place)[key] == expected


@pytest.mark.parametrize(("weights", "is_refused"), [({"perceptual_weight": 0}, True), ({"style_weight": 1}, False)])
def test_a_perceptual_loss_of_no_weight_needs_a_pixel_loss(
    weights: dict[str, float],
    is_refused: bool,
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    perceptual = {"train.perceptual_opt": {"type": "PerceptualLoss", **weights}}
    told = "train.perceptual_opt: has no weight but 0, and there is no pixel_opt"
    lines = outcome(change(copy.deepcopy(legal), {**perceptual, "train.pixel_opt": None}), monkeypatch, capfd)
    assert any(told in line for line in lines) == is_refused
    lines = outcome(change(copy.deepcopy(legal), perceptual), monkeypatch, capfd)
    assert not any(told in line for line in lines)


def test_losses_of_basicsr_are_taken(
    legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class OfColours(torch.nn.Module):
        def forward(self, output: torch.Tensor, gt: torch.Tensor) -> tuple[torch.Tensor, None]:
            return (output.mean((2, 3)) - gt.mean((2, 3))).abs().sum(), None

    monkeypatch.setitem(LOSS_REGISTRY._obj_map, "OfColours", OfColours)
    for kind in ("L1Loss", "MSELoss", "CharbonnierLoss"):
        losses = {"train.pixel_opt": {"type": kind}, "train.perceptual_opt": {"type": "OfColours"}}
        assert outcome(change(legal, losses), monkeypatch, capfd)["train"]["pixel_opt"] == {"type": kind}


READ = {
    # What BasicSR's users write, and what is computed with.
    "train.optim_g.lr": ("1e-4", 1e-4),
    "train.optim_g.eps": ("1e-8", 1e-8),
    "train.optim_g.betas": (["9e-1", 0.99], [0.9, 0.99]),
    "train.total_iter": ("1e6", 1_000_000),
    "train.scheduler.milestones": (["2e5", 4e5], [200_000, 400_000]),
    "train.scheduler.gamma": ("5e-1", 0.5),
    "train.pixel_opt.loss_weight": ("1e-2", 0.01),
    "train.clip_grad_norm": ("1e1", 10.0),
    "val.val_freq": ("5e3", 5000),
    "val.metrics.psnr.crop_border": ("4", 4),
    "logger.print_freq": ("1e2", 100),
    "logger.save_checkpoint_freq": (5e3, 5000),
    "num_gpu": ("0", 0),
    "manual_seed": ("7", 7),
    "datasets.train.batch_size_per_gpu": ("1e0", 1),
    "datasets.train.gt_size": (16.0, 16),
    "network_g.num_feat": ("8", 8),
}


@pytest.mark.parametrize("place", READ)
def test_numbers_written_as_texts_are_numbers(
    place: str,
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    value, expected = READ[place]
    parsed = at(outcome(change(legal, {place: value}), monkeypatch, capfd), place)
    assert parsed == expected
    assert type(parsed) is type(expected)


COSINE_OF_TWO = {"type": "CosineAnnealingRestartLR", "periods": [5, 5], "restart_weights": [1]}
REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "name outside": ({"name": "../x"}, ["name: '../x' is not a text that a folder can be called by"]),
    "empty name": ({"name": ""}, ["name: ''"]),
    "absolute name": ({"name": "/tmp/x"}, ["name: '/tmp/x'"]),
    "long name": ({"name": "x" * 300}, ["name: "]),
    "seed": ({"manual_seed": 2**40}, ["manual_seed: 1099511627776 is not a whole number from 0 to 4294967295 or ~"]),
    "negative rate": ({"train.optim_g.lr": -1e-4}, ["train.optim_g.lr: -0.0001 is not a finite number of 0 or more"]),
    "one beta": ({"train.optim_g.betas": [0.9]}, ["train.optim_g.betas: [0.9] is not a list of 2"]),
    "beta of 1": ({"train.optim_g.betas": [0.9, 1]}, ["betas", "from 0 to below 1"]),
    "one milestone": ({"train.scheduler.milestones": 200000}, ["milestones: 200000 is not a list"]),
    "falling milestones": ({"train.scheduler.milestones": [4, 2]}, ["milestones: [4, 2]", "rising"]),
    "no warm-up": ({"train.warmup_iter": None}, ["train.warmup_iter: None is not a whole number from -1"]),
    "average": ({"train.ema_decay": 1.5}, ["train.ema_decay: 1.5 is not a finite number from 0 to below 1"]),
    "reduction": ({"train.pixel_opt.reduction": "none"}, ["reduction: 'none' is not one of mean, sum"]),
    "restart weights": ({"train.scheduler": COSINE_OF_TWO}, ["restart_weights: 1 value(s) for 2 of periods"]),
    "foreach and fused": ({"train.optim_g.foreach": True, "train.optim_g.fused": True}, ["train.optim_g: "]),
    "better": ({"val.metrics.psnr.better": "lowr"}, ["psnr.better: 'lowr' is not one of higher, lower"]),
    "metrics": ({"val.metrics": ["psnr"]}, ["val.metrics: ['psnr'] is not a section"]),
    "save_img": ({"val.save_img": "maybe"}, ["val.save_img: 'maybe' is not true or false"]),
    "device": ({"device": "tpu"}, ["device: 'tpu' is not one of auto, cpu, cuda, mps"]),
    "integer key": ({"train": {5: 1}}, ["train: key 5 is not a text"]),
    "null key at the top": ({"x": 1}, ["unknown key 'x'"]),
    "section is a number": ({"train": 5}, ["train: 5 is not a section"]),
    "section is a list": ({"logger": [1]}, ["logger: [1] is not a section"]),
    "no such user": ({"path.resume_state": "~nosuchuser/1.state"}, ["path.resume_state: '~nosuchuser/1.state'"]),
    "weights are a list": ({"path.pretrain_network_g": ["a"]}, ["path.pretrain_network_g: ['a'] is not a text"]),
    "wandb without TensorBoard": ({"logger.wandb": {"project": "p"}}, ["logger.wandb.project"]),
    "a second training set": ({"datasets.train_2": {"name": "b"}}, ["datasets.train_2: ", "dataroot_gt: [A, B]"]),
    "no training set": ({"datasets.train": REMOVED}, ["section 'datasets.train' is missing"]),
    "no logger": ({"logger": REMOVED}, ["section 'logger' is missing"]),
    "prefetching without pinned memory": ({"datasets.train.prefetch_mode": "cuda"}, ["prefetch_mode", "pin_memory"]),
    "persistent workers without workers": (
        {"datasets.train.persistent_workers": True},
        ["persistent_workers", "num_worker_per_gpu"],
    ),
    "batch of another type of set": (
        {"datasets.train": PATCHES | {"batch_size_per_gpu": 0}},
        ["datasets.train.batch_size_per_gpu: 0 is not a whole number from 1"],
    ),
    "set outside": (
        {"datasets.val": PAIRS | {"name": "../../../outside"}},
        ["datasets.val.name: '../../../outside' is not a text that a folder can be called by"],
    ),
    "set called by a number": ({"datasets.val": PAIRS | {"name": 14}}, ["datasets.val.name: 14 is not a text"]),
    "set without a name": (
        {"datasets.val": {key: value for key, value in PAIRS.items() if key != "name"}},
        ["datasets.val: key 'name' is missing"],
    ),
    **{
        f"set {key}": (
            {f"datasets.{key}": PAIRS},
            [f"datasets.{key}: is not train, val, val_…, test or test_…; several training sets are one entry"],
        )
        for key in ("val2", "validation")
    },
    **{
        f"{key} without blocks": (
            {f"train.{key}": value, "network_g": {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "upscale": 1}},
            [f"train.{key}: ", "EDSR has no "],
        )
        for key, value in (("identity_start", True), ("checkpoint_blocks", True), ("mask_lr_mult", 0.1))
    },
    "masks of RNAN without": (
        {"network_g.mask_branch": False, "train.mask_lr_mult": 0.1},
        ["train.mask_lr_mult: this RNAN has no mask branches; take it out"],
    ),
    "best without validation": (
        {"logger.save_best": "psnr", "val": None},
        ["logger.save_best: psnr, but there is no section val; add the metric there, or take save_best out"],
    ),
    "best without metrics": (
        {"logger.save_best": "psnr", "val.metrics": None},
        ["logger.save_best: psnr, but val.metrics is empty; add the metric there"],
    ),
    "pixel loss as perceptual loss": (
        {"train.perceptual_opt": {"type": "L1Loss"}},
        ["train.perceptual_opt: L1Loss gives no two losses, of content and style"],
    ),
    "loss that takes the ground truth for weights": (
        {"train.pixel_opt": {"type": "WeightedTVLoss"}},
        ["train.pixel_opt: WeightedTVLoss is no loss between two images"],
    ),
    "huge network": ({"network_g.num_rab": 10**12}, ["network_g.num_rab: 1000000000000 is larger"]),
    "metric that takes no border": ({"val.metrics.psnr.crop_border": -1}, ["crop_border: -1 is not"]),
    "perceptual loss": (
        {"train.perceptual_opt": {"type": "PerceptualLoss", "layer_weights": 3}},
        ["train.perceptual_opt.layer_weights: 3 is not a section"],
    ),
    "loss without ground truth": ({"train.pixel_opt": {"type": "GANLoss", "gan_type": "x"}}, ["train.pixel_opt: "]),
    **{
        f"template {text}": ({"datasets.val.filename_tmpl": text}, ["filename_tmpl", "with one {}"])
        for text in ("{}_{}", "{:04d}", "{name}", "{", "x")
    },
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(
    case: str,
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    changes, fragments = REFUSED[case]
    if case == "a second training set":
        changes = {"datasets.train_2": legal["datasets"]["train"] | {"name": "b"}}
    options = change(legal, changes) if case != "integer key" else legal | {"train": legal["train"] | {5: 1}}
    refused(outcome(options, monkeypatch, capfd), *fragments)


@pytest.mark.parametrize("template", ["{}", "{}x2", "x4_{}"])
def test_legal_templates(
    template: str,
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    parsed = outcome(change(legal, {"datasets.val.filename_tmpl": template}), monkeypatch, capfd)
    assert parsed["datasets"]["val"]["filename_tmpl"] == template


def test_a_level_called_like_another_set_is_kept(
    legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    other = copy.deepcopy(legal["datasets"]["val"]) | {"name": "other"}
    change(legal, {"datasets.val.degradation": {"type": "awgn", "sigma": [10, 20]}, "datasets.val_sigma10": other})
    parsed = outcome(legal, monkeypatch, capfd)["datasets"]
    assert [entry["name"] for entry in parsed.values()] == ["photos", "photos_sigma10", "photos_sigma20", "other"]
    assert parsed["val_sigma10"]["name"] == "other"


@pytest.mark.parametrize("levels", [["1e-1", 75], {"low": "1e-1", "high": "75"}])
def test_ranges_of_numbers_written_as_texts(
    levels: Any, legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    changes = {"datasets.train.degradation": {"type": "awgn", "sigma": levels}}
    parsed = outcome(change(legal, changes), monkeypatch, capfd)["datasets"]["train"]
    (drawn,) = RestorationDataset(parsed).chain
    assert isinstance(drawn, DrawnDegradation)
    assert (drawn.levels.low, drawn.levels.high) == (0.1, 75)


def test_sets_of_one_name(
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    legal["datasets"]["val_2"] = copy.deepcopy(legal["datasets"]["val"])
    refused(outcome(legal, monkeypatch, capfd), "2 validation sets are called 'photos'")
    legal["datasets"]["val_2"]["name"] = "others"
    assert "val_2" in outcome(legal, monkeypatch, capfd)["datasets"]


def test_metrics_that_compare_need_a_ground_truth(
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    legal["datasets"]["val"] = {"name": "x", "type": "SingleImageDataset", "dataroot_lq": "photos"}
    legal["datasets"]["val"]["io_backend"] = {"type": "disk"}
    refused(outcome(legal, monkeypatch, capfd), "datasets.val: has no dataroot_gt", "val.metrics.psnr")


def test_several_training_roots_are_read(
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    roots = ["photos", "photos"]
    parsed = outcome(change(legal, {"datasets.train.dataroot_gt": roots}), monkeypatch, capfd)
    assert parsed["datasets"]["train"]["dataroot_gt"] == roots
    refused(outcome(change(legal, {"datasets.train.dataroot_gt": ["photos", 3]}), monkeypatch, capfd), "dataroot_gt: [")


def test_scale_and_network_that_do_not_fit(
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    changes = {f"datasets.{part}.degradation": {"type": "bicubic", "scale": 2} for part in ("train", "val")}
    change(legal, changes | {"scale": 2, "network_g.upscale": 4})
    refused(outcome(legal, monkeypatch, capfd), "3 channel(s) of 32×32 of an input of 3 channel(s) of 8×8", "scale: 2")
    legal["network_g"]["upscale"] = 2
    assert outcome(legal, monkeypatch, capfd)["scale"] == 2


@pytest.mark.parametrize("network", [{"type": "MSRResNetX1"}, {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3}])
def test_other_networks_have_to_fit_as_well(
    network: dict[str, Any],
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    grey = {f"datasets.{part}.channels": "y" for part in ("train", "val")}
    lines = outcome(change(legal, grey | {"network_g": network}), monkeypatch, capfd)
    refused(lines, "datasets.train: network_g ", "channels", "num_in_ch")


def test_the_check_leaves_the_random_stream_alone(
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Weights are drawn after it."""
    network = {"type": "SwinIR", "img_size": 16, "window_size": 8, "depths": [1], "embed_dim": 12, "num_heads": [2]}
    network |= {"mlp_ratio": 2, "upsampler": "", "upscale": 1, "img_range": 1.0}
    outcome(change(legal, {"network_g": network, "manual_seed": 3}), monkeypatch, capfd)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


# Whole processes: the same by the command line and by BasicSR's scripts

SAMPLE = [("train.optim_g.lr", "fast"), ("name", "../x"), ("manual_seed", -1), ("train.scheduler.milestones", 5)]
SAMPLE += [("logger.print_freq", 0), ("val.save_img", "maybe"), ("path.resume_state", 3), ("num_gpu", [])]
SAMPLE += [("datasets.train.batch_size_per_gpu", 0), ("scale", math.nan)]


def test_commands_refuse_without_a_traceback(
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for number, (place, value) in enumerate(SAMPLE):
        file = Path(f"wrong{number}.yml")
        file.write_text(yaml.safe_dump(change(copy.deepcopy(legal), {place: value})), encoding="utf-8")
    result = train(Path.cwd(), "wrong0.yml")
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert result.stderr.startswith("error: wrong0.yml, train.optim_g.lr: 'fast' is not")
    for number in range(len(SAMPLE)):
        for mode in ("train", "test"):
            monkeypatch.setattr(sys, "argv", [])
            with pytest.raises(SystemExit, match="2"):
                main([mode, "-opt", f"wrong{number}.yml"])
            assert capfd.readouterr().err.startswith(f"error: wrong{number}.yml, ")
    assert {path.name for path in Path().iterdir()} == {"photos", *(f"wrong{number}.yml" for number in range(10))}


@pytest.fixture
def stock_script(enabled_env: HookEnvironment) -> tuple[HookEnvironment, str]:
    return enabled_env, str(Path(importlib.util.find_spec("basicsr").origin).parent)  # type: ignore[union-attr, arg-type]


def test_the_stock_script_refuses_and_reads_as_we_do(
    legal: dict[str, Any],
    stock_script: tuple[HookEnvironment, str],
    tmp_path: Path,
) -> None:
    environment, basicsr = stock_script
    Path("wrong.yml").write_text(yaml.safe_dump(change(copy.deepcopy(legal), {"train.optim_g.lr": "fast"})))
    result = environment.run(tmp_path, f"{basicsr}/train.py", "-opt", "wrong.yml", check=False)
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if "error" in line]
    assert errors == ["error: wrong.yml, train.optim_g.lr: 'fast' is not a finite number of 0 or more"]
    assert "Traceback" not in result.stderr
