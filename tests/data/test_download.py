"""Downloads from a server that lies and breaks off in every way: the file, or one line, and never a wrong file."""

from __future__ import annotations

import gzip
import io
import itertools
import random
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from rnan_plugin.__main__ import main
from rnan_plugin.data import download as download_module
from rnan_plugin.data.download import download, file_name, masked
from rnan_plugin.errors import UserError


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("set/a.png", random.Random(0).randbytes(60_000))
    return buffer.getvalue()


BODY = zip_bytes()
HTML = b"<!DOCTYPE html><html>Your session has expired</html>"
HALF = len(BODY) // 2


class Handler(BaseHTTPRequestHandler):
    """Answers by the server's list of replies, the last one again and again."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append({key: self.headers.get(key) for key in ("Range", "If-Range", "Authorization")})
        replies = self.server.replies
        (replies.pop(0) if len(replies) > 1 else replies[0])(self)
        self.close_connection = True

    def say(self, status: int, body: bytes, **headers: object) -> None:
        """Send a status, headers (`_` for `-`), and bytes, unchecked."""
        lines = [f"HTTP/1.1 {status} Reason"]
        for key, values in headers.items():
            for value in values if isinstance(values, list) else [values]:
                lines.append(f"{key.replace('_', '-')}: {value}")
        self.wfile.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body)

    @property
    def start(self) -> int:
        """First byte that was asked for."""
        return int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Serves one file."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[Callable[[Handler], None]] = [honest]
        self.asked: list[dict[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/sets/x.zip"

    def handle_error(self, *_: object) -> None:
        pass


def honest(to: Handler, end: int | None = None, **more: object) -> None:
    """The file, or the part that was asked for; `end` breaks off there."""
    sent, size = BODY[to.start : end], len(BODY) - to.start
    if to.headers.get("Range"):
        more = {"Content_Range": f"bytes {to.start}-{len(BODY) - 1}/{len(BODY)}", **more}
    to.say(206 if to.headers.get("Range") else 200, sent, **{"ETag": '"1"', "Content_Length": size, **more})


def breaks(to: Handler) -> None:
    honest(to, HALF)


def saying(status: int, body: bytes = b"", **headers: object) -> Callable[[Handler], None]:
    return lambda to: to.say(status, body, **headers)


def raw(data: bytes) -> Callable[[Handler], None]:
    return lambda to: to.wfile.write(data) and None


def with_headers(**headers: object) -> Callable[[Handler], None]:
    return lambda to: honest(to, **headers)


def breaking_with(**headers: object) -> Callable[[Handler], None]:
    return lambda to: honest(to, HALF, **headers)


def part_from(shift: int) -> Callable[[Handler], None]:
    """A part that begins elsewhere, and says so."""

    def reply(to: Handler) -> None:
        if not to.headers.get("Range"):
            return honest(to)
        first = max(0, to.start + shift)
        stated = f"bytes {first}-{len(BODY) - 1}/{len(BODY)}"
        return to.say(206, BODY[first:], ETag='"1"', Content_Range=stated, Content_Length=len(BODY) - first)

    return reply


CHUNKED = {"Transfer_Encoding": "chunked", "Content_Length": []}

# What the server does, and what comes of it: the file.
MENDED: dict[str, list[Callable[[Handler], None]]] = {
    "breaks twice": [breaks, lambda to: honest(to, HALF + 9000), honest],
    "breaks before the head": [raw(b""), honest],
    "breaks within the head": [raw(b"HTTP/1.1 200 OK\r\nContent-Le"), honest],
    "no answer in HTTP": [raw(b"SSH-2.0-OpenSSH\r\n\r\n"), honest],
    "500": [saying(500, HTML), honest],
    "502, 503, 504": [saying(502), saying(503), saying(504), honest],
    "429": [saying(429), honest],
    "503 in the middle": [breaks, saying(503), honest],
    "part from the beginning": [breaks, part_from(-(10**9)), honest],
    "part from a byte before": [breaks, part_from(-1), honest],
    "part from a byte behind": [breaks, part_from(1), honest],
    "part of nothing": [breaks, saying(206, BODY, Content_Range="bytes */5"), honest],
    "part in words": [breaks, with_headers(Content_Range="all of it"), honest],
    "several parts": [breaks, saying(206, b"--x", Content_Type="multipart/byteranges; boundary=x"), honest],
    "part of another file": [breaks, with_headers(ETag='"2"'), honest],
    "part that was not asked for": [with_headers(Content_Length=len(BODY)), honest],
    "unasked 206": [saying(206, BODY[5:], Content_Range=f"bytes 5-{len(BODY) - 1}/{len(BODY)}"), honest],
    "part without its range": [breaks, lambda to: to.say(206, BODY[to.start :], Content_Length=len(BODY) - to.start)],
    "whole file instead of a part": [breaks, saying(200, BODY, ETag='"2"', Content_Length=len(BODY))],
    "beyond the end": [breaks, saying(416), honest],
    "beyond another end": [breaks, saying(416, Content_Range="bytes */7"), honest],
    "tag that is not ASCII": [breaking_with(ETag='"\xe9\xff"'), with_headers(ETag='"\xe9\xff"')],
    "weak tag": [breaking_with(ETag='W/"1"'), with_headers(ETag='W/"1"')],
    "weak tag and a date": [breaking_with(ETag='W/"1"', Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT"), honest],
    "no tag": [breaking_with(ETag=[]), with_headers(ETag=[])],
    "length in words": [with_headers(Content_Length="abc")],
    "length in words, breaks": [breaking_with(Content_Length="abc"), honest],
    "negative length": [with_headers(Content_Length="-5")],
    "length twice": [with_headers(Content_Length=[len(BODY), len(BODY)])],
    "no length": [with_headers(Content_Length=[])],
    "no length, breaks": [breaking_with(Content_Length=[]), honest],
    "short body, no length": [saying(200, BODY[:HALF]), honest],
    "nothing": [saying(200, b"", Content_Length=0), honest],
    "chunked": [saying(200, b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), **CHUNKED)],
    "chunked, breaks": [saying(200, b"%x\r\n%b" % (len(BODY), BODY[:HALF]), ETag='"1"', **CHUNKED), honest],
    "chunked, damaged": [saying(200, b"zz\r\n" + BODY, **CHUNKED), honest],
    "compressed on the way": [saying(200, gzip.compress(BODY), Content_Encoding="gzip")],
    "redirected": [lambda to: to.say(302, b"", Location="/other/y.zip", Content_Length=0), honest],
    "length too large": [with_headers(Content_Length=len(BODY) + 5), honest],
}

# One line, with these words.
TOLD: dict[str, tuple[Callable[[Handler], None], str]] = {
    "web page": (
        saying(200, HTML, Content_Length=len(HTML)),
        r"sent no zip file, but b'<!DOCTYPE html>.*check the URL",
    ),
    "web page without length": (saying(200, HTML), "sent no zip file"),
    "web page, chunked": (saying(200, b"%x\r\n%b\r\n0\r\n\r\n" % (len(HTML), HTML), **CHUNKED), "sent no zip file"),
    "begins as a zip file": (saying(200, b"PK\3\4" + HTML, Content_Length=4 + len(HTML)), "no whole zip file"),
    "two bytes": (saying(200, b"PK", Content_Length=2), "no whole zip file"),
    "404": (saying(404, HTML), r"refused \(404 Reason\); check the URL"),
    "403": (saying(403), "refused"),
    "204": (saying(204), r"refused \(204"),
    "304": (saying(304), r"refused \(304"),
    "always 503": (saying(503), "broken off .the server answers 503"),
    "never more": (lambda to: honest(to, max(to.start, HALF)), "the same command goes on where it stopped"),
    "always another part": (
        lambda to: to.say(206, b"x", Content_Range="bytes 7-7/8"),
        "another part than was asked for",
    ),
    "always beyond the end": (saying(416), "does not fit"),
    "two lengths": (with_headers(Content_Length=[5, 6]), "can't be downloaded .InvalidHeader"),
    "redirected for ever": (lambda to: to.say(302, b"", Location="/sets/x.zip", Content_Length=0), "TooManyRedirects"),
    "redirected to a file": (saying(302, Location="file:///etc/passwd", Content_Length=0), "InvalidSchema"),
    "redirected to nonsense": (saying(302, Location="http://[::1", Content_Length=0), "x.zip: "),
    "silence": (raw(b""), "broken off"),
    "head without end": (raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200), "broken off"),
    "line without end": (raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"), "broken off"),
    "damaged compression": (saying(200, b"\x1f\x8b\x08junk", Content_Encoding="gzip"), "broken off"),
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download_module, "_PAUSE", 0)
    http = Server()
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("case", MENDED)
def test_what_may_pass_is_tried_again(case: str, server: Server, tmp_path: Path) -> None:
    server.replies = list(MENDED[case])
    assert download(server.url, tmp_path).read_bytes() == BODY
    assert names(tmp_path) == ["x.zip"]


@pytest.mark.parametrize("case", TOLD)
def test_what_does_not_pass_is_one_line(case: str, server: Server, tmp_path: Path) -> None:
    reply, words = TOLD[case]
    server.replies = [reply]
    with pytest.raises(UserError, match=words) as error:
        download(server.url, tmp_path)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith(server.url)
    assert not (tmp_path / "x.zip").exists()
    assert len(server.asked) <= 40
    server.replies = [honest]  # whatever was kept is of use, or does no harm
    assert download(server.url, tmp_path).read_bytes() == BODY
    assert names(tmp_path) == ["x.zip"]


def test_there_are_many_lies() -> None:
    assert len(MENDED) + len(TOLD) >= 50


def test_line_that_breaks_again_and_again_advances(server: Server, tmp_path: Path) -> None:
    step = 9000
    server.replies = [lambda to: honest(to, to.start + step)]
    assert download(server.url, tmp_path).read_bytes() == BODY
    starts = [int((asked["Range"] or "bytes=0-")[6:-1]) for asked in server.asked]
    assert len(starts) > download_module._ATTEMPTS
    gains = [after - before for before, after in itertools.pairwise(starts)]
    assert min(gains) > step - download_module._CHUNK
    assert download_module._CHUNK <= 2**14


def test_whole_part_of_a_killed_run_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.zip.part").write_bytes(BODY)
    (tmp_path / "x.zip.etag").write_bytes(b'"1"')
    server.replies = [saying(416, Content_Range=f"bytes */{len(BODY)}"), saying(404)]
    assert download(server.url, tmp_path).read_bytes() == BODY
    assert names(tmp_path) == ["x.zip"]


@pytest.mark.parametrize("tag", [b"\xff\x00", b'"1"\nX: y', b"", "é".encode()])
def test_damaged_tag_begins_again(tag: bytes, server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.zip.part").write_bytes(b"junk")
    (tmp_path / "x.zip.etag").write_bytes(tag)
    server.replies = [lambda to: to.say(200, BODY, Content_Length=len(BODY))]
    assert download(server.url, tmp_path).read_bytes() == BODY


def test_what_arrived_survives_a_web_page(server: Server, tmp_path: Path) -> None:
    server.replies = [breaks, saying(200, HTML)]
    with pytest.raises(UserError, match="sent no zip file"):
        download(server.url, tmp_path)
    assert (tmp_path / "x.zip.part").read_bytes() == BODY[:HALF][: (tmp_path / "x.zip.part").stat().st_size]
    assert (tmp_path / "x.zip.part").stat().st_size > HALF - download_module._CHUNK


def test_wrong_file_of_an_older_run_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(HTML)
    with pytest.raises(UserError, match=r"x\.zip: is there already, but no zip file; remove it"):
        download(server.url, tmp_path)


def test_folder_that_cannot_be_made_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be written"):
        download(server.url, tmp_path / "file" / "in")
    with pytest.raises(UserError, match="can't be written"):
        download(server.url, tmp_path / ("n" * 300))


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://[::1/x.zip",
        "http://host:port/x.zip",
        "http://host:99999/x.zip",
        "http://host:0/x.zip",
        "http:///x.zip",
        "http://",
        "://x.zip",
        "ftp://host/x.zip",
        "file:///etc/x.zip",
        "http://user:secret@/x.zip",
        "http://user:secret@[/x.zip",
        "http://h/\0.zip",
        f"http://{'h' * 70}/x.zip",
        f"http://{'h.' * 200}/x.zip",
        "http://*.x/x.zip",
        "http://.x/x.zip",
        "http://%zz/x.zip",
        f"http://h/{'n' * 300}.zip",
        f"http://h/{'é' * 150}.zip",
        "http://h/x.png",
        "http://h/",
    ],
)
def test_wrong_urls_are_one_line(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download_module, "_PAUSE", 0)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    assert main(["prepare", url, str(tmp_path / "x.lmdb")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert "secret" not in err
    assert names(tmp_path) == []


def no_network(*_: Any, **__: Any) -> None:
    raise OSError("no network in this test")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://user:secret@host/x.zip", "http://user:***@host/x.zip"),
        ("https://user:se@cr:et@host:80/a/x.zip", "https://user:***@host:80/a/x.zip"),
        ("http://user:sec/ret@host/x.zip", "http://user:***@host/x.zip"),
        ("http://user:sec?ret@host/x.zip", "http://user:***@host/x.zip"),
        ("http://:secret@host/x.zip", "http://:***@host/x.zip"),
        ("http://secret@host/x.zip", "http://***@host/x.zip"),
        ("http://host/x.zip?token=secret&a=b", "http://host/x.zip?***"),
        ("http://host:8080/a@2/x.zip", "http://host:8080/a@2/x.zip"),
        ("http://user:secret@[::1", "http://user:***@[::1"),
        ("http://host/x\n.zip", "http://host/x\\n.zip"),
    ],
)
def test_secrets_are_masked(url: str, told: str) -> None:
    assert masked(url) == told


@pytest.mark.parametrize("reply", [saying(404), saying(503), saying(200, HTML), with_headers(Content_Length=[5, 6])])
def test_no_message_holds_a_password(
    reply: Callable[[Handler], None], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.replies = [reply]
    url = server.url.replace("//", "//user:secret@") + "?key=hidden"
    assert main(["prepare", url, str(tmp_path / "x.lmdb")]) == 2
    out, err = capsys.readouterr()
    assert "//user:***@127.0.0.1" in err
    assert "secret" not in out + err
    assert "hidden" not in out + err
    assert server.asked[0]["Authorization"]  # and yet the server was told


def test_names_of_files() -> None:
    assert file_name("http://h/a/b.zip?download=1#x") == "b.zip"
    assert file_name("http://h/a/..") == "download"
    assert file_name("https://h") == "download"
