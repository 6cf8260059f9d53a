"""Option files of tests: what cannot be tested is told before anything is made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from changed_options import REMOVED, change

import rnan_plugin.training.connect  # noqa: F401 - the toolbox has to know the plugin's classes
from rnan_plugin.__main__ import main
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.training import launcher


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
