"""Each command, given a path from which it can't read: one line that says why, and nothing is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from little_rights import bound_together, needs_bounds

from rnan_plugin.__main__ import main
from rnan_plugin.errors import one_line

CLOSED, LOOP = "can't be read (Permission denied)", "can't be read (Too many levels of symbolic links)"
LONG = "can't be read (File name too long)"
# By path what is told of it where a file is wanted, and where a folder is; None where it is one.
PATHS = {
    "closed/in": (CLOSED, CLOSED),
    "closed_file": (CLOSED, "is a file, not a folder"),
    "closed_folder": ("is a folder, not a file", CLOSED),
    "file": (None, "is a file, not a folder"),
    "folder": ("is a folder, not a file", None),
    "file/below": ("no such", "no such"),
    "gone": ("no such", "no such"),
    "nowhere": ("no such", "no such"),
    "loop": (LOOP, LOOP),
    "n" * 300: (LONG, LONG),
}
WANT_FILES = (
    "restore photo.png out.png --weights {}",
    "restore photo.png out.png -opt {}",
    "train -opt {}",
    "test -opt {}",
    "study {}",
    "evaluate --task car --level 10 set --weights {}",
    "evaluate --task car --level 10 set -opt {}",
    "evaluate --task car --level 10 set --input --lpips {} {}",
    "compare {}",
    "attention --pixel 1 1 photo.png out.png --weights {}",
    "export --to pth --weights {} out.pth",
    "export --to pth -opt {} out.pth",
    "convert {} out.pth",
    "prepare {}.zip out.lmdb",
)
WANT_FOLDERS = (
    "degrade --task car --level 10 {} out",
    "options --check --folder {}",
    "prepare {} out.lmdb",
    "verify {}",
    "sets {}",
    "evaluate --task car --level 10 {} --input",
    "evaluate --task car --level 10 set --restored {}",
    "compare of/{}.yml",
    "figure {} out.png",
)
CASES = [
    *((command, path, told[0]) for command in WANT_FILES for path, told in PATHS.items()),
    *((command, path, told[1]) for command in WANT_FOLDERS for path, told in PATHS.items()),
]
CASES = [case for case in CASES if case[2] is not None]


def write_comparisons(folder: Path) -> None:
    """A comparison file of each path, as a method's files."""
    for path in PATHS:
        comparison = {"task": "car", "level": 10, "sets": ["set"], "methods": {"F": {"type": "files", "files": path}}}
        file = folder / f"of/{path[:9]}.yml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(comparison))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with one of each kind, under every ending that a command adds."""
    folder = tmp_path_factory.mktemp("paths")
    for name in ("closed/in", "closed_folder", "folder", "set", "of"):
        (folder / name).mkdir(parents=True)
    for name in ("file", "closed_file", "closed_file.zip"):
        (folder / name).write_text("no YAML: [")
    for name in ("folder.zip", "closed_folder.zip"):
        (folder / name).mkdir()
    for name, target in (("loop", "loop"), ("nowhere", "gone"), ("loop.zip", "loop.zip"), ("nowhere.zip", "gone")):
        (folder / name).symlink_to(target)
    img = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for name in ("photo.png", "set/a.png"):
        cv2.imwrite(str(folder / name), img)
    write_comparisons(folder)
    shut = [folder / name for name in ("closed", "closed_folder", "closed_file", "closed_file.zip")]
    for file in shut:
        file.chmod(0)
    yield folder
    for file in shut:
        file.chmod(0o700)


def arguments(command: str, path: str) -> list[str]:
    short = path[:9] if command.startswith("compare of/") else path
    return [part.replace("{}", short) for part in command.split()]


@pytest.fixture(scope="module")
def results(place: Path) -> dict[tuple[str, str], tuple[int | None, list[str]]]:
    cases = [(command, path) for command, path, _ in CASES]
    ran = bound_together(place, [arguments(command, path) for command, path in cases])
    assert not {name.name for name in place.iterdir()} & {"out", "out.png", "out.pth", "out.lmdb", "results"}
    return dict(zip(cases, ran, strict=True))


@needs_bounds
@pytest.mark.parametrize(("command", "path", "told"), CASES)
def test_paths_from_which_nothing_can_be_read(
    command: str, path: str, told: str, results: dict[tuple[str, str], tuple[int | None, list[str]]]
) -> None:
    status, lines = results[command, path]
    assert (status, len(lines)) == (2, 1), lines
    assert lines[0].startswith("error: ")
    assert one_line(path) in lines[0]
    assert told in lines[0]


@pytest.mark.parametrize("command", [*WANT_FILES, *WANT_FOLDERS])
def test_empty_arguments_are_refused(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["" if "{}" in part else part for part in command.split()]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: an argument is empty, ")
    assert not list(tmp_path.iterdir())


def test_before_there_are_any_sets_all_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sets"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert all(line.split()[1:] == ["missing"] for line in lines)
