"""Folders that may be listed and not entered end every command that reads folders in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_files import noise, save
from little_rights import bound, needs_bounds

COLOUR = ["--task", "colordn", "--level", "10"]


@needs_bounds
@pytest.mark.parametrize(
    "command",
    [
        ["degrade", "in", "out", *COLOUR],
        ["prepare", "in", "out.lmdb", "--skip-bad"],
        ["evaluate", "in", "--input", *COLOUR],
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_folders_that_may_not_be_entered_are_one_line(command: list[str], mode: int, tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", noise(12, 10))
    save(tmp_path / "in/listed/b.png", noise(12, 10))
    (tmp_path / "in/listed").chmod(mode)
    told = bound(tmp_path, *command)
    assert told.returncode == 2, told.stderr
    assert told.stderr.splitlines()[-1] == (
        "error: in/listed: can't be read (Permission denied); check the folder's permissions"
    )
    assert "Traceback" not in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
