"""`restore` among links that lead nowhere, closed folders, and targets that are none: a line each, the others go on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from little_rights import bound, little_room, needs_bounds

from rnan_plugin.__main__ import main
from rnan_plugin.archs.rnan_arch import RNAN


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags that name a tiny network; a folder `in` with an image is beside it, where the test runs."""
    monkeypatch.chdir(tmp_path)
    arguments = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_rab": 1, "num_rnab": 0}
    torch.save({"params": RNAN(**arguments).state_dict(), "network_g": arguments}, "tiny.pth")
    Path("in").mkdir()
    cv2.imwrite("in/a.png", np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8))
    return ["--weights", "tiny.pth", "--jobs", "1"]


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("source", ["in", "in/*.png"])
def test_links_that_lead_nowhere_stop_no_other(
    source: str, network: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in/loop.png").symlink_to("loop.png")
    Path("in/nowhere.png").symlink_to("gone.png")
    assert main(["restore", source, "out", *network]) == 1
    assert [line.partition(": can't be read (")[0] for line in errors(capsys)] == [
        "error: in/loop.png",
        "error: in/nowhere.png",
    ]
    assert names("out") == ["a.png", "restore.jsonl"]


TARGETS = [
    ("loop", "is a link that leads nowhere, not a folder"),
    ("loop/x.png", "is a link that leads nowhere, not a folder"),
    ("loop.png", "is a link that leads nowhere, which no file is to replace"),
    ("nowhere", "is a link that leads nowhere, not a folder"),
    ("nowhere.png", "is a link that leads nowhere, which no file is to replace"),
    ("pipe.png", "is a pipe or device, which no file is to replace"),
    ("mine.png/", "mine.png is a file, not a folder"),
    ("n" * 256, "a name of 256 bytes, more than fit here"),
]


@pytest.mark.parametrize(("target", "told"), TARGETS)
def test_targets_that_are_none_are_one_line(
    target: str, told: str, network: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for link in ("loop", "loop.png"):
        Path(link).symlink_to(link)
    for link in ("nowhere", "nowhere.png"):
        Path(link).symlink_to("gone")
    os.mkfifo("pipe.png")
    Path("mine.png").touch()
    before = sorted(Path().rglob("*"))
    assert main(["restore", "in/a.png", target, *network, "--overwrite"]) == 2
    (line,) = errors(capsys)
    assert told in line
    assert sorted(Path().rglob("*")) == before


def test_a_target_that_ends_in_a_separator_is_a_folder(network: list[str]) -> None:
    assert main(["restore", "in/a.png", "new.png/", *network]) == 0
    assert names("new.png") == ["a.png", "restore.jsonl"]


@needs_bounds
def test_folders_that_may_not_be_entered_stop_no_other(network: list[str], tmp_path: Path) -> None:
    for name, mode in (("listed", 0o444), ("closed", 0o000)):
        Path("in", name).mkdir()
        Path("in", name, "b.png").touch()
        Path("in", name).chmod(mode)
    told = bound(tmp_path, "restore", "in", "out", *network)
    assert told.returncode == 1
    assert [line for line in told.stderr.splitlines() if line.startswith("error: ")] == [
        f"error: in/{name}: can't be read (Permission denied); check the folder's permissions"
        for name in ("closed", "listed")
    ]
    assert names("out") == ["a.png", "restore.jsonl"]
    told = bound(tmp_path, "restore", "in/listed/b.png", "out", *network)
    assert told.returncode == 2
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("error: ")]
    assert "in/listed/b.png: can't be read (Permission denied)" in line


@needs_bounds
@pytest.mark.parametrize(("mode", "told"), [(0o444, "can't be written"), (0o000, "can't be read")])
def test_a_record_that_is_closed_is_told_before_anything_is_written(
    mode: int, told: str, network: list[str], tmp_path: Path
) -> None:
    Path("out").mkdir()
    Path("out/restore.jsonl").touch(mode)
    said = bound(tmp_path, "restore", "in", "out", *network)
    assert said.returncode == 2
    (line,) = [line for line in said.stderr.splitlines() if line.startswith("error: ")]
    assert f"out/restore.jsonl: {told} (Permission denied)" in line
    assert names("out") == ["restore.jsonl"]


# Names

NAME = "bad\nerror: no line of its own\x1b[31m\u2028.png"


def test_names_with_line_breaks_and_escape_sequences_are_printed_in_one_line(
    network: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in", NAME).write_bytes(b"no image")
    Path("in", f"good{NAME}").write_bytes(Path("in/a.png").read_bytes())
    Path("in", f"{NAME}.txt").touch()
    assert main(["restore", "in", "out", *network]) == 1
    told = capsys.readouterr()
    escaped = r"bad\nerror: no line of its own\x1b[31m\u2028.png"
    (line,) = [line for line in told.err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: in/{escaped}: unreadable")
    assert f"in/good{escaped} -> out/good{escaped} (policy whole)" in told.out.split("\n")
    assert f"left out: in/{escaped}.txt ('.txt' is no ending of an image)" in told.out.split("\n")
    assert "\x1b[31m" not in told.out + told.err
    assert f"good{NAME}" in names("out")


# Full disks

FULL = 100_000  # bytes, more than a result has
MINE = "mine\n" * (FULL // 5 - 20)


@pytest.mark.parametrize("before", ["", MINE, f'{MINE}{{"image": "cut'])
def test_a_record_without_room_is_one_line_and_has_no_half_lines(
    before: str, network: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out/restore.jsonl").write_text(before)
    room = FULL if before else 600
    for _ in range(2):
        with little_room(room):
            assert main(["restore", "in", "out", *network]) == 2
        (line,) = errors(capsys)
        assert "out/restore.jsonl: can't be written (File too large); make room" in line
        assert Path("out/restore.jsonl").read_text() == (MINE if before else "") + '{"begun": ["a.png"]}\n'
        assert names("out") == ["a.png", "restore.jsonl"]
    assert main(["restore", "in", "out", *network]) == 0  # there is room again
    lines = Path("out/restore.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["image"] == "a.png"
