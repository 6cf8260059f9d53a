"""Two processes and one run: the second is refused."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Train
from tiny_runs import RUN, errors

import rnan_plugin.training.connect  # noqa: F401 - BasicSR has to know the plugin's classes
from rnan_plugin.training import run_lock

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
