"""What a release is made of beside the code: its notes, and one version everywhere."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import REPOSITORY

from rnan_plugin.errors import UserError
from rnan_plugin.version import __version__

sys.path.insert(0, str(REPOSITORY / "tools"))
from release_notes import release_notes

CHANGELOG = """# Changes

## 1.1.0 (2031-02-03)

Added
- One, see `## 9.9.9`.

| a | b |

## 1.0.0
- First.

## 0.9.0

"""


def test_notes_are_one_versions_section() -> None:
    assert release_notes(CHANGELOG, "1.1.0") == "Added\n- One, see `## 9.9.9`.\n\n| a | b |"
    assert release_notes(CHANGELOG, "1.0.0") == "- First."


@pytest.mark.parametrize(
    ("version", "words"), [("1.1.1", "did you mean '1.1.0'"), ("9.9.9", "no section"), ("0.9.0", "says nothing")]
)
def test_a_version_without_notes_is_one_line(version: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        release_notes(CHANGELOG, version)


def test_this_version_has_notes_that_can_be_printed() -> None:
    command = [sys.executable, "tools/release_notes.py"]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert printed.strip() in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "\n## " not in printed
    assert len(printed) > 100


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__


def test_the_pythons_are_named_alike() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    oldest = project["project"]["requires-python"].removeprefix(">=")
    prefix = "Programming Language :: Python :: 3."
    named = [line.removeprefix(prefix[:-2]) for line in project["project"]["classifiers"] if line.startswith(prefix)]
    assert named[0] == oldest == project["tool"]["mypy"]["python_version"]
    span = f"{named[0]} to {named[-1]}"
    for file in ("README.md", "scripts/setup_env.sh"):
        assert span in (REPOSITORY / file).read_text(encoding="utf-8")
