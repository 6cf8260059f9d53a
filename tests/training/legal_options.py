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


def train(folder: Path, option_file: Path | str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rnan_plugin", "train", "-opt", str(option_file)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RNAN_")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
