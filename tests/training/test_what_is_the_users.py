"""Nothing of the user's is lost or taken for the run's own: copies, logs of earlier runs, inputs, iterations done."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bad_files import noise, save, truncate
from conftest import Train
from tiny_runs import RUN, errors, state

from rnan_plugin.data.sampler import SeededDraws
from rnan_plugin.errors import UserError
from rnan_plugin.training.model import RestorationModel


def refused(capfd: pytest.CaptureFixture[str], start: Callable[[], object]) -> str:
    """The one line with which the check of an option file ends a training's start."""
    with pytest.raises(SystemExit) as end:
        start()
    assert end.value.code == 2
    (line,) = errors(capfd)
    return line


COPIES = ["models/net_g_good_2.pth", "models/net_g_02.pth", "training_states/keep_9.state"]


def test_copies_that_someone_made_stay_and_are_not_gone_on_from(train: Train, capfd: pytest.CaptureFixture) -> None:
    assert train(logger__save_checkpoint_freq=2) == 0
    for copy in COPIES:
        kind = "models/net_g_4.pth" if copy.endswith(".pth") else "training_states/4.state"
        shutil.copy(RUN / kind, RUN / copy)
    capfd.readouterr()
    assert train("--auto_resume", train__total_iter=6, logger__keep_last=1) == 0
    assert f"resume_state: {Path.cwd() / RUN}/training_states/4.state" in capfd.readouterr().err
    assert sorted(file.name for file in (RUN / "training_states").iterdir()) == ["6.state", "keep_9.state"]
    assert all((RUN / copy).exists() for copy in COPIES)
    assert not (RUN / "models/net_g_4.pth").exists()


def test_the_log_of_an_earlier_run_goes_with_it_where_the_new_one_has_none(train: Train) -> None:
    assert train(logger__use_tb_logger=True, train__total_iter=1) == 0
    log = next(Path("tb_logger/tiny").glob("events*"))
    assert train("--archive", train__total_iter=1) == 0
    assert not Path("tb_logger/tiny").exists()
    assert list(Path("tb_logger").glob(f"tiny_archived_*/{log.name}"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("path__pretrain_network_g", "experiments/tiny/models/net_g_1.pth"),
        ("path__pretrain_network_g", "elsewhere/net_g_1.pth"),
    ],
)
def test_inputs_are_not_moved_aside(train: Train, key: str, value: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(train__total_iter=1) == 0
    Path("elsewhere").symlink_to(RUN / "models")
    before = sorted(Path().rglob("*"))
    capfd.readouterr()
    line = refused(capfd, lambda: train("--archive", **{key: value}))
    assert f"{key.replace('__', '.')}: {value} lies in {Path.cwd() / RUN}, which is moved aside" in line
    assert sorted(Path().rglob("*")) == before


def test_images_are_not_moved_aside(train: Train, capfd: pytest.CaptureFixture[str]) -> None:
    folder = RUN / "images"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), np.zeros((32, 32, 3), np.uint8))
    dataset = {
        "name": "mine",
        "type": "RestorationDataset",
        "dataroot_gt": str(folder),
        "io_backend": {"type": "disk"},
    }
    dataset |= {"channels": "y", "degradation": {"type": "jpeg", "quality": 10}}
    line = refused(capfd, lambda: train(datasets__val=dataset))
    assert "datasets.val.dataroot_gt: " in line
    assert "which is moved aside" in line
    assert (folder / "a.png").exists()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda file: save(file, noise(32, 32, 4)), "4 channels (alpha?)"),
        (lambda file: truncate(save(file, noise(32, 32))), "unreadable or truncated image"),
    ],
)
def test_an_image_that_is_none_of_a_data_set_is_told_before_the_start(
    train: Train, capfd: pytest.CaptureFixture[str], make: Callable[[Path], Path], told: str
) -> None:
    make(Path("mine/a.png"))
    dataset = {"name": "mine", "type": "RestorationDataset", "dataroot_gt": "mine", "io_backend": {"type": "disk"}}
    dataset |= {"channels": "y", "degradation": {"type": "jpeg", "quality": 10}}
    line = refused(capfd, lambda: train(datasets__val=dataset))
    assert f"mine/a.png: {told}" in line
    assert not RUN.exists()


def fails_in_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise UserError("a.png: cut short")

    monkeypatch.setattr(RestorationModel, "validation", broken)


def fails_in_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    read = SeededDraws.__getitem__
    asked: list[Any] = []

    def third(self: SeededDraws, draw: Any) -> Any:
        asked.append(draw)
        if len(asked) > 4:  # two a batch
            raise UserError("a.png: cut short")
        return read(self, draw)

    monkeypatch.setattr(SeededDraws, "__getitem__", third)


@pytest.mark.parametrize("fails", [fails_in_validation, fails_in_reading])
def test_what_is_trained_is_saved_before_an_image_ends_it(
    train: Train, fails: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        fails(patched)
        assert train(logger__save_checkpoint_freq=1000, logger__use_tb_logger=True) == 2
    assert errors(capfd) == ["error: a.png: cut short"]
    assert state(2)["iter"] == 2
    assert train("--auto_resume", logger__save_checkpoint_freq=1000) == 0
    assert state(4)["validated"] == 4


@pytest.mark.parametrize("is_full", [False, True])
def test_a_stopped_run_says_whether_it_is_saved(
    train: Train, is_full: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    step = RestorationModel.optimize_parameters

    def stopped(self: RestorationModel, iteration: int) -> None:
        step(self, iteration)
        if iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    def full(*_: Any, **__: Any) -> None:
        raise UserError("net_g_3.pth: can't be written (no space)")

    monkeypatch.setattr(RestorationModel, "optimize_parameters", stopped)
    if is_full:
        monkeypatch.setattr(RestorationModel, "save_network", full)
    assert train(logger__save_checkpoint_freq=1000) == 143
    told = "but not saved" if is_full else "and saved; --auto_resume goes on from here"
    assert f"Stopped by SIGTERM {told}" in capfd.readouterr().err
    assert (RUN / "training_states/3.state").exists() != is_full
