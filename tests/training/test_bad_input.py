"""Slips in an option file end in one line that names the key and a remedy, before anything is made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from bad_files import noise, save
from changed_options import REMOVED, change
from conftest import REPOSITORY
from legal_options import parse, train

import rnan_plugin.training.connect  # noqa: F401 - the toolbox has to know the plugin's classes
from rnan_plugin.__main__ import main
from rnan_plugin.training import launcher


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
MISPLACED = [
    # place, key of another section, that section
    ("", "lr", "in train.optim_g"),
    ("train", "lr", "in train.optim_g"),
    ("", "gt_size", "in an entry of datasets"),
    ("datasets.train.degradation", "gt_size", "in an entry of datasets"),
    ("datasets", "batch_size_per_gpu", "in an entry of datasets"),
    ("datasets.train", "quality", "in a degradation of type jpeg"),
    ("datasets.train.degradation", "sigma", "in a degradation of type awgn"),
    ("datasets.train.degradation", "spread", "in a level's range, {low: 10, high: 50, spread: log}"),
    ("", "precision", "in train"),
    ("train.optim_g", "total_iter", "in train"),
    ("train", "eta_min", "in train.scheduler"),
    ("train", "manual_seed", "at the top"),
    ("train", "val", "at the top"),
    ("network_g", "pretrain_network_g", "in path"),
    ("logger", "val_freq", "in val"),
    ("val", "crop_border", "in a metric of val.metrics"),
    ("train", "save_best", "in logger"),
]
WRONG_KEYS = [
    *((place, key, f"did you mean '{right}'?") for place, key, right in MISSPELT),
    *((place, key, f"belongs {right}") for place, key, right in MISPLACED),
]


@pytest.mark.parametrize(("place", "key", "hint"), WRONG_KEYS, ids=[f"{row[0]}-{row[1]}" for row in WRONG_KEYS])
def test_wrong_key_names_file_section_and_the_right_key_or_section(
    legal: dict[str, Any],
    place: str,
    key: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    changed = change(legal, {f"{place}.{key}".lstrip("."): 1})
    (line,) = error_lines(changed, monkeypatch, capfd)
    assert line.startswith("error: small.yml")
    assert all(part in line for part in place.split("."))
    assert line.endswith(f"unknown key '{key}' ({hint})")


def test_key_of_another_scheduler_is_not_told_to_belong_where_it_stands(
    legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (line,) = error_lines(change(legal, {"train.scheduler.eta_min": 1}), monkeypatch, capfd)
    assert "train.scheduler: unknown key 'eta_min' (legal: " in line


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
        ["path.pretrain_network_g", "w.pth: no such file", "convert"],
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


def test_several_processes_need_a_launcher(
    legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    Path("small.yml").write_text(yaml.safe_dump(legal), encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        main(["train", "-opt", "small.yml", "--launcher", "pytorch"])
    (line,) = capfd.readouterr().err.splitlines()
    told = "RANK is not set; start the command with torchrun, or leave out --launcher"
    assert line == f"error: --launcher pytorch: {told}"


def test_equal_levels_are_one_set(legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opt, _ = parse(change(legal, {f"{VAL}.degradation.quality": [10, 10.0, 20]}), monkeypatch)
    assert list(opt["datasets"]) == ["train", "val_quality10", "val_quality20"]


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
        (b"name: \xff\xfe", ["not valid YAML", "save it as UTF-8"]),
        ("name: a\n".encode("utf-16"), ["not valid YAML", "save it as UTF-8"]),
        ("name: a\n".encode("utf-16-le"), ["not valid YAML", "save it as UTF-8"]),
        (b"", ["not a file of keys and values", "options/*.yml"]),
        (b"just text", ["not a file of keys and values"]),
        (b"name: a\nmodel_type: RestorationModel\nnum_gpu: 0\ndatasets: {}\npath: {}\n", ["'network_g' is missing"]),
    ],
    ids=["missing", "not YAML", "not UTF-8", "UTF-16", "no mark", "empty", "text", "no network_g"],
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


# Whole processes


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
    bad = save(Path("photos/two.png"), noise(64, 64))
    code = bad.read_bytes()
    middle = len(code) // 2
    bad.write_bytes(code[:middle] + bytes(9) + code[middle + 9 :])  # such that its end is whole
    loader = {"num_worker_per_gpu": 1, "batch_size_per_gpu": 2, "dataset_enlarge_ratio": 4}
    del legal["val"], legal["datasets"]["val"]
    legal["datasets"]["train"] |= loader
    Path("small.yml").write_text(yaml.safe_dump(legal), encoding="utf-8")
    result = train(Path.cwd(), "small.yml")
    assert result.returncode == 2
    # libpng's own words come from the worker, which reads on meanwhile, and may begin the same line.
    _, *errors = result.stderr.replace("libpng error: ", "").split("error: ")
    assert len(errors) == 1
    assert errors[0].startswith(f"{bad}: unreadable or truncated image; replace it or take it out\n")
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
