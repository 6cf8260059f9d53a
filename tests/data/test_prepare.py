"""Preparing image sets: what users have of them, downloads that break off, runs that are killed, damage found."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cv2
import lmdb
import numpy as np
import pytest
from conftest import REPOSITORY

from rnan_plugin import device
from rnan_plugin.__main__ import main
from rnan_plugin.data import download as download_module
from rnan_plugin.data import image_store, pack_work
from rnan_plugin.data import prepare as prepare_module
from rnan_plugin.data.image_store import LmdbStore
from rnan_plugin.data.lmdb_writer import SKIPPED
from rnan_plugin.data.pack_work import PACK_INFO
from rnan_plugin.errors import UserError
from rnan_plugin.paper.image_sets import TRAINING_SETS, NamedSet

CODECS = ["png", "raw"]


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(folder: Path, names: list[str], side: int = 24, ending: str = ".png") -> dict[str, np.ndarray]:
    """Save noise images, and return them as RGB by name."""
    images = {name: noise((side, side + 3, 3), seed) for seed, name in enumerate(names)}
    for name, img in images.items():
        path = folder / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(ending, img[..., ::-1])[1].tobytes())
    return images


def content(root: Path) -> dict[bytes, bytes]:
    """All keys and values of an LMDB, and its index."""
    with lmdb.open(str(root), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {**dict(transaction.cursor()), b"meta": (root / "meta_info.txt").read_bytes()}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "rnan_plugin", *map(str, arguments)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_PROXY": "*"}


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


# What users have


@pytest.mark.parametrize("codec", CODECS)
def test_folder_to_verified_lmdb(codec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write(tmp_path / "in", ["b.1", "Größe/写真", "a"])
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb"), "--codec", codec]) == 0
    out = capsys.readouterr().out
    assert "3 images in" in out
    assert f"dataroot_gt: {tmp_path / 'x.lmdb'}\n    io_backend:\n      type: lmdb" in out
    store = LmdbStore(str(tmp_path / "x.lmdb"))
    assert list(store.names) == sorted(images)
    for name, img in images.items():
        np.testing.assert_array_equal(store.read(name), img)
    assert (tmp_path / "x.lmdb/meta_info.txt").read_text().splitlines()[0] == "Größe/写真.png (24,27,3) 1"
    assert main(["verify", str(tmp_path / "x.lmdb")]) == 0
    assert "3 images, no problems" in capsys.readouterr().out


def test_official_zip(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:04d}" for number in range(801, 901)]
    images = write(tmp_path / "DIV2K_valid_HR", names)
    archive = tmp_path / "DIV2K_valid_HR.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in names:
            file.write(tmp_path / f"DIV2K_valid_HR/{name}.png", f"DIV2K_valid_HR/{name}.png")
        file.writestr("__MACOSX/DIV2K_valid_HR/._0801.png", b"junk of another system")
        file.writestr("DIV2K_valid_HR/README.txt", b"no image")
    arguments = ["prepare", archive, tmp_path / "valid.lmdb", "--set", "div2k-valid", "--crop-size", 16, "--step", 8]
    assert "MD5 is" in error_of(capsys, *arguments)  # not the authors' file
    official = TRAINING_SETS["div2k-valid"]
    mine = NamedSet(100, None, official.numbers, official.url, download_module.md5_of(archive))
    monkeypatch.setitem(prepare_module.TRAINING_SETS, "div2k-valid", mine)
    assert main([str(argument) for argument in arguments]) == 0
    store = LmdbStore(str(tmp_path / "valid.lmdb"))
    assert len(store.names) == 100 * 2 * 3
    np.testing.assert_array_equal(store.read("0900_s006"), images["0900"][8:24, 11:27])


def test_several_sources_are_one_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "train", ["1", "2"])
    write(tmp_path / "test", ["3"])
    assert main(["prepare", str(tmp_path / "train"), str(tmp_path / "test"), str(tmp_path / "x.lmdb")]) == 0
    assert list(LmdbStore(str(tmp_path / "x.lmdb")).names) == ["1", "2", "3"]
    write(tmp_path / "test", ["2"])
    assert "two images of one name" in error_of(
        capsys, "prepare", tmp_path / "train", tmp_path / "test", tmp_path / "y.lmdb"
    )


def test_held_out_images_are_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", list("abcdefg"))
    arguments = ["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb"), "--hold-out", "3"]
    assert main(arguments) == 0
    assert list(LmdbStore(str(tmp_path / "x.lmdb")).names) == list("acdfg")
    assert list(LmdbStore(str(tmp_path / "x_held_out.lmdb")).names) == list("be")
    shutil.rmtree(tmp_path / "x.lmdb")  # as if it had been killed between the two
    assert main(arguments) == 0
    assert list(LmdbStore(str(tmp_path / "x.lmdb")).names) == list("acdfg")
    shutil.rmtree(tmp_path / "x.lmdb")
    write(tmp_path / "other", list("uvw"))
    others = ["prepare", str(tmp_path / "other"), *arguments[2:]]
    assert "x_held_out.lmdb: exists already, with other images" in error_of(capsys, *others)
    arguments[2] = str(tmp_path / "y.lmdb")
    assert "--hold-out 15: too few images" in error_of(capsys, *arguments[:-1], 15)
    assert "--hold-out 1:" in error_of(capsys, *arguments[:-1], 1)
    assert not (tmp_path / "y.lmdb").exists()


def test_incomplete_set_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", [f"{number:04d}" for number in range(2, 802)], side=2)
    line = error_of(capsys, "prepare", tmp_path / "in", tmp_path / "x.lmdb", "--set", "div2k")
    assert "not the set 'div2k': 1 missing: 0001; 1 not of the set: 0801" in line
    assert "801 images instead of 400" not in line
    (tmp_path / "in/0801.png").unlink()
    assert "799 images instead of 400" in error_of(
        capsys, "prepare", tmp_path / "in", tmp_path / "x.lmdb", "--set", "bsd400"
    )
    assert not (tmp_path / "x.lmdb").exists()


def test_damaged_zip_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    write(tmp_path / "in", ["a"])
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.write(tmp_path / "in/a.png", "a.png")
    code = bytearray((tmp_path / "b.zip").read_bytes())
    code[200] ^= 1
    (tmp_path / "b.zip").write_bytes(code)
    assert "a.zip: not a readable zip file" in error_of(capsys, "prepare", tmp_path / "a.zip", tmp_path / "x.lmdb")
    assert "b.zip/a.png: can't be read" in error_of(capsys, "prepare", tmp_path / "b.zip", tmp_path / "x.lmdb")
    assert "c.zip: no such file" in error_of(capsys, "prepare", tmp_path / "c.zip", tmp_path / "x.lmdb")
    assert "name what to pack" in error_of(capsys, "prepare", tmp_path / "x.lmdb")


# Downloads


class Server(ThreadingHTTPServer):
    """Serves one file with ranges, and breaks off after `budget` bytes as often as `breaks` says."""

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.breaks, self.budget = body, '"1"', 0, len(body) // 3
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/sets/set.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range") if self.headers.get("If-Range") == self.server.etag else None
        self.server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        rest = self.server.body[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.server.breaks:
            self.server.breaks -= 1
            rest = rest[: self.server.budget]
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download_module, "_CHUNK", 2**12)
    write(tmp_path / "in", [f"{index}" for index in range(20)], side=40)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        for path in sorted((tmp_path / "in").iterdir()):
            file.write(path, f"set/{path.name}")
    http = Server((tmp_path / "set.zip").read_bytes())
    thread = Thread(target=http.serve_forever)
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


def test_broken_download_goes_on_by_itself(server: Server, tmp_path: Path) -> None:
    server.breaks = 2
    assert main(["prepare", server.url, str(tmp_path / "new/x.lmdb")]) == 0
    assert len(LmdbStore(str(tmp_path / "new/x.lmdb")).names) == 20
    assert server.ranges[0] is None
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) for wanted in server.ranges[1:] if wanted]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1] < len(server.body)
    assert (tmp_path / "new/set.zip").read_bytes() == server.body
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["set.zip", "x.lmdb"]


def test_interrupted_download_goes_on_in_the_next_run(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "set.zip.part").write_bytes(server.body[:1000])
    (folder / "set.zip.etag").write_text(server.etag)
    assert download_module.download(server.url, folder).read_bytes() == server.body
    assert server.ranges == ["bytes=1000-"]
    assert download_module.download(server.url, folder) == folder / "set.zip"
    assert len(server.ranges) == 1  # it is there


def test_file_that_changed_on_the_server_is_begun_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/set.zip.part").write_bytes(b"old" * 100)
    (tmp_path / "new/set.zip.etag").write_text('"0"')
    assert download_module.download(server.url, tmp_path / "new").read_bytes() == server.body


def test_server_that_never_answers_is_one_line(server: Server, tmp_path: Path) -> None:
    server.breaks, server.budget = 10**6, 0
    with pytest.raises(UserError, match=r"broken off .*the same command goes on where it stopped"):
        download_module.download(server.url, tmp_path / "new")
    with pytest.raises(UserError, match="broken off"):
        download_module.download("http://127.0.0.1:1/set.zip", tmp_path / "new")


# Interruptions


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


def test_packing_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has neither fcntl nor resource."""
    code = "import sys; sys.modules['fcntl'] = None; from rnan_plugin.data import pack_work; print(pack_work.fcntl)"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    monkeypatch.setattr(pack_work, "fcntl", None)
    write(tmp_path / "in", ["a"])
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb")]) == 0
    monkeypatch.setitem(sys.modules, "resource", None)
    assert device.process_peak_mib() == 0


