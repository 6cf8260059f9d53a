"""Trainings with models of BasicSR's own: what the plugin's loop reads of their option files is checked too."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from changed_options import REMOVED, change
from legal_options import outcome, refused

from rnan_plugin.__main__ import main
from rnan_plugin.errors import UserError
from rnan_plugin.training import launcher
from rnan_plugin.training.other_models import check_other_model


@pytest.mark.parametrize("section", ["datasets.train", "train", "logger"])
@pytest.mark.parametrize("arguments", [[], ["--debug"]])
def test_basicsrs_own_models_need_the_sections_too(
    section: str,
    arguments: list[str],
    legal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    Path("sr.yml").write_text(yaml.safe_dump(change(legal, {"model_type": "SRModel", section: REMOVED})))
    monkeypatch.setattr(sys, "argv", ["rnan train", "-opt", "sr.yml", *arguments])
    with pytest.raises(SystemExit, match="2"):
        launcher.parse_options(".")
    (line,) = capfd.readouterr().err.splitlines()
    assert line == f"error: sr.yml: section '{section}' is missing; start from one of options/train_*.yml"


PAIRED = {"type": "PairedImageDataset", "dataroot_lq": "photos", "filename_tmpl": "{}", "degradation": REMOVED}
OTHERS = {  # of a training with a model of BasicSR's own
    "model_type": ("SRMode", "model_type: no 'SRMode' in BasicSR (did you mean 'SRModel'?)"),
    "network_g.type": ("RNNA", "network_g.type: no 'RNNA' in BasicSR"),
    "train.total_iter": (REMOVED, "train: key 'total_iter' is missing"),
    "logger.print_freq": ("often", "logger.print_freq: 'often' is not"),
    "logger.save_checkpoint_freq": (REMOVED, "logger: key 'save_checkpoint_freq' is missing"),
    "val.val_freq": (0, "val.val_freq: 0 is not"),
    "datasets.train.type": ("Foo", "datasets.train.type: no 'Foo' in BasicSR"),
    "datasets.train.name": (REMOVED, "datasets.train: key 'name' is missing"),
    "datasets.train.batch_size_per_gpu": (0, "datasets.train.batch_size_per_gpu: 0 is not"),
    "datasets.train.num_worker_per_gpu": (REMOVED, "datasets.train: key 'num_worker_per_gpu' is missing"),
    "datasets.train.dataset_enlarge_ratio": (0, "datasets.train.dataset_enlarge_ratio: 0 is not"),
}


@pytest.mark.parametrize("key", OTHERS)
def test_what_the_loop_reads_is_checked_for_other_models_too(
    key: str, legal: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By `rnan train` and the doctor; keys that only the model reads are for it to judge."""
    paired = {f"datasets.train.{name}": value for name, value in PAIRED.items()}
    base = change(legal, {"model_type": "SRModel", "train.of_its_own": 1, **paired})
    read = outcome(change(copy.deepcopy(base), {"train.total_iter": "1e1"}), monkeypatch, capfd)
    check_other_model(read, "small.yml")
    assert (read["train"]["total_iter"], read["train"]["of_its_own"]) == (10, 1)

    value, told = OTHERS[key]
    Path("small.yml").write_text(yaml.safe_dump(change(base, {key: value})), encoding="utf-8")
    with pytest.raises(UserError) as error:
        launcher.check_file("small.yml")
    refused(list(error.value.args), f"small.yml, {told}")
    try:
        status: Any = main(["train", "-opt", "small.yml"])
    except SystemExit as end:  # what BasicSR's own parsing would not do either
        status = end.code
    assert status == 2
    assert f"error: small.yml, {told}" in capfd.readouterr().err
    assert not Path("experiments").exists()
