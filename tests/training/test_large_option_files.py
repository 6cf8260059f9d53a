"""Option files that YAML's aliases blow up, or that hold very many slips: told shortly."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from changed_options import change
from legal_options import outcome

from rnan_plugin.training import launcher

BOMB = "&a [x,x,x,x,x,x,x,x,x]"
for _level in "bcdefghi":
    BOMB = f"&{_level} [{BOMB}" + f",*{chr(ord(_level) - 1)}" * 8 + "]"


@pytest.mark.parametrize("key", ["name", "model_type", "num_gpu", "scale", "train", "network_g", "device", "val"])
def test_an_alias_bomb_is_told_shortly(
    key: str,
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    legal.pop(key, None)
    Path("bomb.yml").write_text(f"{key}: {BOMB}\n{yaml.safe_dump(legal)}", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["rnan train", "-opt", "bomb.yml"])
    with pytest.raises(SystemExit, match="2"):
        launcher.parse_options(".")
    lines = capfd.readouterr().err
    assert lines.startswith("error: bomb.yml")
    assert len(lines) < 2000


NESTED = ["train.optim_g.lr", "train.optim_g.type", "train.scheduler.type", "train.pixel_opt.type", "val.metrics.psnr"]
NESTED += ["datasets.val.name", "datasets.val.degradation", "datasets.val.degradation.quality", "datasets.val.type"]
NESTED += ["datasets.train.degradation.type", "datasets.train.io_backend", "datasets.train.dataroot_gt", "val.metrics"]
NESTED += ["network_g.type", "network_g.num_feat", "path.pretrain_network_g", "logger.wandb", "logger.save_best"]
NESTED += ["train.perceptual_opt", "val.metrics.psnr.crop_border", "train.scheduler.milestones"]


@pytest.mark.parametrize("place", NESTED)
def test_an_alias_bomb_deeper_inside(
    place: str,
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    change(legal, {place: "BOMB"})
    Path("bomb.yml").write_text(f"bomb: {BOMB}\n" + yaml.safe_dump(legal).replace("BOMB", "*i"), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["rnan train", "-opt", "bomb.yml"])
    with pytest.raises(SystemExit, match="2"):
        launcher.parse_options(".")
    lines = capfd.readouterr().err
    assert lines.startswith("error: bomb.yml")
    assert len(lines) < 3000


def test_very_many_unknown_keys_are_a_few_lines(
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    legal["train"] |= {f"unknown_{number}": 1 for number in range(30_000)}
    lines = outcome(legal, monkeypatch, capfd)
    assert len(lines) == 21
    assert lines[-1] == "error: and 29980 more"
    assert "did you mean" not in lines[15]  # the nearest key is looked up for the first ones alone
