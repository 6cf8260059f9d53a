"""Folders through `restore`: names of results, what is left out, several at a time, kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from folder_runs import entries, files, run, save, tiny_weights

from rnan_plugin import progress
from rnan_plugin.errors import UserError
from rnan_plugin.inference import restore_files
from rnan_plugin.inference.plan import Naming, make_plan


@pytest.fixture
def weights(tmp_path: Path) -> str:
    return tiny_weights(tmp_path)


def names(plan_of: list[Path], target: Path, naming: Naming | None = None) -> list[str]:
    plan = make_plan([str(path) for path in plan_of], str(target), naming or Naming())
    return [str(job.out.relative_to(target)) for job in plan.jobs]


# What results are called


def test_a_folder_keeps_its_structure_and_both_of_one_stem(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "sub/b.jpg", "sub/deep/b.bmp"):
        save(tmp_path / "in" / name)
    wanted = ["a.jpg.png", "a.png", "sub/b.png", "sub/deep/b.png"]
    assert names([tmp_path / "in"], tmp_path / "out") == wanted


def test_the_same_format_keeps_an_ending_as_it_is_written(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.JPG", "b.PNG", "c.BMP"):
        save(tmp_path / "in" / name)
    assert names([tmp_path / "in"], tmp_path / "out", Naming("same")) == ["a.JPG", "a.jpg", "b.PNG", "c.png"]


def test_several_inputs_go_into_one_folder(tmp_path: Path) -> None:
    first, second = save(tmp_path / "x/a.jpg"), save(tmp_path / "y/a.jpg")
    assert names([first, second], tmp_path / "out") == ["a.jpg.png", "a.jpg-2.png"]
    save(tmp_path / "y/b.png")
    assert names([tmp_path / "x", tmp_path / "y"], tmp_path / "out") == ["x/a.png", "y/a.png", "y/b.png"]


def test_one_image_given_twice_is_one(tmp_path: Path) -> None:
    image = save(tmp_path / "in/a.jpg")
    assert names([image, tmp_path / "in", image], tmp_path / "out") == ["a.png"]


def test_a_target_whose_ending_is_none_of_an_image_is_a_folder(tmp_path: Path) -> None:
    assert names([save(tmp_path / "a.jpg")], tmp_path / "2026.11") == ["a.png"]


@pytest.mark.parametrize("target", ["out.pgn", "out.jepg", "a.pdf"])
def test_a_mistyped_ending_of_a_single_target_makes_no_folder(tmp_path: Path, target: str) -> None:
    """But where a folder is certain: several images, one that is there, a separator at the end."""
    image, out = save(tmp_path / "a.jpg"), tmp_path / target
    with pytest.raises(UserError, match=rf"{target}: '\.\w+' can't be written; end it in one of .*, or in / for a"):
        names([image], out)
    assert not out.exists()
    assert names([image, save(tmp_path / "b.jpg")], out) == ["a.png", "b.png"]
    assert str(make_plan([str(image)], f"{out}/", Naming()).jobs[0].out) == str(out / "a.png")
    out.mkdir()
    assert names([image], out) == ["a.png"]


def test_patterns_that_no_shell_replaced(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.png"):
        save(tmp_path / name)
    assert names([tmp_path / "*.jpg"], tmp_path / "out") == ["a.png", "b.png"]
    literal = save(tmp_path / "[1].png")
    assert names([literal], tmp_path / "out") == ["[1].png"]


@pytest.mark.parametrize(
    ("naming", "wanted"),
    [
        (Naming("jpg"), ["a.jpg", "b.jpeg", "c.jpg", "d.jpg"]),
        (Naming("same"), ["a.png", "b.jpeg", "c.tiff", "d.png"]),
        (Naming("webp", "_r"), ["a_r.webp", "b_r.webp", "c_r.webp", "d_r.webp"]),
    ],
)
def test_formats_and_suffixes(tmp_path: Path, naming: Naming, wanted: list[str]) -> None:
    for name in ("a.png", "b.jpeg", "c.tiff", "d.bmp"):
        save(tmp_path / "in" / name)
    assert names([tmp_path / "in"], tmp_path / "out", naming) == wanted


def test_a_result_never_replaces_an_input(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png")
    with pytest.raises(UserError, match=r"a\.png: the result would replace its input; name another target, or a --suf"):
        make_plan([str(tmp_path / "in")], str(tmp_path / "in"), Naming())
    assert names([tmp_path / "in"], tmp_path / "in", Naming(suffix="_restored")) == ["a_restored.png"]


def test_results_in_their_sources_folder_are_no_sources(tmp_path: Path, weights: str) -> None:
    save(tmp_path / "in/a.jpg")
    for _ in range(2):
        run(tmp_path / "in", tmp_path / "in", "--suffix", "_restored", "--weights", weights)
    assert files(tmp_path / "in") == ["a.jpg", "a_restored.png", "restore.jsonl"]
    for other in (tmp_path / "in/below", tmp_path):  # which have no record of them
        assert names([tmp_path / "in"], other) == ["a.png", "a_restored.png"]


def test_long_names_keep_their_ending(tmp_path: Path) -> None:
    (name,) = names([save(tmp_path / "in" / f"{'n' * 251}.png")], tmp_path / "out", Naming(suffix="_restored"))
    assert name.endswith("_restored.png")
    assert len(name) == 255


# What can't be read, what is left out, several at a time


def test_every_file_that_cannot_be_read_is_named_in_order(
    tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in/good.png")
    bad = [tmp_path / f"in/bad{number:02}.jpg" for number in range(25)]
    for file in bad:
        file.touch()
    run(tmp_path / "in", tmp_path / "out", "--weights", weights, "--jobs", "2", status=1)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in lines] == list(map(str, bad))


def test_a_folder_that_cannot_be_read_stops_no_other(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in/a.png")
    (tmp_path / "in/sub").mkdir()
    iterdir = Path.iterdir

    def refused(path: Path) -> Iterator[Path]:
        if path.name == "sub":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    run(tmp_path / "in", tmp_path / "out", "--weights", weights, status=1)
    assert capsys.readouterr().err.endswith(
        "in/sub: can't be read (Permission denied); check the folder's permissions\n"
    )
    assert (tmp_path / "out/a.png").is_file()


def test_a_pattern_that_finds_its_own_target_and_names_that_are_no_utf8(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9")
    save(tmp_path / "plain.png")
    (tmp_path / f"{name}.png").write_bytes((tmp_path / "plain.png").read_bytes())
    for _ in range(2):
        run("[!t]*", "out", "--weights", weights)  # without the weights
    for _ in range(2):
        run(".", ".", "--suffix", "_r", "--weights", weights)
        run("plain.png", "plain_r.png", ".", "--suffix", "_r", "--weights", weights)
    assert files(tmp_path / "out") == sorted([f"{name}.png", "plain.png", "restore.jsonl"])
    assert not [file for file in files(tmp_path) if "_r_r" in file and not file.startswith("out/")]


def test_interrupted_files_in_hand_are_finished_and_taken_down(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        save(tmp_path / f"in/{number}.png", number)
    waiting = restore_files.wait
    calls = iter(range(3))

    def interrupted(running: Any, return_when: str) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return waiting(running, return_when=return_when)

    monkeypatch.setattr(restore_files, "wait", interrupted)
    run(tmp_path / "in", tmp_path / "out", "--weights", weights, "--jobs", "2", status=130)
    made = [name for name in files(tmp_path / "out") if name.endswith(".png")]
    assert 2 <= len(made) < 6
    assert sorted(entry["image"] for entry in entries(tmp_path / "out")) == made


def test_files_that_are_left_out_are_named(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "in/a.png")
    for name in ("notes.txt", "README"):
        (tmp_path / "in" / name).touch()
    (tmp_path / "in/cut.png").write_bytes(b"no image")
    run(tmp_path / "in", tmp_path / "out", "--weights", weights, status=1)
    told = capsys.readouterr()
    assert f"left out: {tmp_path}/in/notes.txt ('.txt' is no ending of an image)" in told.out
    assert f"left out: {tmp_path}/in/README (no ending)" in told.out
    assert told.err.splitlines()[-1].startswith(f"error: {tmp_path}/in/cut.png: unreadable")
    assert files(tmp_path / "out") == ["a.png", "restore.jsonl"]


def test_several_at_a_time_give_what_one_gives(tmp_path: Path, weights: str) -> None:
    for number in range(7):
        save(tmp_path / f"in/{number}.png", number)
    for jobs in ("1", "4"):
        run(tmp_path / "in", tmp_path / jobs, "--weights", weights, "--jobs", jobs, "--threads", "1")
    assert files(tmp_path / "1") == files(tmp_path / "4")
    for name in files(tmp_path / "1")[:-1]:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "4" / name).read_bytes()


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, *range(0, 100, 4)])
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with progress.FileProgress(9) as shown:
        for _ in range(9):
            shown.step()
    told = capsys.readouterr().err.splitlines()
    assert told == ["4 of 9 images, about 15 s left", "7 of 9 images, about 7 s left"]
    clock = iter([0.0, *range(0, 100, 4)])
    with progress.FileProgress(9) as shown:
        for number in range(9):
            shown.step(was_done=number < 2)  # of an earlier run
    assert capsys.readouterr().err.startswith("4 of 9 images, about 30 s left")
    clock = iter([0.0, *range(0, 100, 4)])
    with progress.FileProgress(9, "packing", done=2) as shown:
        for _ in range(7):
            shown.step()
    assert capsys.readouterr().err.startswith("packing: 6 of 9 images, about 9 s left")


def test_a_large_image_has_the_memory_to_itself(tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_files, "_LARGE", 10)
    at_once: list[int] = []
    restore_one, running = restore_files.restore_one, [0]

    def counted(*arguments: Any) -> Any:
        running[0] += 1
        at_once.append(running[0])
        try:
            return restore_one(*arguments)
        finally:
            running[0] -= 1

    monkeypatch.setattr(restore_files, "restore_one", counted)
    for number in range(5):
        save(tmp_path / f"in/{number}.png", number)
    run(tmp_path / "in", tmp_path / "out", "--weights", weights, "--jobs", "3")
    assert at_once == [1] * 5


# Kills

RESTORE = "import sys; from rnan_plugin.__main__ import main; sys.exit(main(sys.argv[1:]))"


def killed_again_and_again(folder: Path, weights: str, count: int, kills: int) -> list[str]:
    """Restore a folder, killed at random moments; every source that was restored, in order."""
    for number in range(count):
        save(folder / f"in/{number:03}.png", number)
    draws, record = random.Random(0), folder / "out/restore.jsonl"
    command = ["restore", str(folder / "in"), str(folder / "out"), "--weights", weights, "--jobs", "1"]
    written: list[str] = []
    ends: list[int] = []
    before: dict[str, int] = {}
    for kill in range(kills + 1):
        process = subprocess.Popen([sys.executable, "-c", RESTORE, *command], stdout=-3, stderr=-3)
        wanted = count * kill // (kills + 1) + draws.randrange(2)
        while kill < kills and process.poll() is None and len(lines_of(record)) <= wanted:
            time.sleep(0.001)
        if kill < kills:
            process.send_signal(signal.SIGKILL)
        ends.append(process.wait())
        times = {path.name: path.stat().st_mtime_ns for path in (folder / "out").glob("*.png")}
        done = [json.loads(line)["image"] for line in lines_of(record)]
        assert all(times[name] == before[name] for name in before)  # what had a line was not restored again
        before = {name: times[name] for name in done}
        written = lines_of(record)
    assert ends[-1] == 0
    assert ends[0] == -signal.SIGKILL  # on a busy machine a later one may be done before it is looked at
    assert set(ends) <= {0, -signal.SIGKILL}
    return written


def lines_of(record: Path) -> list[str]:
    """Those of results."""
    lines = record.read_text("utf-8").split("\n")[:-1] if record.is_file() else []
    return [line for line in lines if not line.startswith('{"begun"')]


def test_a_folder_that_is_killed_ends_as_one_that_is_not(tmp_path: Path, weights: str) -> None:
    count, kills = (int(os.environ.get(name, few)) for name, few in (("RNAN_FOLDER", 24), ("RNAN_KILLS", 3)))
    written = killed_again_and_again(tmp_path, weights, count, kills)
    run(tmp_path / "in", tmp_path / "undisturbed", "--weights", weights, "--jobs", "1")
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed")
    for name in files(tmp_path / "out")[:-1]:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    images = [json.loads(line)["image"] for line in written]
    assert images == sorted(set(images))
    assert len(images) == count
