"""Packing of a finished training into the package, by tools/small_models.py."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

from rnan_plugin import checkpoints
from rnan_plugin.errors import UserError
from rnan_plugin.inference.shipped import FOLDER, training_spent

sys.path.insert(0, str(REPOSITORY / "tools"))
import small_models

LOG = (
    "2026-11-28 22:08:58,776 INFO: [train..][epoch: 0, iter: 2,000, lr:(1e-6,)] [eta: 0:00:00, time (data): 1.8 (0.0)]"
)


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the weights that are packed, in the place of the package's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(small_models, "FOLDER", tmp_path)
    monkeypatch.setattr(small_models, "LOGS", tmp_path / "logs")
    return Path(shutil.copy(FOLDER / "colordn_0-75.pth", tmp_path))


def trained(name: str, factor: float) -> str:
    """A finished training whose best weights are the packed ones, times a factor; its option file."""
    weights = checkpoints.read(FOLDER / "colordn_0-75.pth")["params"]
    models = Path("experiments", name, "models")
    models.mkdir(parents=True)
    (models.parent / f"train_{name}.log").write_text(f"{LOG}\n", encoding="utf-8")
    torch.save({"params": {key: factor * value.float() for key, value in weights.items()}}, models / "net_g_best.pth")
    return str(REPOSITORY / f"options/small/{name}.yml")


@pytest.mark.parametrize(("which", "factor"), [("best", 0.5), ("mean", 0.75)])
def test_what_went_on_is_packed_with_its_earlier_cost(which: str, factor: float, packed: Path) -> None:
    before = checkpoints.read(packed)
    assert small_models.pack(trained("train_RNAN_small_ColorDN_blind_evenly", 0.5), which) == packed
    after = checkpoints.read(packed)
    for name, value in before["params"].items():
        torch.testing.assert_close(after["params"][name], (factor * value.float()).half(), rtol=0, atol=0)
    iterations, hours = training_spent(before)
    assert after["before"] == {"iterations": iterations, "hours": hours}
    assert (after["iterations"], after["hours"]) == (2000, 1.0)
    assert ("mean" in after) == (which == "mean")


def test_no_mean_of_weights_of_two_networks(packed: Path) -> None:
    code = packed.read_bytes()
    with pytest.raises(UserError, match=r"pretrain_network_g is not colordn_10\.pth"):
        small_models.pack(trained("train_RNAN_small_ColorDN_s10", 0.5), "mean")
    assert packed.read_bytes() == code
    assert not Path("colordn_10.pth").exists()
