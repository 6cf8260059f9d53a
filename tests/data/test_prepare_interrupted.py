"""Preparing a set that is killed, interrupted, out of space or begun twice: what was packed is kept."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import lmdb
import numpy as np
import pytest
from packing import ENVIRONMENT, command, content, error_of, write

from rnan_plugin.__main__ import main
from rnan_plugin.data import lmdb_writer, pack_work
from rnan_plugin.data.image_store import LmdbStore
from rnan_plugin.data.pack_work import PACK_INFO
from rnan_plugin.errors import UserError


def big_set(folder: Path) -> None:
    """Seventy images: more than two transactions."""
    write(folder, [f"{index:02d}" for index in range(70)], side=600, ending=".bmp")


def test_killed_at_any_moment_and_run_again(tmp_path: Path) -> None:
    big_set(tmp_path / "in")
    start = time.monotonic()
    subprocess.run(command("prepare", tmp_path / "in", tmp_path / "whole.lmdb"), env=ENVIRONMENT, check=True)
    duration = time.monotonic() - start
    target, work = tmp_path / "x.lmdb", tmp_path / ".x.lmdb.partial"
    moments = random.Random(0)
    resumed = 0
    kills = 0
    while kills < 20:
        process = subprocess.Popen(command("prepare", tmp_path / "in", target), env=ENVIRONMENT, stdout=-1, stderr=-3)
        try:
            out, _ = process.communicate(timeout=moments.uniform(0, duration))
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
        resumed += b"were packed already" in out
        if not target.exists():
            kills += 1
            with pytest.raises(UserError, match="no such LMDB"):
                LmdbStore(str(target))
            continue
        assert not work.exists()
        assert content(target) == content(tmp_path / "whole.lmdb")
        kills += process.returncode != 0  # killed while verifying
        for file in target.iterdir():
            file.unlink()
        target.rmdir()
    done = subprocess.run(command("prepare", tmp_path / "in", target), env=ENVIRONMENT, check=True, capture_output=True)
    assert resumed or b"were packed already" in done.stdout
    assert content(target) == content(tmp_path / "whole.lmdb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "whole.lmdb", "x.lmdb"]


def until(condition: Callable[[], bool]) -> None:
    """Wait for something another process does; give up after a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def entries(work: Path) -> int:
    with lmdb.open(str(work), readonly=True, lock=False) as environment:
        return int(environment.stat()["entries"])


def test_ctrl_c_keeps_what_is_packed(tmp_path: Path) -> None:
    big_set(tmp_path / "in")
    for index, file in itertools.product(range(5), list((tmp_path / "in").iterdir())):
        file.with_stem(f"{file.stem}_{index}").symlink_to(file)  # enough work to be met in the middle of it
    work = tmp_path / ".x.lmdb.partial"
    arguments = command("prepare", tmp_path / "in", tmp_path / "x.lmdb")

    def heed_interrupts() -> None:  # which a shell makes the tests ignore where it runs them in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipes = {"stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    process = subprocess.Popen(arguments, preexec_fn=heed_interrupts, **pipes)  # noqa: PLW1509
    until(lambda: (work / "data.mdb").exists() and (work / "data.mdb").stat().st_size > 2**24)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert entries(work) > 0
    assert not (tmp_path / "x.lmdb").exists()
    done = subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert "images were packed already by an interrupted run" in done.stdout


def test_full_disk_is_one_line_and_keeps_what_is_packed(tmp_path: Path) -> None:
    big_set(tmp_path / "in")

    def little_room() -> None:  # writing beyond fails as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (48 * 2**20, resource.RLIM_INFINITY))

    arguments = command("prepare", tmp_path / "in", tmp_path / "x.lmdb")
    full = subprocess.run(
        arguments, env=ENVIRONMENT, capture_output=True, text=True, check=False, preexec_fn=little_room
    )
    line = full.stderr.strip().splitlines()[-1]
    assert full.returncode == 2
    assert line.startswith(f"error: {tmp_path / 'x.lmdb'}: can't be written (")
    assert line.endswith("the same command goes on")
    assert entries(tmp_path / ".x.lmdb.partial") > 0
    done = subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert "images were packed already by an interrupted run" in done.stdout
    assert len(LmdbStore(str(tmp_path / "x.lmdb")).names) == 70


class Broken:
    """An LMDB's environment on a broken or full disk."""

    def begin(self, **_: object) -> None:
        raise lmdb.Error("mdb_txn_commit: Input/output error")

    def path(self) -> str:
        return "x.lmdb"


