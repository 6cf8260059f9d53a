"""What `restore` skips as done, replaces as its own, and leaves alone as the user's, by the record beside results."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from folder_runs import entries, files, run, save, tiny_weights

from rnan_plugin.inference.record import Record


@pytest.fixture
def weights(tmp_path: Path) -> str:
    return tiny_weights(tmp_path)


def test_what_is_done_is_skipped_until_input_or_settings_change(
    tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        save(tmp_path / f"in/{number}.png", number)
    arguments = [tmp_path / "in", tmp_path / "out", "--weights", weights]
    run(*arguments)
    first = entries(tmp_path / "out")
    assert sorted(entry["source"] for entry in first) == [str(tmp_path / f"in/{number}.png") for number in range(3)]
    run(*arguments)
    assert capsys.readouterr().out.endswith("0 image(s) restored, 3 done already (--overwrite does them again)\n")
    save(tmp_path / "in/1.png", 7)  # another image
    (tmp_path / "out/2.png").unlink()
    run(*arguments)
    assert capsys.readouterr().out.endswith("2 image(s) restored, 1 done already (--overwrite does them again)\n")
    run(*arguments, "--self-ensemble")
    assert "3 image(s) restored\n" in capsys.readouterr().out
    run(*arguments, "--self-ensemble", "--overwrite")
    assert "3 image(s) restored\n" in capsys.readouterr().out
    assert sorted(entry["image"] for entry in entries(tmp_path / "out")) == ["0.png", "1.png", "2.png"]


def test_what_was_left_as_it_is_is_a_plain_copy_and_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = np.full((96, 96, 3), 120, np.uint8)
    cv2.imwrite(str(tmp_path / "clean.jpg"), clean, [cv2.IMWRITE_JPEG_QUALITY, 99])
    for said in ("0 image(s) restored, 1 left as they are\n", "0 image(s) restored, 1 done already"):
        run(tmp_path / "clean.jpg", tmp_path / "out")
        assert said in capsys.readouterr().out
    assert (tmp_path / "out/clean.jpg").read_bytes() == (tmp_path / "clean.jpg").read_bytes()
    assert files(tmp_path / "out") == ["clean.jpg", "restore.jsonl"]
    deep = np.full((96, 96, 3), 30_000, np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    run(tmp_path / "deep.png", tmp_path / "deep.jpg")
    assert "deep.png: deep.jpg can't hold 8 of 16 bits of the image" in capsys.readouterr().out
    run(tmp_path / "clean.jpg", tmp_path / "clean.png")  # another format, the same pixels
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "clean.png")), cv2.imread(str(tmp_path / "clean.jpg")))


@pytest.mark.parametrize("ending", ["jpg", "webp", "bmp", "PNG"])
@pytest.mark.parametrize("kind", [".png", ".webp", ".tif"])
def test_what_is_called_otherwise_is_a_plain_copy_too(kind: str, ending: str, tmp_path: Path) -> None:
    clean = np.full((96, 96, 4 if kind == ".png" else 3), 120, np.uint8)
    code = cv2.imencode(kind, clean)[1].tobytes()
    (tmp_path / f"clean.{ending}").write_bytes(code)
    run(tmp_path / f"clean.{ending}", tmp_path / "out", "--task", "colordn")
    assert (tmp_path / f"out/clean.{ending}").read_bytes() == code
    if ending != "bmp":
        run(tmp_path / f"clean.{ending}", tmp_path / f"again.{ending}")
        assert (tmp_path / f"again.{ending}").read_bytes() == code
        run(tmp_path / f"clean.{ending}", tmp_path / "same", "--format", "same")
        assert (tmp_path / f"same/clean.{ending}").read_bytes() == code


def test_a_record_that_a_kill_cut_short_loses_that_line_alone(tmp_path: Path) -> None:
    (tmp_path / "restore.jsonl").write_text(
        '{"image": "a", "n": 1}\nmine\n{"image": "a", "n": 2}\n{"image": "b', "utf-8"
    )
    record = Record(tmp_path)
    record.add({"image": "c"})
    record.tidy()
    lines = (tmp_path / "restore.jsonl").read_text("utf-8").splitlines()
    assert lines == ["mine", '{"image": "a", "n": 2}', '{"image": "c"}']


def test_files_of_the_users_are_not_replaced_unasked(
    tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in/a.jpg")
    own = save(tmp_path / "a.png", 5).read_bytes()
    for target in (tmp_path, tmp_path / "a.png"):
        run(tmp_path / "in/a.jpg", target, "--weights", weights, status=2)
        assert "a.png: is there already; name another target, a --suffix, or add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "a.png").read_bytes() == own
    run(tmp_path / "in/a.jpg", tmp_path / "a.png", "--weights", weights, "--overwrite")
    run(tmp_path / "in/a.jpg", tmp_path / "a.png", "--weights", weights, "--self-ensemble")  # now it is a result
    mine = save(tmp_path / "mine.png", 6).read_bytes()  # beside results, and none of them
    run(tmp_path / "in/a.jpg", tmp_path / "mine.png", "--weights", weights, status=2)
    assert (tmp_path / "mine.png").read_bytes() == mine


@pytest.mark.parametrize("record", ["empty", "of another image"])
def test_beside_results_files_of_the_users_are_not_replaced_either(
    tmp_path: Path, weights: str, record: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "photos/a.jpg")
    save(tmp_path / "other/b.jpg")
    own = save(tmp_path / "photos/b.png", 5).read_bytes()
    if record == "empty":
        (tmp_path / "photos/restore.jsonl").touch()
    else:
        run(tmp_path / "photos/a.jpg", tmp_path / "photos/a_restored.png", "--weights", weights)
    run(tmp_path / "other/b.jpg", tmp_path / "photos", "--weights", weights, status=2)
    assert "photos/b.png: is there already; name another target" in capsys.readouterr().err
    assert (tmp_path / "photos/b.png").read_bytes() == own


def test_a_result_of_another_photograph_is_not_replaced_unasked(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for year, seed in (("2024", 1), ("2025", 2)):
        save(tmp_path / year / "IMG_1.png", seed)
    run(tmp_path / "2024/IMG_1.png", tmp_path / "out", "--weights", weights)
    result = (tmp_path / "out/IMG_1.png").read_bytes()
    run(tmp_path / "2025/IMG_1.png", tmp_path / "out", "--weights", weights, status=2)
    assert "out/IMG_1.png: is there already; name another target" in capsys.readouterr().err
    assert (tmp_path / "out/IMG_1.png").read_bytes() == result
    monkeypatch.chdir(tmp_path / "2024")
    run("IMG_1.png", tmp_path / "out", "--weights", weights)  # the same, called otherwise
    assert "1 done already" in capsys.readouterr().out
    save(tmp_path / "2024/IMG_1.png", 3)
    run("IMG_1.png", tmp_path / "out", "--weights", weights)  # the same, edited
    assert "1 image(s) restored" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "2025")
    run("IMG_1.png", tmp_path / "out", "--weights", weights, status=2)  # another, called as that was
    assert "out/IMG_1.png: is there already; name another target" in capsys.readouterr().err


def test_a_result_that_was_edited_stays(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"in/{name}.png")
    arguments = [tmp_path / "in", tmp_path / "out", "--weights", weights]
    run(*arguments)
    (tmp_path / "out/a.png").write_text("edited")
    run(*arguments)
    printed = capsys.readouterr().out
    assert "2 done already" in printed
    assert (
        f"{tmp_path / 'out/a.png'}: was changed since it was restored, and stays; --overwrite makes it anew" in printed
    )
    assert "out/b.png: was" not in printed
    run(*arguments, "--self-ensemble", status=1)
    told = capsys.readouterr()
    assert "out/a.png: was changed since it was restored; name another target, a --suffix, or add --over" in told.err
    assert "1 image(s) restored\n" in told.out
    assert (tmp_path / "out/a.png").read_text() == "edited"
    run(*arguments, "--self-ensemble", "--overwrite")
    assert cv2.imread(str(tmp_path / "out/a.png")) is not None


def test_a_result_that_was_emptied_is_made_again(
    tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [save(tmp_path / "a.png"), tmp_path / "b.png", "--weights", weights]
    run(*arguments)
    before = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(b"")
    run(*arguments)
    assert "1 image(s) restored\n" in capsys.readouterr().out
    assert (tmp_path / "b.png").read_bytes() == before


def test_results_below_a_source_are_none_for_another_target(tmp_path: Path, weights: str) -> None:
    """But of a folder of results alone they are the sources."""
    save(tmp_path / "in/a.png")
    run(tmp_path / "in", tmp_path / "in/first", "--weights", weights)
    run(tmp_path / "in", tmp_path / "in/second", "--weights", weights)
    assert files(tmp_path / "in/second") == ["a.png", "restore.jsonl"]
    run(tmp_path / "in", tmp_path / "out", "--weights", weights)
    assert files(tmp_path / "out") == ["a.png", "restore.jsonl"]
    run(tmp_path / "in/first", tmp_path / "twice", "--weights", weights)
    assert files(tmp_path / "twice") == ["a.png", "restore.jsonl"]


def test_what_a_kill_left_without_its_line_is_a_result(tmp_path: Path, weights: str) -> None:
    save(tmp_path / "in/a.png")
    record = Record(tmp_path / "out")
    record.begin([tmp_path / "out/a.png"])
    save(tmp_path / "out/a.png", 9)
    run(tmp_path / "in", tmp_path / "out", "--weights", weights)
    (entry,) = entries(tmp_path / "out")
    assert (entry["source"], entry["from"]) == (str(tmp_path / "in/a.png"), "../in/a.png")
    assert entry["sha256"] == hashlib.sha256((tmp_path / "out/a.png").read_bytes()).hexdigest()


def test_what_a_kill_left_beside_its_source_is_no_source(tmp_path: Path, weights: str) -> None:
    save(tmp_path / "in/a.jpg")
    Record(tmp_path / "in").begin([tmp_path / "in/a_restored.png"])
    save(tmp_path / "in/a_restored.png", 9)
    run(tmp_path / "in", tmp_path / "in", "--suffix", "_restored", "--weights", weights)
    assert files(tmp_path / "in") == ["a.jpg", "a_restored.png", "restore.jsonl"]


def test_what_another_process_writes_is_left_to_it(tmp_path: Path, weights: str) -> None:
    save(tmp_path / "in/a.png")
    (tmp_path / "out").mkdir()
    with subprocess.Popen(["sleep", "60"]) as other:
        kept = tmp_path / f"out/.b.1a2b3c4d-{other.pid}.partial.png"
        kept.touch()
        (tmp_path / "out/.c.1a2b3c4d-999999999.partial.png").touch()
        (tmp_path / "out/.mine.partial.txt").touch()
        run(tmp_path / "in", tmp_path / "out", "--weights", weights)
        assert files(tmp_path / "out") == [kept.name, ".mine.partial.txt", "a.png", "restore.jsonl"]
        other.kill()
    record = Record(tmp_path / "out")
    with (tmp_path / "out/restore.jsonl").open("a", encoding="utf-8") as line:
        line.write('{"image": "b.png"}\n')
    record.add({"image": "a.png"})
    record.tidy()
    assert [entry["image"] for entry in entries(tmp_path / "out")] == ["a.png", "b.png"]
