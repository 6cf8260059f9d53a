"""Trainings of seconds in this process, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rnan_plugin.training.connect  # noqa: F401 - BasicSR has to know the plugin's classes
from rnan_plugin.checkpoints import read

RUN = Path("experiments/tiny")


def state(iteration: int) -> dict[str, Any]:
    return read(RUN / f"training_states/{iteration}.state")


def errors(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
