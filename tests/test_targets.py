"""What is refused as a target before any work, in one line; nothing is made meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rnan_plugin.errors import UserError
from rnan_plugin.targets import check_file, check_folder, check_new_file, real


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with one of each kind."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    Path("nowhere").symlink_to("gone")
    Path("to_folder").symlink_to("folder")
    Path("to_file").symlink_to("file")
    os.mkfifo("pipe")


REFUSED_FOLDERS = [
    ("file", "is a file, not a folder"),
    ("file/below", "is a file, not a folder"),
    ("loop", "is a link that leads nowhere, not a folder"),
    ("loop/below/deep", "is a link that leads nowhere, not a folder"),
    ("nowhere", "is a link that leads nowhere, not a folder"),
    ("pipe", "is a pipe or device, not a folder"),
    ("n" * 256, "a name of 256 bytes, more than fit here"),
    (f"new/{'é' * 128}/deep", "a name of 256 bytes, more than fit here"),
]
REFUSED_FILES = [
    ("folder", "is a folder, which no file is to replace"),
    ("loop", "is a link that leads nowhere, which no file"),
    ("nowhere", "is a link that leads nowhere, which no file"),
    ("pipe", "is a pipe or device, which no file"),
    ("to_file", "would replace its input"),
    ("./folder/../file", "would replace its input"),
    (f"new/{'n' * 256}", "a name of 256 bytes, more than fit here"),
    *REFUSED_FOLDERS[1:2],
]


@pytest.mark.parametrize(("folder", "told"), REFUSED_FOLDERS)
def test_folders_that_are_refused(folder: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_folder(Path(folder))


@pytest.mark.parametrize(("file", "told"), REFUSED_FILES)
def test_files_that_are_refused(file: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_file(Path(file), ["loop", "file"])


@pytest.mark.parametrize("folder", ["folder", "to_folder", "new/deep", "n" * 255, "to_folder/new"])
def test_folders_that_can_be_written_are_not_made(folder: str) -> None:
    before = sorted(Path().rglob("*"))
    assert check_folder(Path(folder)) == Path(folder)
    assert sorted(Path().rglob("*")) == before


def test_files_that_are_there_are_replaced_where_that_is_asked_for() -> None:
    check_new_file(Path("file"), overwrite=True)
    check_new_file(Path("new/file"), overwrite=False)
    with pytest.raises(UserError, match="file: exists already; name another file, or add --overwrite"):
        check_new_file(Path("file"), overwrite=False)


def test_links_to_themselves_lead_to_themselves() -> None:
    assert real("loop").name == "loop"
    assert real("to_file") == Path("file").absolute()
