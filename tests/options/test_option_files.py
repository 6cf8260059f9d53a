"""Every shipped option file: equal to its recipe, as the paper has it, accepted by the checks, and its network builds.

What the paper says is written out by hand here, and owes nothing to the recipes.
"""

from __future__ import annotations

import copy
import re

import pytest
import torch
import yaml
from conftest import REPOSITORY

import rnan_plugin.training.connect  # noqa: F401 - the toolbox has to know the plugin
from rnan_plugin.archs.rnan_arch import RELEASED
from rnan_plugin.data.dataset_options import build_chain, parse_dataset
from rnan_plugin.errors import UserError
from rnan_plugin.options.shipped_files import differences, shipped_files
from rnan_plugin.paper.tables import all_published
from rnan_plugin.toolbox.api import ARCH_REGISTRY
from rnan_plugin.training.launcher import _derive_paths
from rnan_plugin.training.network_check import check_fit
from rnan_plugin.training.option_check import check_option_file
from rnan_plugin.training.option_doubts import doubts
from rnan_plugin.training.section_check import check_values

OPTIONS = REPOSITORY / "options"
FILES = sorted(OPTIONS.glob("*.yml"))
SMALL = sorted((OPTIONS / "small").glob("*.yml"))
EVERY_FILE = sorted(OPTIONS.rglob("*.yml"))
EQUAL_BUDGET = sorted((OPTIONS / "equal_budget").glob("*.yml"))
LEVELS: dict[str, list[str | None]] = {
    "ColorDN": ["s10", "s30", "s50", "s70"],
    "GrayDN": ["s10", "s30", "s50", "s70"],
    "Demosaic": [None],
    "CAR": ["q10", "q20", "q30", "q40"],
    "SR": ["x2", "x3", "x4"],
}
TAGS = [f"{task}_{level}" if level else task for task, levels in LEVELS.items() for level in levels]
SETS = {  # of the paper's Tables 2 to 6
    "ColorDN": {"Kodak24", "BSD68", "Urban100"},
    "GrayDN": {"Kodak24", "BSD68", "Urban100"},
    "Demosaic": {"McMaster18", "Kodak24", "BSD68", "Urban100"},
    "CAR": {"LIVE1", "Classic5"},
    "SR": {"Set5", "Set14", "B100", "Urban100", "Manga109"},
}
LEVEL_KEY = {"ColorDN": "sigma", "GrayDN": "sigma", "CAR": "quality", "SR": "scale"}
BLIND_TAGS = {  # channels, what is drawn from which range, and the sets that are looked at; Classic5 is grey
    "ColorDN_blind": ("rgb", "sigma", [0, 75], {"Kodak24", "BSD68"}),
    "GrayDN_blind": ("gray", "sigma", [0, 75], {"Kodak24", "BSD68"}),
    "CAR_blind": ("y", "quality", [5, 95], {"Classic5", "LIVE1"}),
    "CAR_color_blind": ("rgb", "quality", [5, 95], {"LIVE1"}),
}
CHANNELS = {"ColorDN": "rgb", "GrayDN": "gray", "Demosaic": "rgb", "CAR": "y", "SR": "rgb"}

PATCH64 = {  # files that go on with larger patches, and from what
    "ColorDN_s10": "colordn_10",
    "ColorDN_s50": "colordn_50",
    "ColorDN_s70": "colordn_70",
    "GrayDN_s50": "graydn_50",
    "GrayDN_s70": "graydn_70",
    "Demosaic": "demosaic",
    "CAR_blind": "car_5-95",
    "ColorDN_blind": "colordn_0-75",
    "GrayDN_blind": "graydn_0-75",
}

LONGER = {"ColorDN_blind": "colordn_0-75", "GrayDN_blind": "graydn_0-75", "CAR_blind": "car_5-95"}


def load(name):
    return yaml.safe_load((OPTIONS / f"{name}.yml").read_text(encoding="utf-8"))


def build(network):
    return ARCH_REGISTRY.get(network["type"])(**{key: value for key, value in network.items() if key != "type"})


def sets_of(opt):
    """Names of the validation sets; all of them degraded alike."""
    (first, *others) = sections = [section for phase, section in opt["datasets"].items() if phase != "train"]
    assert all({**section, **{key: first[key] for key in ("name", "dataroot_gt")}} == first for section in others)
    assert all(section["dataroot_gt"].removesuffix(".lmdb") == f"datasets/{section['name']}" for section in sections)
    return {section["name"] for section in sections}


def fits(row, tag):
    task, _, level = tag.partition("_")
    return row.task == task.lower() and row.level == (float(level[1:]) if level else None)


