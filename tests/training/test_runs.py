"""Runs in this process: draws and seeds over resumes, validations made up for, states of other runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import Train, log_of, tiny_options
from tiny_runs import RUN, errors, state

import rnan_plugin.training.connect  # noqa: F401 - BasicSR has to know the plugin's classes
from rnan_plugin import checkpoints, device, progress
from rnan_plugin.checkpoints import read
from rnan_plugin.data.sampler import SeededDraws
from rnan_plugin.evaluation.study import Training
from rnan_plugin.training.launcher import _keep_drawn_seed
from rnan_plugin.training.model import RestorationModel


def test_no_draw_is_repeated_or_skipped_when_the_batch_changes(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    take = SeededDraws.__getitem__
    monkeypatch.setattr(SeededDraws, "__getitem__", lambda self, draw: (drawn.append(draw[1]), take(self, draw))[1])
    at = 0
    for batch, last in ((4, 4), (1, 8), (2, 10)):
        assert train("--auto_resume", batch=batch, train__total_iter=last) == 0
        at += batch * (last - (0 if last == 4 else 4 if last == 8 else 8))
        assert state(last)["draws"] == at
    assert drawn == list(range(24))


def test_state_without_draws_goes_on_by_iterations(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """As BasicSR's own script leaves it."""
    assert train(train__total_iter=2) == 0
    path = RUN / "training_states/2.state"
    stock = {key: value for key, value in read(path).items() if key not in {"draws", "validated"}}
    checkpoints.save_checkpoint(stock, path)
    drawn = []
    take = SeededDraws.__getitem__
    monkeypatch.setattr(SeededDraws, "__getitem__", lambda self, draw: (drawn.append(draw[1]), take(self, draw))[1])
    assert train("--auto_resume") == 0
    assert drawn == [4, 5, 6, 7]


def test_drawn_seed_is_kept_on_resuming(train: Train, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(train__total_iter=2, manual_seed=None) == 0
    seed = state(2)["options"]["manual_seed"]
    assert train("--auto_resume", manual_seed=None) == 0
    assert state(4)["options"]["manual_seed"] == seed
    assert "manual_seed:" not in "".join(re.findall("changed since.*", capfd.readouterr().out))
    assert train("--auto_resume", manual_seed=seed + 1, train__total_iter=6) == 0
    assert f"changed since iteration 4: manual_seed: {seed} -> {seed + 1}" in capfd.readouterr().out


def test_the_largest_seed_is_one_for_each_process_on_resuming_too() -> None:
    opt = {"seed_drawn": True, "manual_seed": 1, "rank": 1}
    _keep_drawn_seed(opt, {"options": {"manual_seed": 2**32 - 1}})
    assert (opt["manual_seed"], np.random.get_state()[1][0]) == (2**32 - 1, 0)


@pytest.mark.parametrize("is_told", [True, False])
def test_how_far_a_validation_is(
    train: Train, is_told: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0)
    assert train(train__total_iter=1, val__pbar=is_told) == 0
    assert ("held-out: 1 of 2 images" in capfd.readouterr().err) == is_told


def test_folders_of_a_run_that_a_file_names_are_passed_over_aloud(
    train: Train, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tiny_options(data)["path"] | {"experiments_root": "elsewhere"}
    assert train(train__total_iter=1, path=path) == 0
    assert f"path.experiments_root: passed over, it is {RUN.absolute()}" in capfd.readouterr().out
    assert not Path("elsewhere").exists()


DRAW = """
import sys, torch.distributed as dist
from rnan_plugin.training.launcher import _drawn_seed
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=int(sys.argv[2]), world_size=2)
print("seed", _drawn_seed())
"""


def test_drawn_seed_is_the_first_process_s_for_all(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DRAW, str(tmp_path / "meeting")]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, rank], **pipes) for rank in ("0", "1")]
    told = [process.communicate(timeout=200)[0].split()[-1] for process in processes]
    assert told[0] == told[1]
    assert 1 <= int(told[0]) <= 10000


