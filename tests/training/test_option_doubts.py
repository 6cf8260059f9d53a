"""What is legal in an option file, but hardly meant, is a warning."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from changed_options import change
from legal_options import parse
from torch import nn

import rnan_plugin.training.connect  # noqa: F401 - the toolbox has to know the plugin's classes
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.toolbox.api import ARCH_REGISTRY
from rnan_plugin.training import launcher


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
    "debug": (
        {"name": "my_debug_run"},
        "name: as 'debug' is in it, BasicSR saves and validates at every eighth step, without a TensorBoard log",
    ),
    "samples in order": (
        {"datasets.train.use_shuffle": False},
        "datasets.train.use_shuffle: false, but samples are drawn in random order all the same, as in BasicSR",
    ),
    "no validation": ({"val": None}, "datasets: the sets to validate on are never looked at without a section val"),
    "rising rate": (
        {
            "train.scheduler": {
                "type": "CosineAnnealingRestartLR",
                "periods": [4],
                "restart_weights": [1],
                "eta_min": 0.1,
            },
        },
        "train.scheduler.eta_min: 0.1 is above optim_g.lr 0.0001: the rate rises",
    ),
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
    "a digit too many": (
        {"datasets.train.degradation": {"type": "awgn", "sigma": 500}},
        "datasets.train.degradation.sigma: 500 is on the scale 0 to 255: nothing but noise",
    ),
    "a lost minus": (
        {"train.optim_g.lr": 1e4},
        "train.optim_g.lr: 10000 is above 1, with which hardly any network learns; the paper's is 0.0001",
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


def test_a_test_of_luma_is_unlike_no_training(legal: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    one_channel = {"network_g.num_in_ch": 1, "network_g.num_out_ch": 1, "datasets.val.channels": "y", "train": None}
    options = change(legal, one_channel)
    network = {key: value for key, value in options["network_g"].items() if key != "type"}
    torch.save({"params": RNAN(**network).state_dict()}, "y.pth")
    options |= {"path": {"pretrain_network_g": "y.pth"}, "datasets": {"test": options["datasets"]["val"]}}
    Path("y.yml").write_text(yaml.safe_dump(options))
    launcher.check_file("y.yml")
    assert capsys.readouterr().err == ""


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