def test_wrong_target_is_told_before_anything_is_fetched_or_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in", list("abcd"))
    monkeypatch.setattr(prepare_module, "download", lambda *_: pytest.fail("downloaded"))
    arguments = ["prepare", tmp_path / "in", "http://127.0.0.1:1/x.zip"]
    assert "foo: the name must end in .lmdb" in error_of(capsys, *arguments, tmp_path / "foo", "--hold-out", 2)
    missing = error_of(capsys, *arguments, tmp_path / "no folder", tmp_path / "x.lmdb")
    assert "no folder: no such file or folder; check the path" in missing
    (tmp_path / "y.lmdb").symlink_to("nowhere")
    assert "y.lmdb: exists already" in error_of(capsys, *arguments, tmp_path / "y.lmdb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "y.lmdb"]


def test_dots_are_noted_where_basicsr_reads_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", ["a.v2"])
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb")]) == 0
    assert "note: names hold dots" in capsys.readouterr().out
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "y.lmdb"), "--codec", "raw"]) == 0
    assert "note:" not in capsys.readouterr().out


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


# Damage


def test_bad_images_can_be_left_out_and_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", ["a", "c"])
    (tmp_path / "in/b.png").write_bytes(b"no image")
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb"), "--skip-bad"]) == 0
    assert "1 images left out" in capsys.readouterr().out
    assert list(LmdbStore(str(tmp_path / "x.lmdb")).names) == ["a", "c"]
    assert (tmp_path / "x.lmdb" / SKIPPED).read_text().startswith(f"{tmp_path / 'in/b.png'}: unreadable")