def test_deterministic_chooses_reproducible_kernels(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    choose = device.choose_kernels
    monkeypatch.setattr(device, "choose_kernels", lambda *, reproducible: chosen.append(reproducible))
    assert train(train__total_iter=1, deterministic=True) == 0
    assert train("--archive", train__total_iter=1) == 0
    assert chosen == [True, False]
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        choose(reproducible=True)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        choose(reproducible=False)
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    assert torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()


# Validations that an interruption kept from being made


class Killed(BaseException):
    """Ends a training as SIGKILL would: nothing is written after it."""


def die_in_validation(monkeypatch: pytest.MonkeyPatch, iteration: int) -> None:
    def validation(self: Any, loader: Any, current: int, *rest: Any) -> None:
        if current == iteration:
            raise Killed
        genuine(self, loader, current, *rest)

    genuine = RestorationModel.validation
    monkeypatch.setattr(RestorationModel, "validation", validation)


@pytest.fixture
def undisturbed(train: Train, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Best scores and best weights of a training of five iterations that nobody disturbs; the run is gone."""
    assert train(train__total_iter=5) == 0
    assert state(5)["best"]["held-out"]["psnr"]["iter"] >= 2
    found = state(5)["best"], read(RUN / "models/net_g_best.pth")
    RUN.rename(tmp_path / "undisturbed")
    return found


def is_like(undisturbed: tuple[dict[str, Any], dict[str, Any]]) -> bool:
    best, weights = undisturbed
    found = read(RUN / "models/net_g_best.pth")
    same = all(
        torch.equal(value, found[key][name]) for key in ("params", "params_ema") for name, value in weights[key].items()
    )
    return same and state(5)["best"] == best


@pytest.mark.parametrize("iteration", [2, 4, 5])
def test_validation_that_a_kill_prevented_is_made_up_for(
    train: Train, undisturbed: Any, iteration: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between saving and the end of the validation; the last one is due because it is the last."""
    run = Training("tiny.yml", "tiny", 5)
    with monkeypatch.context() as patched:
        die_in_validation(patched, iteration)
        with pytest.raises(Killed):
            train(train__total_iter=5)
    assert state(iteration)["validated"] < iteration
    assert not run.finished
    assert train("--auto_resume", train__total_iter=5) == 0
    assert is_like(undisturbed)
    assert state(5)["validated"] == 5
    assert run.finished


def test_run_killed_between_its_first_weights_and_state_goes_on_in_its_folder(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(RestorationModel, "save_training_state", killed)
        with pytest.raises(Killed):
            train()
    assert (RUN / "models/net_g_2.pth").exists()
    assert train("--auto_resume") == 0
    assert [folder.name for folder in Path("experiments").iterdir() if folder.is_dir()] == ["tiny"]
    for file in (RUN / "training_states").iterdir():
        file.unlink()
    assert train("--auto_resume", train__total_iter=2) == 0  # what is left of a run are weights worth keeping
    assert list(Path("experiments").glob("tiny_archived_*/models/net_g_4.pth"))


@pytest.mark.parametrize("iteration", [2, 4, 5])
def test_signal_during_a_validation_leaves_with_its_status_and_loses_nothing(
    train: Train, undisturbed: Any, iteration: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def validation(self: Any, loader: Any, current: int, *rest: Any) -> None:
        if current == iteration:
            os.kill(os.getpid(), signal.SIGTERM)
        genuine(self, loader, current, *rest)

    genuine = RestorationModel.validation
    with monkeypatch.context() as patched:
        patched.setattr(RestorationModel, "validation", validation)
        assert train(train__total_iter=5) == 143
    assert not (RUN / "models/net_g_latest.pth").exists()
    assert not Training("tiny.yml", "tiny", 5).finished
    assert state(iteration)["iter"] == iteration  # not a step more
    assert train("--auto_resume", train__total_iter=5) == 0
    assert is_like(undisturbed)
    assert Training("tiny.yml", "tiny", 5).finished


def test_run_that_goes_on_is_not_finished_because_it_was_before(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(train__total_iter=2) == 0
    assert Training("tiny.yml", "tiny", 2).finished
    die_in_validation(monkeypatch, 4)
    with pytest.raises(Killed):
        train("--auto_resume")
    assert (RUN / "models/net_g_latest.pth").exists()  # of iteration 2
    assert not Training("tiny.yml", "tiny", 4).finished


def test_finished_run_is_not_validated_again(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(train__total_iter=2) == 0
    die_in_validation(monkeypatch, 2)
    assert train("--auto_resume", train__total_iter=2) == 0


def test_metric_that_is_new_since_the_state_has_a_best_too(train: Train, data: Path) -> None:
    metrics = tiny_options(data)["val"]["metrics"]
    assert train(val__metrics={"psnr": metrics["psnr"]}, train__total_iter=2) == 0
    assert train("--auto_resume", val__metrics=metrics) == 0
    best = state(4)["best"]["held-out"]
    assert set(best) == {"psnr", "ssim"}
    assert best["ssim"]["iter"] == 4


@pytest.mark.parametrize("slip", ["renamed", "removed", "without save_best before"])
def test_best_weights_are_chosen_by_the_first_set_of_today_s_option_file(train: Train, data: Path, slip: str) -> None:
    sets, logger = tiny_options(data)["datasets"], tiny_options(data)["logger"] | {"use_tb_logger": False}
    first = {**sets, "val": {**sets["val"], "name": "first"}, "val_2": {**sets["val"], "name": "second"}}
    later = {"train": sets["train"], "val": {**sets["val"], "name": {"removed": "second"}.get(slip, "other")}}
    without = {"datasets": later, "logger": logger}
    before = without if slip.startswith("without") else {"datasets": first}
    assert train(train__total_iter=2, **before) == 0
    (RUN / "models/net_g_best.pth").unlink(missing_ok=True)
    assert train("--auto_resume", datasets=later) == 0
    best = state(4)["best"][later["val"]["name"]]["psnr"]
    assert best["iter"] == 4
    found, last = read(RUN / "models/net_g_best.pth"), read(RUN / "models/net_g_4.pth")
    assert all(torch.equal(value, last["params_ema"][name]) for name, value in found["params_ema"].items())


def test_time_left_is_never_less_than_nothing(train: Train) -> None:
    assert train() == 0
    left = re.findall(r"eta: ([^,]*, )?(\d+:\d\d:\d\d)", log_of(Path()))
    assert len(left) == 4
    assert all(not days.startswith("-") for days, _ in left)
    assert left[-1] == ("", "0:00:00")


# States and option files


def test_state_of_another_run_is_refused(train: Train, capfd: pytest.CaptureFixture[str], data: Path) -> None:
    assert train(train__total_iter=2) == 0
    paths = tiny_options(data)["path"]
    for place in (RUN.absolute() / "training_states/2.state", RUN / "training_states/2.state", "2.state", "/2.state"):
        capfd.readouterr()
        assert train(name="other", path=paths | {"resume_state": str(place)}) == 2
        (line,) = errors(capfd)
        assert f"path.resume_state: {place} is not of this run, whose states are in" in line
    assert not Path("experiments/other").exists()
    own = paths | {"resume_state": str(RUN / "training_states/2.state")}
    assert train(path=own) == 0
    assert state(4)["iter"] == 4


def test_option_file_inside_its_own_run(train: Train) -> None:
    assert train(train__total_iter=2) == 0
    inside = RUN / "tiny.yml"
    before = inside.read_text(encoding="utf-8")
    assert train("--auto_resume", file=str(inside)) == 0
    assert inside.read_text(encoding="utf-8") == before
    assert train("--archive", file=str(inside)) == 0
    assert yaml.safe_load(inside.read_text(encoding="utf-8")) == yaml.safe_load(before)
    assert list(Path("experiments").glob("tiny_archived_*/tiny.yml"))


def test_what_a_killed_process_was_writing_is_removed(train: Train) -> None:
    assert train(train__total_iter=2) == 0
    leftovers = [RUN / folder / ".x.1a2b3c4d.partial.yml" for folder in ("", "models", "training_states")]
    for leftover in leftovers:
        leftover.touch()
    assert train("--auto_resume", train__total_iter=2) == 0
    assert not any(leftover.exists() for leftover in leftovers)


def test_option_file_with_a_byte_order_mark_has_a_copy_that_can_be_read(train: Train) -> None:
    assert train(train__total_iter=1) == 0
    Path("marked.yml").write_text("\ufeff" + Path("tiny.yml").read_text(encoding="utf-8"), encoding="utf-8")
    assert train("--auto_resume", file="marked.yml", train__total_iter=1) == 0
    copy = (RUN / "marked.yml").read_text(encoding="utf-8")
    assert "\ufeff" not in copy
    assert yaml.safe_load(copy) == yaml.safe_load(Path("tiny.yml").read_text(encoding="utf-8"))


def test_a_refused_resume_leaves_the_run_as_it_was(train: Train, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def made() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file() and path.suffix != ".log"}

    assert train(train__total_iter=4) == 0
    before, opt = made(), tiny_options(data)
    wider = opt["network_g"] | {"num_feat": 8}
    assert train("--auto_resume", network_g=wider, train__total_iter=6) == 2
    named = opt["path"] | {"resume_state": str(RUN / "training_states/2.state")}
    assert train(path=named, network_g=wider) == 2
    assert made() == before
    assert len(errors(capfd)) == 2
