"""Preparing a set from a server that breaks off, changes its file, or never answers."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from packing import write

from rnan_plugin.__main__ import main
from rnan_plugin.data import download as download_module
from rnan_plugin.data.image_store import LmdbStore
from rnan_plugin.errors import UserError


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
