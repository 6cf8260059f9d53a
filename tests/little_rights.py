"""Commands as a user whom permissions of files bind, which root is not; and with little room on the disk."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import REPOSITORY

_RIGHTS = "-dac_override,-dac_read_search"
_BOUND = ["setpriv", "--bounding-set", _RIGHTS, "--inh-caps", _RIGHTS] if os.geteuid() == 0 else []


def _can_be_bound() -> bool:
    if _BOUND and not shutil.which("setpriv"):
        return False
    told = subprocess.run([*_BOUND, "test", "-w", "/proc/self/status"], check=False, capture_output=True)
    return told.returncode == 1  # a file that nobody may write


needs_bounds = pytest.mark.skipif(not _can_be_bound(), reason="root, and can't leave its rights: needs setpriv")


def bound(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the plugin's commands in a folder."""
    command = [*_BOUND, sys.executable, "-m", "rnan_plugin", *arguments]
    return subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


@contextmanager
def little_room(size: int) -> Iterator[None]:
    """Writing beyond this size of a file fails within it, in the middle of a line."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


_ONE_AFTER_ANOTHER = """
import contextlib, io, json, sys
from rnan_plugin.__main__ import main

for line in sys.stdin:
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
            status = main(json.loads(line))
    except SystemExit as left:
        status = left.code
    except Exception as error:
        status, told = None, io.StringIO(repr(error))
    print(json.dumps([status, told.getvalue().splitlines()]), flush=True)
"""


def bound_together(folder: Path, commands: list[list[str]]) -> list[tuple[int | None, list[str]]]:
    """Run commands one after another in a process: of each its exit status and the lines of its errors."""
    lines = "".join(json.dumps(command) + "\n" for command in commands)
    python = [*_BOUND, sys.executable, "-W", "ignore", "-c", _ONE_AFTER_ANOTHER]
    ran = subprocess.run(
        python, cwd=folder, env=_environment(), input=lines, capture_output=True, text=True, check=True
    )
    return [(status, told) for status, told in map(json.loads, ran.stdout.splitlines())]
