"""Shared fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


class HookEnvironment:
    """A virtual environment of its own, in which the environment hook can be enabled without harm.

    It shares the libraries of the environment that runs the tests, and has the plugin installed.
    """

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.site = Path(self.run(folder, "-c", code).stdout.strip())
        paths = [str(REPOSITORY), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        # Sorts before rnan_plugin.pth, as the .pth file of an editable installation does.
        (self.site / "__editable__.pth").write_text("\n".join(dict.fromkeys(paths)) + "\n")

    def run(
        self, cwd: Path, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the environment's Python in `cwd` with `environment` added."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RNAN_", "COV_"))}
        command = [str(self.python), *arguments]
        result = subprocess.run(
            command, cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def plugin(self, cwd: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of the plugin's commands."""
        return self.run(cwd, "-m", "rnan_plugin", *arguments, check=check)


@pytest.fixture(scope="session")
def hook_env(tmp_path_factory: pytest.TempPathFactory) -> HookEnvironment:
    return HookEnvironment(tmp_path_factory.mktemp("hook") / "venv")


@pytest.fixture
def enabled_env(hook_env: HookEnvironment, tmp_path: Path) -> Iterator[HookEnvironment]:
    hook_env.plugin(tmp_path, "enable")
    yield hook_env
    for name in ("rnan_plugin.pth", "rnan_plugin.start"):
        (hook_env.site / name).unlink(missing_ok=True)