def as_parsed(opt, *, is_train):
    """Add what the toolbox's parse_options adds."""
    opt = copy.deepcopy(opt)
    opt |= {"is_train": is_train, "dist": False, "rank": 0, "world_size": 1, "auto_resume": False}
    _derive_paths(opt)
    return opt


def test_every_task_and_level_has_its_files():
    expected = {f"{kind}_{tag}.yml" for tag in TAGS for kind in ("train_RNAN", "test_RNAN", "test_RNAN_released")}
    expected |= {f"train_RNAN_{tag}.yml" for tag in BLIND_TAGS}
    assert {file.name for file in FILES} == expected | {"quickstart_RNAN_CAR_q10.yml"}


def test_files_are_as_their_recipes():
    assert list(differences(OPTIONS)) == []
    assert {file.path for file in shipped_files()} == {path.relative_to(OPTIONS).as_posix() for path in EVERY_FILE}


def test_ablation_files_are_the_cases_of_table_1():
    """Mask branches, non-local blocks, number of RAB and RNAB, cases 1 to 8."""
    cases = [
        (0, 0, 7, 0),
        (1, 0, 7, 0),
        (0, 1, 5, 2),
        (1, 1, 5, 2),
        (1, 1, 1, 1),
        (1, 1, 2, 2),
        (1, 1, 5, 1),
        (1, 1, 8, 2),
    ]
    for number, (mask, non_local, rab, rnab) in enumerate(cases, start=1):
        opt = load(f"ablation/train_RNAN_case{number}")
        net, train = opt["network_g"], opt["datasets"]["train"]
        assert (net["num_rab"], net["num_rnab"]) == (rab, rnab)
        assert (net.get("mask_branch", True), net.get("non_local", True)) == (bool(mask), bool(non_local))
        assert sets_of(opt) == {"Urban100"}
        assert train["degradation"] == {"type": "awgn", "sigma": 30, "quantize": True}
        assert train["dataroot_gt"] == "datasets/DIV2K/DIV2K_train_HR_sub.lmdb"


def test_small_data_files_are_those_of_table_8():
    tags = {
        "BSD400": [*[f"{task}_s{sigma}" for task in ("ColorDN", "GrayDN") for sigma in (10, 30, 50, 70)], "Demosaic"]
    }
    tags["SR291"] = ["CAR_q20", "CAR_q40", "SR_x2", "SR_x3", "SR_x4"]
    expected = {f"train_RNAN_{name}_{tag}" for name, names in tags.items() for tag in names}
    assert {file.stem for file in (OPTIONS / "small_data").iterdir()} == expected
    for name, names in tags.items():
        for tag in names:
            opt = load(f"small_data/train_RNAN_{name}_{tag}")
            assert opt["datasets"]["train"]["dataroot_gt"] == f"datasets/{name}_whole.lmdb"
            assert sets_of(opt) == {row.image_set for row in all_published() if row.table == 8 and fits(row, tag)}


def test_small_models_are_for_these_tasks():
    names = {file.stem.removeprefix("train_RNAN_small_") for file in SMALL}
    going_on = {*(f"{tag}_patch64" for tag in PATCH64), *(f"{tag}_longer" for tag in LONGER), "ColorDN_blind_evenly"}
    assert names == {*TAGS, *BLIND_TAGS, *going_on}


@pytest.mark.parametrize(
    ("tag", "start"),
    [
        ("CAR_q10", "car_5-95"),
        ("CAR_q40", "car_5-95"),
        ("GrayDN_s10", "graydn_0-75"),
        ("ColorDN_s70", "colordn_0-75"),
        ("SR_x2", None),
        ("SR_x4", "sr_2"),
        ("CAR_color_blind", None),
    ],
)
def test_small_models_start_from_their_neighbours(tag, start):
    opt = load(f"small/train_RNAN_small_{tag}")
    assert opt["path"]["pretrain_network_g"] == (start and f"rnan_plugin/weights/{start}.pth")
    assert opt["path"]["strict_load_g"] == (tag != "SR_x4")
    assert opt["train"]["total_iter"] == sum(opt["train"]["scheduler"]["periods"])
    assert ("identity_start" in opt["train"]) == (start is None)
    assert opt["train"]["mask_lr_mult"] == 0.1