@pytest.mark.parametrize(("free", "told"), [(2**20, "No space left on device"), (2**40, "Input/output error")])
def test_an_error_of_the_library_on_a_full_disk_says_so(free: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_writer.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises((OSError, lmdb.Error), match=told):
        lmdb_writer._Batch(Broken()).commit()


@pytest.mark.parametrize("name", ["n" * 246, "n" * 250])
def test_names_as_long_as_the_file_system_takes(name: str, tmp_path: Path) -> None:
    write(tmp_path / "in", ["a"])
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / f"{name}.lmdb")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"in", f"{name}.lmdb"}


def test_names_that_are_too_long_are_told_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", ["a"])
    for name, more in (("n" * 251, []), ("n" * 242, ["--hold-out", "2"])):
        told = error_of(capsys, "prepare", tmp_path / "in", tmp_path / f"{name}.lmdb", *more)
        assert "more than fit here; choose a shorter one" in told
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_other_images_or_another_layout_begin_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", ["a", "b"])
    (tmp_path / "in/c.png").write_bytes(b"no image")
    assert "c.png: unreadable" in error_of(capsys, "prepare", tmp_path / "in", tmp_path / "x.lmdb")
    assert entries(tmp_path / ".x.lmdb.partial") == 2
    (tmp_path / "in/c.png").unlink()
    changed = write(tmp_path / "in", ["b", "a"])  # other pixels under the same names
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb")]) == 0
    assert "packed already" not in capsys.readouterr().out
    np.testing.assert_array_equal(LmdbStore(str(tmp_path / "x.lmdb")).read("a"), changed["a"])


def test_killed_after_packing_is_verified_and_finished_by_the_same_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in", ["a", "b"])
    arguments = ["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb")]
    check = pack_work.check_lmdb

    def killed(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pack_work, "check_lmdb", killed)
    assert main(arguments) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.lmdb.partial", "in"]
    monkeypatch.setattr(pack_work, "check_lmdb", check)
    assert main(arguments) == 0
    assert "2 images were packed already by an interrupted run" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "x.lmdb"]


def test_what_is_not_read_back_as_packed_takes_no_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in", ["a", "b"])
    check = pack_work.check_lmdb

    def on_a_bad_disk(root: str) -> tuple[int, list[str]]:
        with (Path(root) / "data.mdb").open("rb+") as file:
            position = file.read().rindex(b"IDAT") + 20
            file.seek(position)
            file.write(b"damage")
        return check(root)

    monkeypatch.setattr(pack_work, "check_lmdb", on_a_bad_disk)
    line = error_of(capsys, "prepare", tmp_path / "in", tmp_path / "x.lmdb")
    assert "x.lmdb: not made (read back, 1 damaged, the first: " in line
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    monkeypatch.setattr(pack_work, "check_lmdb", check)
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb")]) == 0


@pytest.mark.parametrize("info", [b"\xff\xfe", b"{", b"[" * 100_000, b"", b"null"])
def test_damaged_note_of_an_interrupted_run_begins_again(info: bytes, tmp_path: Path) -> None:
    write(tmp_path / "in", ["a"])
    work = tmp_path / ".x.lmdb.partial"
    (work / "folder").mkdir(parents=True)
    (work / PACK_INFO).write_bytes(info)
    (work / "data.mdb").write_bytes(b"junk")
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb")]) == 0
    assert sorted(path.name for path in (tmp_path / "x.lmdb").iterdir()) == [
        "data.mdb",
        "lock.mdb",
        "meta_info.txt",
        PACK_INFO,
    ]


def test_beginning_cut_short_is_begun_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", [f"{index}" for index in range(9)])
    (tmp_path / "in/z.png").write_bytes(b"no image")
    assert "z.png: unreadable" in error_of(capsys, "prepare", tmp_path / "in", tmp_path / "x.lmdb")
    data = tmp_path / ".x.lmdb.partial/data.mdb"
    os.truncate(data, data.stat().st_size // 2)  # reading on in it would end the process
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb"), "--skip-bad"]) == 0
    assert "packed already" not in capsys.readouterr().out


def test_two_runs_at_once_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", ["a"])
    work = tmp_path / ".x.lmdb.partial"
    work.mkdir()
    (work / PACK_INFO).write_text("{}")
    handle = os.open(work, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert "another process is packing it" in error_of(capsys, "prepare", tmp_path / "in", tmp_path / "x.lmdb")
    os.close(handle)
    assert (work / PACK_INFO).read_text() == "{}"
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb")]) == 0
