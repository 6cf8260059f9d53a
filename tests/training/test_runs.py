"""Runs in this process: draws and seeds over resumes, validations made up for, locks, full disks."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import log_of, tiny_options, write_options

import rnan_plugin.training.connect  # noqa: F401 - BasicSR has to know the plugin's classes
from rnan_plugin import checkpoints, device
from rnan_plugin.__main__ import main
from rnan_plugin.checkpoints import read
from rnan_plugin.data.sampler import SeededDraws
from rnan_plugin.errors import UserError
from rnan_plugin.evaluation.study import Training
from rnan_plugin.training import run_folder, run_lock, validation
from rnan_plugin.training.model import RestorationModel

Train = Callable[..., int]
RUN = Path("experiments/tiny")


@pytest.fixture
def train(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Train]:
    """Train here with the tiny options, changed as asked (`train__total_iter=8`, `batch=4`); the exit status."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, file: str = "tiny.yml", batch: int = 2, workers: int = 0, **changes: Any) -> int:
        opt = tiny_options(data)
        opt["datasets"]["train"] |= {"num_worker_per_gpu": workers, "batch_size_per_gpu": batch}
        opt["logger"] |= {"save_best": "psnr", "use_tb_logger": False}
        opt["train"]["scheduler"]["periods"] = [100_000]
        for path, value in changes.items():
            section, _, key = path.rpartition("__")
            (opt[section] if section else opt)[key] = value
        write_options(tmp_path, opt)
        forget_logger()
        return main(["train", "-opt", file, *arguments])

    yield run
    forget_logger()


def forget_logger() -> None:
    """Let the next training begin a log of its own, as in a process of its own."""
    from basicsr.utils.logger import initialized_logger

    initialized_logger.clear()
    logging.getLogger("basicsr").handlers.clear()


def state(iteration: int) -> dict[str, Any]:
    return read(RUN / f"training_states/{iteration}.state")


def last_log() -> str:
    return max(RUN.glob("train_tiny_*.log"), key=lambda log: log.stat().st_mtime_ns).read_text(encoding="utf-8")


def errors(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]


# Draws and seeds


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


# Locks


HOLD = "from rnan_plugin.training.run_lock import *; hold_run(Path('experiments/tiny')); print('held'); input()"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works on the run."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD], cwd=tmp_path, **pipes) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("argument", ["--auto_resume", "--archive", "--auto-resume"])
def test_second_start_of_a_run_is_refused(
    train: Train, holder: subprocess.Popen[str], argument: str, capfd: pytest.CaptureFixture[str]
) -> None:
    RUN.mkdir()
    (RUN / "witness").touch()
    assert train(argument) == 2
    (line,) = errors(capfd)
    assert f"tiny: is being trained already, by process {holder.pid} on " in line
    assert [file.name for file in RUN.iterdir()] == ["witness"]
    holder.kill()
    holder.wait()
    assert train("--archive", train__total_iter=1) == 0


def test_other_runs_are_not_locked(train: Train, holder: subprocess.Popen[str]) -> None:
    assert holder.poll() is None
    assert train(name="other", train__total_iter=1) == 0


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_does_not_keep_a_run_from_starting(
    tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lockf(*_: Any) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(run_lock.fcntl, "lockf", lockf)
    run_lock.hold_run(tmp_path / "experiments/tiny")
    assert not (tmp_path / "experiments/tiny").exists()


def test_system_without_locks_makes_no_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "fcntl", None)
    run_lock.hold_run(tmp_path / "experiments/tiny")
    assert not list(tmp_path.iterdir())


def test_lock_ends_with_its_process_though_a_forked_one_lives_on(tmp_path: Path) -> None:
    """As data workers do for seconds after their training was killed."""
    code = [*HOLD.replace("; input()", "").split("; "), "import os", "if os.fork() == 0: input()"]
    command = [sys.executable, "-c", "\n".join(code)]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.wait(100) == 0  # the forked one waits for its input
        run_lock.hold_run(tmp_path / "experiments/tiny")
        process.communicate(b"\n")


# Full disks and folders that can't be written


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