@pytest.mark.parametrize(
    ("size", "tag", "own"),
    [
        *(("small", tag, own) for tag, own in PATCH64.items()),
        ("medium", "ColorDN_s70", "colordn_70_medium"),
        ("medium", "GrayDN_s70", "graydn_70_medium"),
    ],
)
def test_larger_patches_go_on_from_a_network_s_own_weights(size, tag, own):
    first = load(f"{size}/train_RNAN_{size}_{tag}")
    opt = load(f"{size}/train_RNAN_{size}_{tag}_patch64")
    assert opt["path"]["pretrain_network_g"] == f"rnan_plugin/weights/{own}.pth"
    assert opt["path"]["strict_load_g"] is True
    assert opt["network_g"] == first["network_g"]
    assert opt["datasets"]["val"] == first["datasets"]["val"]
    larger = {"gt_size": opt["val"]["tile"], "batch_size_per_gpu": 4}
    drawn = {}
    if tag == "ColorDN_blind":  # as its longer training drew them: near none there is hardly room to lose any more
        drawn["degradation"] = load(f"{size}/train_RNAN_{size}_{tag}_longer")["datasets"]["train"]["degradation"]
    assert opt["datasets"]["train"] == first["datasets"]["train"] | larger | drawn
    assert "identity_start" not in opt["train"]


@pytest.mark.parametrize(("tag", "own"), LONGER.items())
def test_what_goes_on_for_longer_sees_small_sigmas_more_often(tag, own):
    first, opt = load(f"small/train_RNAN_small_{tag}"), load(f"small/train_RNAN_small_{tag}_longer")
    assert opt["path"]["pretrain_network_g"] == f"rnan_plugin/weights/{own}.pth"
    assert opt["network_g"] == first["network_g"]
    assert opt["datasets"]["val"] == first["datasets"]["val"]
    _, key, (low, high), _ = BLIND_TAGS[tag]
    drawn = {"low": low, "high": high, "spread": "root"} if key == "sigma" else [low, high]
    assert first["datasets"]["train"]["degradation"][key] == [low, high]
    assert opt["datasets"]["train"]["degradation"] == first["datasets"]["train"]["degradation"] | {key: drawn}
    assert "identity_start" not in opt["train"]


def test_colour_noise_of_unknown_level_draws_all_levels_alike_at_last():
    before, last = (load(f"small/train_RNAN_small_ColorDN_blind_{ending}") for ending in ("patch64", "evenly"))
    even = {"degradation": load("small/train_RNAN_small_ColorDN_blind")["datasets"]["train"]["degradation"]}
    assert last["datasets"]["train"] == before["datasets"]["train"] | even != before["datasets"]["train"]
    for key in ("network_g", "path"):
        assert last[key] == before[key]
    assert last["datasets"]["val"] == before["datasets"]["val"]


@pytest.mark.parametrize(("tag", "num_channel"), [("ColorDN_s70", 3), ("GrayDN_s70", 1)])
def test_medium_models_of_70_go_on_from_that_of_50_without_a_schedule(tag, num_channel):
    """In grey the layers next to the image do not fit, and the network begins as the identity."""
    first, opt = load("medium/train_RNAN_medium_ColorDN_s50"), load(f"medium/train_RNAN_medium_{tag}")
    start = {"pretrain_network_g": "rnan_plugin/weights/colordn_50_medium.pth", "strict_load_g": num_channel == 3}
    assert opt["path"] == first["path"] | start
    assert opt["network_g"] == first["network_g"] | {"num_in_ch": num_channel, "num_out_ch": num_channel}
    assert opt["datasets"]["train"]["degradation"]["sigma"] == 70
    assert (opt["train"]["optim_g"]["type"], opt["train"]["warmup_iter"]) == ("AdamWScheduleFree", -1)
    assert "scheduler" not in opt["train"]
    assert ("identity_start" in opt["train"]) == (num_channel == 1)


@pytest.mark.parametrize("tag", BLIND_TAGS)
@pytest.mark.parametrize("kind", ["train_RNAN", "small/train_RNAN_small"])
def test_unknown_levels_are_drawn_from_their_range(kind, tag):
    opt, (channels, key, levels, sets) = load(f"{kind}_{tag}"), BLIND_TAGS[tag]
    train = opt["datasets"]["train"]
    assert (train["channels"], train["degradation"][key]) == (channels, levels)
    assert opt["train"]["pixel_opt"]["type"] == "L1Loss"
    small = kind.startswith("small")
    assert sets_of(opt) == ({"BSD400_held_out"} if small else sets)
    net = opt["network_g"]
    assert (net["num_feat"], net["num_rab"], net["num_rnab"]) == ((32, 1, 1) if small else (64, 8, 2))
    low, high = levels
    entries = as_parsed(opt, is_train=True)["datasets"]
    looked_at = [entry["degradation"][key] for phase, entry in entries.items() if phase != "train"]
    assert len(looked_at) == 5 * len(sets_of(opt))
    assert all(isinstance(level, int) and low <= level <= high for level in looked_at)


def test_equal_budgets_have_about_equally_many_weights():
    names = {"train_equal_RNAN_CAR_q10", "train_equal_RNAN_local_CAR_q10", "train_equal_RNAN_no_mask_CAR_q10"}
    assert {file.stem for file in EQUAL_BUDGET} == names | {"train_equal_MSRResNet_CAR_q10"}
    with torch.device("meta"):
        nets = [build(load(f"equal_budget/{file.stem}")["network_g"]) for file in EQUAL_BUDGET]
    parameters = [sum(weight.numel() for weight in net.parameters()) for net in nets]
    assert max(parameters) < 1.06 * min(parameters)


