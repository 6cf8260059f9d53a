"""Full disks, folders that cannot be made, too little shared memory: told, and training goes on where it can."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Train, forget_logger, tiny_options, write_options
from tiny_runs import RUN, errors, state

import rnan_plugin.training.connect  # noqa: F401 - BasicSR has to know the plugin's classes
from rnan_plugin.__main__ import main
from rnan_plugin.data.sampler import SeededDraws
from rnan_plugin.errors import UserError
from rnan_plugin.training import run_folder, validation
from rnan_plugin.training.model import RestorationModel


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def without_room(path: Any) -> Any:
    raise UserError(f"{path}: can't be written (no space)")


def no_best(self: Any, nets: Any, label: str, iteration: Any, param_key: Any = "params") -> None:
    if iteration == "best":
        raise UserError("net_g_best.pth: can't be written (no space)")
    genuine_save_network(self, nets, label, iteration, param_key)


genuine_save_network = RestorationModel.save_network

DISKS = {
    "image": (validation, "_write_png", full, r"visualization.*: can't be written \(.*No space"),
    "option file": (run_folder, "atomic_path", without_room, r"tiny\.yml: can't be written \(.*no space"),
    "best": (RestorationModel, "save_network", no_best, r"net_g_best\.pth: can't be written.*were not saved"),
    "log": (logging.FileHandler, "flush", full, r"train_tiny_.*\.log: can't be written \(No space"),
    "log's beginning": (logging.FileHandler, "_open", full, r"train_tiny_.*\.log: can't be written \(No space"),
    "TensorBoard": (
        "tensorboard.summary.writer.record_writer.RecordWriter.write",
        full,
        r"tb_logger/tiny: can't be written \(No space left on device\); training goes on",
    ),
}


@pytest.mark.parametrize("what", DISKS)
def test_full_disk_is_told_and_training_goes_on(
    train: Train, what: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    *place, expected = DISKS[what]
    with monkeypatch.context() as patched:
        patched.setattr(*place)
        assert train(logger__use_tb_logger=True) == 0
        forget_logger()
    told = capfd.readouterr()
    assert re.search(expected, told.out + told.err), told.err
    assert "Traceback" not in told.err
    assert state(4)["validated"] == 4
    assert (RUN / "models/net_g_latest.pth").exists()


def test_iteration_that_could_not_be_saved_leaves_no_state(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its validation would write one, without the weights."""

    def no_fourth(self: Any, nets: Any, label: str, iteration: Any, param_key: Any = "params") -> None:
        if iteration == 4:
            raise UserError("net_g_4.pth: can't be written (no space)")
        genuine_save_network(self, nets, label, iteration, param_key)

    with monkeypatch.context() as patched:
        patched.setattr(RestorationModel, "save_network", no_fourth)
        assert train() == 0
    assert [file.name for file in (RUN / "training_states").iterdir()] == ["2.state"]
    assert train("--auto_resume") == 0
    assert state(4)["validated"] == 4


def test_log_of_tensorboard_without_a_folder_is_told(train: Train, capfd: pytest.CaptureFixture[str]) -> None:
    Path("tb_logger").touch()
    assert train(logger__use_tb_logger=True, train__total_iter=1) == 0
    assert "tb_logger/tiny: can't be" in capfd.readouterr().err


def test_results_that_cannot_be_made_are_one_line(train: Train, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(train__total_iter=1) == 0
    Path("results").touch()
    opt = yaml.safe_load(Path("tiny.yml").read_text(encoding="utf-8"))
    opt["path"] = {"pretrain_network_g": str(RUN / "models/net_g_1.pth")}
    opt["datasets"] = {"test": opt["datasets"]["val"]}
    Path("test.yml").write_text(yaml.safe_dump(opt), encoding="utf-8")
    forget_logger()
    capfd.readouterr()
    assert main(["test", "-opt", "test.yml"]) == 2
    (line,) = errors(capfd)
    assert "results" in line


@pytest.mark.parametrize("place", ["experiments", "experiments/tiny/models", "experiments/tiny/training_states"])
def test_run_that_cannot_be_made_is_one_line(train: Train, place: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A file where a folder has to be; of a run that was just begun, inside it too."""
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).touch()
    assert train("--auto_resume") == 2
    told = capfd.readouterr().err
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert "can't be made (" in line
    assert "Traceback" not in told


# Shared memory

IN_LITTLE_MEMORY = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"', "sh"]
CAN_MOUNT = (
    shutil.which("unshare") and not subprocess.run([*IN_LITTLE_MEMORY, "true"], check=False, stderr=-3).returncode
)


def train_in_little_memory(folder: Path, opt: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """As a process that has 64 KiB of shared memory."""
    write_options(folder, opt)
    command = [*IN_LITTLE_MEMORY, sys.executable, "-m", "rnan_plugin", "train", "-opt", "tiny.yml"]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(not CAN_MOUNT, reason="may not mount: needs root and unshare")
def test_shared_memory_that_is_too_small_is_told_before_the_start(data: Path, tmp_path: Path) -> None:
    opt = tiny_options(data)
    opt["datasets"]["train"] |= {"num_worker_per_gpu": 2, "batch_size_per_gpu": 16}
    result = train_in_little_memory(tmp_path, opt)
    assert result.returncode == 2
    assert re.search(
        r"^error: .*datasets\.train.*num_worker_per_gpu: 2 worker\(s\) hold 0\.1 MiB of batches in /dev/shm, which has "
        r"0\.1 MiB free; lower num_worker_per_gpu",
        result.stderr,
        re.MULTILINE,
    ), result.stderr
    assert not (tmp_path / "experiments").exists()
    opt["datasets"]["train"] |= {"num_worker_per_gpu": 0}
    assert train_in_little_memory(tmp_path, opt).returncode == 0


def test_a_data_worker_that_dies_is_one_line(
    train: Train, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As the system ends it when memory is short."""
    monkeypatch.setattr(SeededDraws, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert train(workers=1) == 2
    (line,) = errors(capfd)
    assert re.match(
        r"error: datasets\.train: DataLoader worker \(pid.*\) .*; memory may be short: lower num_work", line
    )