def damage(root: Path, key: bytes, change: Callable[[bytearray], None]) -> None:
    for _, opened in image_store._environments.values():  # lmdb opens nothing twice in one process
        opened.close()
    image_store._environments.clear()
    with lmdb.open(str(root)) as environment, environment.begin(write=True) as transaction:
        value = bytearray(transaction.get(key))
        change(value)
        transaction.put(key, bytes(value))


@pytest.mark.parametrize("codec", CODECS)
def test_verify_finds_damage(codec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", ["a", "b", "c"])
    root = tmp_path / "x.lmdb"
    main(["prepare", str(tmp_path / "in"), str(root), "--codec", codec])

    def flip(value: bytearray) -> None:
        value[len(value) // 2] ^= 1

    def shorten(value: bytearray) -> None:
        del value[len(value) // 2 :]

    damage(root, b"a", flip)
    damage(root, b"b", shorten)
    index = (root / "meta_info.txt").read_text().replace("c.png (24,27,3)", "c.png (24,26,3)")
    (root / "meta_info.txt").write_text(f"{index}d.png (24,27,3) 1\n")
    capsys.readouterr()
    assert main(["verify", str(root)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0] == "d: named in meta_info.txt, not in the LMDB"
    assert lines[1].startswith("a: ")  # a PNG decoder may notice before the checksum does
    assert lines[2].startswith("b: ")
    assert lines[3] == "c: 24×27 pixels, meta_info.txt says 24×26"
    assert lines[4] == f"{root}: 4 images, 4 problems"


def test_checksum_of_a_png_that_decodes_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", ["a"])
    root = tmp_path / "x.lmdb"
    main(["prepare", str(tmp_path / "in"), str(root)])

    def append_bad_chunk(value: bytearray) -> None:
        end = value.rindex(b"IEND") - 4
        value[end:end] = b"\0\0\0\x01tEXtx" + (zlib.crc32(b"tEXtx") ^ 1).to_bytes(4, "big")

    damage(root, b"a", append_bad_chunk)
    capsys.readouterr()
    assert main(["verify", str(root)]) == 1
    assert capsys.readouterr().out.splitlines()[0].startswith("a: ")


# Validation sets


def test_validation_sets_say_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "abcde":
        (tmp_path / "Classic5").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"Classic5/{name}.png"), np.zeros((512, 512, 3), np.uint8))
    (tmp_path / "Kodak24").mkdir()
    for number in range(24):
        size = (768, 512) if number % 2 else (500, 768)
        cv2.imwrite(str(tmp_path / f"Kodak24/{number:02d}.png"), np.zeros((*size, 3), np.uint8))
    write(tmp_path / "Set5", ["baby", "bird"])
    assert main(["sets", str(tmp_path)]) == 1
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["Classic5"] == "complete"
    assert lines["Kodak24"] == "12 of another size than 768×512: 00, 02, 04, 06, 08, …"
    assert lines["Set5"] == "2 images instead of 5"
    assert lines["Urban100"] == "missing"
    assert len(lines) == 10


@pytest.mark.skipif("RNAN_REFERENCE_DIR" not in os.environ, reason="RNAN_REFERENCE_DIR is not set")
def test_validation_sets_at_hand_are_complete(capsys: pytest.CaptureFixture[str]) -> None:
    main(["sets", str(Path(os.environ["RNAN_REFERENCE_DIR"], "data/val"))])
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {name for name, state in lines.items() if state == "complete"} == {"Set5", "Classic5", "Kodak24"}