@pytest.mark.parametrize("file", EVERY_FILE, ids=lambda file: file.stem)
def test_builds_and_passes_the_checks_up_to_the_missing_data(file, tmp_path, monkeypatch):
    opt = as_parsed(load(file.relative_to(OPTIONS).with_suffix("")), is_train=not file.stem.startswith("test"))
    assert opt["name"] == file.stem
    for phase, dataset in opt["datasets"].items():
        parse_dataset(dataset, phase)
    monkeypatch.chdir(tmp_path)
    assert check_values(opt, str(file), is_train=opt["is_train"]) == []
    check_fit(opt, str(file))
    with pytest.raises(UserError, match=r"dataroot_gt: datasets/.* not found") as error:
        check_option_file(opt, str(file))
    missing = ("dataroot_gt: datasets/", "path.pretrain_network_g: ")
    assert all(any(key in line for key in missing) for line in str(error.value).splitlines())  # nothing else is wrong
    assert list(doubts(opt)) == []  # no warning either, once the data are there


@pytest.mark.parametrize("tag", TAGS)
def test_train_and_test_agree_with_the_paper(tag):
    task, _, level = tag.partition("_")
    train, test, released = (load(f"{kind}_{tag}") for kind in ("train_RNAN", "test_RNAN", "test_RNAN_released"))
    number = int(level[1:]) if level else None
    scale = number if task == "SR" else 1

    assert train["network_g"] == test["network_g"]
    assert released["network_g"] == train["network_g"] | RELEASED
    assert {key: train["network_g"][key] for key in ("num_feat", "num_rab", "num_rnab")} == {
        "num_feat": 64,
        "num_rab": 8,
        "num_rnab": 2,
    }
    assert train["network_g"].get("upscale", 1) == train["scale"] == scale
    assert test["path"]["pretrain_network_g"] == f"experiments/{train['name']}/models/net_g_latest.pth"

    entries = [entry for opt in (train, test, released) for entry in opt["datasets"].values()]
    assert all(entry["degradation"] == entries[0]["degradation"] for entry in entries)
    assert all(entry["channels"] == CHANNELS[task] for entry in entries)
    if number:
        assert entries[0]["degradation"][LEVEL_KEY[task]] == number
    assert build_chain(entries[0]["degradation"], "x")
    for opt in (test, released):
        assert {entry["name"] for entry in opt["datasets"].values()} == SETS[task]
    assert {entry["name"] for phase, entry in train["datasets"].items() if phase != "train"} <= SETS[task]
    for opt in (train, test, released):
        for metric in opt["val"]["metrics"].values():
            assert metric["crop_border"] == (scale if task == "SR" else 0)
            assert metric["test_y_channel"] == (task == "SR")


@pytest.mark.parametrize("tag", TAGS)
def test_training_settings_are_the_papers(tag):
    opt = load(f"train_RNAN_{tag}")
    data, train = opt["datasets"]["train"], opt["train"]
    assert data["io_backend"]["type"] == "lmdb"
    assert data["dataroot_gt"] == "datasets/DIV2K/DIV2K_train_HR_sub.lmdb"
    assert data["batch_size_per_gpu"] == 16
    assert data["gt_size"] == 48 * opt["scale"]
    optimiser = {"type": "Adam", "lr": 1e-4, "weight_decay": 0, "betas": [0.9, 0.999], "eps": 1e-8}
    assert train["optim_g"] == optimiser
    schedule = train["scheduler"]
    assert schedule["gamma"] == 0.5
    assert schedule["milestones"] == list(range(200_000, train["total_iter"], 200_000))
    assert train["pixel_opt"]["type"] == ("L1Loss" if tag.startswith("SR") else "MSELoss")


def test_released_files_name_the_published_checkpoints():
    paths = [load(f"test_RNAN_released_{tag}")["path"]["pretrain_network_g"] for tag in TAGS]
    names = {re.fullmatch(r"weights/(.*)\.pth", path)[1] for path in paths}
    assert names == (
        {f"RNAN_F64G10P48L2N{n}" for n in (10, 30, 50, 70)}
        | {f"RNAN_Gray_F64G10P48L2N{n}" for n in (10, 30, 50, 70)}
        | {f"RNAN_CAR_Y_F64G10P48L2N{n}" for n in (10, 20, 30, 40)}
        | {"RNAN_Demosaic_RGB_F64G10P48L2N1"}
        | {f"RNAN_SR_F64G10P48BIX{n}" for n in (2, 3, 4)}
    )
