"""A run's folder that this user may not read: one line, nothing begun anew in its place, nothing made or moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import tiny_options
from little_rights import bound_together, needs_bounds

from rnan_plugin.training.states import states_of

COMMANDS = ["train -opt tiny.yml", "train -opt tiny.yml --auto_resume", "study tiny.yml", "study tiny.yml --only-table"]
PLACES = ["experiments", "experiments/tiny", "experiments/tiny/training_states"]


def tree(folder: Path) -> list[str]:
    """All but hidden files, such as the lock of a run."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("[!.]*"))


@pytest.fixture(params=PLACES)
def closed(request: pytest.FixtureRequest, data: Path, tmp_path: Path) -> Iterator[Path]:
    """One of the folders above a training state, closed, where the test runs."""
    (tmp_path / "tiny.yml").write_text(yaml.safe_dump(tiny_options(data)), encoding="utf-8")
    for name in ("training_states/2.state", "models/net_g_2.pth"):
        file = tmp_path / "experiments/tiny" / name
        file.parent.mkdir(parents=True)
        file.touch()
    folder = tmp_path / request.param
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


@needs_bounds
def test_a_run_that_can_t_be_read_is_not_begun_anew(closed: Path, tmp_path: Path) -> None:
    results = bound_together(tmp_path, [command.split() for command in COMMANDS])
    for command, (status, lines) in zip(COMMANDS, results, strict=True):
        [error] = [line for line in lines if not line.startswith("warning: ")]
        assert status == 2, (command, lines)
        assert error.startswith(f"error: {tmp_path / 'experiments/tiny'}")
        assert "(Permission denied)" in error
    closed.chmod(0o700)
    assert tree(tmp_path) == [
        "experiments",
        "experiments/tiny",
        "experiments/tiny/models",
        "experiments/tiny/models/net_g_2.pth",
        "experiments/tiny/training_states",
        "experiments/tiny/training_states/2.state",
        "tiny.yml",
    ]


def test_states_are_those_of_a_folder_and_none_where_there_is_none(tmp_path: Path) -> None:
    for name in ("5.state", "10.state", "x.state", "7.pth"):
        (tmp_path / name).touch()
    assert list(states_of(tmp_path)) == [10, 5]
    assert states_of(tmp_path / "gone") == states_of(tmp_path / "5.state") == {}
