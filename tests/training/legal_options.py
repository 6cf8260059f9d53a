"""Training by the option file of the fixture `legal`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import rnan_plugin.training.connect  # noqa: F401 - the toolbox has to know the plugin's classes
from rnan_plugin.training import launcher


def parse(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    Path("small.yml").write_text(yaml.safe_dump(options), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["rnan_plugin train", "-opt", "small.yml"])
    return launcher.parse_options(str(Path.cwd()))


def outcome(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """The parsed options, or the lines of a refusal; anything else fails the test, and so does any new file."""
    Path("small.yml").write_text(yaml.safe_dump(options), encoding="utf-8")
    before = sorted(Path().rglob("*"))
    monkeypatch.setattr(sys, "argv", ["rnan train", "-opt", "small.yml"])
    capfd.readouterr()
    status: Any = 0
    parsed: Any = None
    try:
        parsed = launcher.parse_options(str(Path.cwd()))[0]
    except SystemExit as stop:
        status = stop.code
    if parsed is None:
        assert status == 2
        parsed = capfd.readouterr().err.splitlines()
        assert parsed
        assert all(line.startswith("error: ") for line in parsed)
    assert sorted(Path().rglob("*")) == before
    return parsed


def refused(lines: Any, *fragments: str) -> None:
    assert isinstance(lines, list), "was read"
    assert len(lines) == 1, lines
    assert all(fragment in lines[0] for fragment in fragments), lines


def train(folder: Path, option_file: Path | str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rnan_plugin", "train", "-opt", str(option_file)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RNAN_")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
