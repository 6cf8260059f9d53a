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
import torch
from bad_files import noise, save, truncate
from conftest import TINY, Train, tiny_options
from tiny_runs import RUN, errors, state
from torch._inductor.exc import InvalidCxxCompiler

from rnan_plugin.data.sampler import DrawSampler, SeededDraws
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


@pytest.fixture
def paired(tmp_path: Path) -> dict[str, Any]:
    """A set of BasicSR's own type, of which the image drawn seventh is damaged; two make a batch."""
    for index in range(8):
        for kind in ("gt", "lq"):
            save(tmp_path / f"{kind}/{index}.png", noise(32, 32))
    order = [index for index, _ in DrawSampler(8, 0, 0, 8)]
    assert order[6] != 0  # which is looked at before the start
    truncate(tmp_path / f"gt/{order[6]}.png")
    (tmp_path / "names.txt").write_text("".join(f"{index}.png\n" for index in range(8)), encoding="utf-8")
    folders = {
        "meta_info_file": "names.txt",
        "dataroot_gt": "gt",
        "dataroot_lq": "lq",
        "io_backend": {"type": "disk"},
        "dataset_enlarge_ratio": 1,
    }
    settings = {"gt_size": 16, "use_hflip": True, "use_rot": True, "batch_size_per_gpu": 2}
    return {"name": "pairs", "type": "PairedImageDataset", **folders, **settings}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_of_another_set_costs_no_iteration_either(
    train: Train, data: Path, paired: dict[str, Any], workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    validated = tiny_options(data)["datasets"]["val"] | {"channels": "rgb"}
    sets = {"train": paired | {"num_worker_per_gpu": workers}, "val": validated}
    network = dict(TINY) | {"num_in_ch": 3, "num_out_ch": 3}
    assert train(datasets=sets, network_g=network, manual_seed=0, logger__save_checkpoint_freq=1000) == 2
    told = capfd.readouterr().err
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: datasets.train: ")
    assert f"gt/{[index for index, _ in DrawSampler(8, 0, 0, 8)][6]}.png" in line
    assert "Traceback" not in told
    assert [file.name for file in (RUN / "training_states").iterdir()] == ["3.state"]


def test_an_image_of_a_validation_on_another_set_is_one_line(
    train: Train, paired: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    network = dict(TINY) | {"num_in_ch": 3, "num_out_ch": 3}
    sets = {"train": {**paired, "dataroot_gt": "lq", "num_worker_per_gpu": 0}, "val": paired}
    assert train(datasets=sets, network_g=network, logger__save_checkpoint_freq=1000) == 2
    (line,) = errors(capfd)
    assert line.startswith("error: datasets, pairs: ")
    assert state(2)["validated"] == -1


def fails_at_the_third(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    genuine, asked = getattr(RestorationModel, name), []

    def method(self: RestorationModel, *arguments: Any, **named: Any) -> Any:
        asked.append(1)
        if len(asked) == 3:
            raise error
        return genuine(self, *arguments, **named)

    monkeypatch.setattr(RestorationModel, name, method)


def test_what_is_trained_is_saved_before_memory_runs_out(
    train: Train, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(logger__use_tb_logger=False) == 0
    undisturbed = state(4)
    with monkeypatch.context() as patched:
        fails_at_the_third(patched, "_backward", torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"))
        assert train("--archive", logger__save_checkpoint_freq=1000) == 2
    (line,) = errors(capfd)
    assert line.startswith("error: iteration 3: out of memory; lower datasets.train.batch_size_per_gpu or gt_size")
    assert state(2)["iter"] == 2
    assert train("--auto_resume", logger__save_checkpoint_freq=2) == 0
    for key in ("optimizers", "schedulers", "best", "draws"):
        assert repr(state(4)[key]) == repr(undisturbed[key])


def test_an_error_of_our_own_is_shown_whole_after_saving(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_at_the_third(monkeypatch, "_losses", AttributeError("ours"))
    with pytest.raises(AttributeError, match="ours"):
        train(logger__save_checkpoint_freq=1000)
    assert state(2)["iter"] == 2


def test_a_step_cut_short_is_not_saved(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, optimiser and average are then of different iterations."""
    fails_at_the_third(monkeypatch, "model_ema", torch.OutOfMemoryError("out of memory"))  # the first copies alone
    assert train(logger__save_checkpoint_freq=1000) == 2
    assert not list((RUN / "training_states").iterdir())


def test_a_network_that_can_t_be_compiled_here_is_one_line(
    train: Train, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def without_compiler(_: RestorationModel) -> None:
        raise InvalidCxxCompiler

    monkeypatch.setattr(RestorationModel, "_backward", without_compiler)
    assert train() == 2
    (line,) = errors(capfd)
    assert line.startswith("error: train.compile: the network can't be compiled here (No working C++ compiler found")


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
