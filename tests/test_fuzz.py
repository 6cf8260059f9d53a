"""Damaged files of every kind that is read: images, zip files, option files, checkpoints, LMDBs."""

from __future__ import annotations

import importlib.util
import os
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from conftest import REPOSITORY

EACH = 150  # damaged files of each kind, at least; tools/fuzz.py makes as many as there is time for
SECONDS = float(os.environ.get("RNAN_FUZZ_SECONDS", "0"))  # of all kinds together; CI takes two minutes


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", REPOSITORY / "tools/fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fuzz = load()
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's and torch's, of what is damaged
KEPT = sorted(path.name for path in (REPOSITORY / "tests/corpus").iterdir())


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_sound_files_are_read(target: str, tmp_path: Path) -> None:
    for code in fuzz.TARGETS[target][0]():
        assert fuzz.outcome(target, code, tmp_path) == "read"


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_damage_is_told(target: str, tmp_path: Path) -> None:
    ends: Counter[str] = Counter()
    end = time.monotonic() + SECONDS / len(fuzz.TARGETS)
    for _, code in fuzz.cases(0, [target]):
        ends[fuzz.outcome(target, code, tmp_path)] += 1
        if ends.total() >= EACH and time.monotonic() > end:
            break
    assert ends.keys() <= {"read", "told"}, next(iter(ends.keys() - {"read", "told"}))
    assert ends["told"] > ends.total() // 10


@pytest.mark.parametrize("name", KEPT)
def test_what_was_found_once_is_told(name: str, tmp_path: Path) -> None:
    code = (REPOSITORY / "tests/corpus" / name).read_bytes()
    assert fuzz.outcome(name.partition("-")[0], code, tmp_path) in {"read", "told"}
