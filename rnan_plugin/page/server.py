"""The page and its HTTP interface on 127.0.0.1, by Python's own server.

    GET    /api/options               tasks, formats, limits
    POST   /api/restore?task=car      the body is a file, the answer the restored one; `Rnan-Job` tells what was chosen
    POST   /api/jobs?task=car         the same, without waiting: the answer is the job
    GET    /api/jobs/ID               state, progress, what was chosen
    GET    /api/jobs/ID/result        the restored file
    GET    /api/jobs/ID/before.png    what browsers can show of it; after.png, and clean.png of a demonstration
    DELETE /api/jobs/ID               forget it

Keys of the query are the fields of `Asked`. Errors are JSON, `{"error": "one line"}`.
"""

from __future__ import annotations

import json
import re
import shutil
import socketserver
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from rnan_plugin.errors import UserError
from rnan_plugin.images.photo import read_photo
from rnan_plugin.images.photo_writer import FORMATS, encode_photo
from rnan_plugin.inference.restorer import RestoreSettings
from rnan_plugin.page.asked import asked_by, choices
from rnan_plugin.page.jobs import MOST_KEPT, MOST_WAITING, Job, Jobs, QueueFullError
from rnan_plugin.page.work import MOST_PIXELS, PageWork
from rnan_plugin.version import __version__

ADDRESS = "127.0.0.1"
MOST_BYTES = 2**26  # of a file that is sent
_DRAINED = 2**28  # bytes of a refused body that are read, since browsers show no answer that comes before its end
_LENGTH = re.compile(r"[0-9]{1,18}")  # of a body; Python refuses to read numbers of thousands of digits
# What the page is made of, by path; the machine's own table of types may be odd.
_PAGE = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_OWN_HOST = re.compile(rf"({re.escape(ADDRESS)}|localhost)(:\d+)?", re.ASCII)  # at any port: a tunnel's is another
_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "tif": "image/tiff"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",  # photographs are nobody else's concern
}


class _RefusalError(UserError):
    """An answer other than what was asked for, with its status."""

    def __init__(self, status: HTTPStatus, told: str) -> None:
        super().__init__(told)
        self.status = status


class PageServer(ThreadingHTTPServer):
    """Listens on 127.0.0.1 alone.

    Args:
        port: 0 takes a free one.
        jobs: The queue.

    Raises:
        UserError: The port is taken, or may not be listened on.
    """

    request_queue_size = 32

    def __init__(self, port: int, jobs: Jobs) -> None:
        self.jobs = jobs
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            told = f"{ADDRESS}:{port} can't be listened on ({error.strerror}); name another, or 0 for a free one"
            raise UserError(f"--port: {told}") from None

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def server_bind(self) -> None:
        """Bind without asking a name server what the address is called, as the base class does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


@contextmanager
def page_server(port: int, settings: RestoreSettings, threads: int | None = None) -> Iterator[PageServer]:
    """A server with its queue; what was sent to it is gone with it.

    Args:
        port: As of `PageServer`.
        settings: How to restore.
        threads: As of `PageWork`.

    Raises:
        UserError: As of `PageServer`.
    """
    with TemporaryDirectory(prefix="rnan-page-") as folder:
        jobs = Jobs(Path(folder), PageWork(settings, threads))
        try:
            with PageServer(port, jobs) as server:
                yield server
        finally:
            jobs.close()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = f"rnan/{__version__}", ""
    timeout = 60  # of a silent connection

    def do_GET(self) -> None:
        """The page, or what there is of a job."""
        self._guarded(self._get)

    def do_POST(self) -> None:
        """A file to restore."""
        self._guarded(self._post)

    def do_DELETE(self) -> None:
        """Forget a job."""
        self._guarded(self._delete)

    def handle_expect_100(self) -> bool:
        """Refuse before the body is sent, where the client waits for that."""
        try:
            self._check_sender()
            self._check_length()
        except _RefusalError as refusal:
            self.close_connection = True
            self._send_json(refusal.status, {"error": str(refusal)})
            return False
        return super().handle_expect_100()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's name
        """Keep the terminal quiet."""

    def _guarded(self, answer: Callable[[], None]) -> None:
        """Answer, or say in a line why not."""
        self._is_read = self.command != "POST"
        try:
            self._check_sender()
            answer()
        except UserError as error:
            status = error.status if isinstance(error, _RefusalError) else HTTPStatus.UNPROCESSABLE_ENTITY
            if isinstance(error, QueueFullError):
                status = HTTPStatus.SERVICE_UNAVAILABLE
            if not self._is_read:
                self.close_connection = True
                self._drain()
            self._send_json(status, {"error": str(error)})

    def _check_sender(self) -> None:
        """Keep other pages away, whatever name leads them here: theirs are not this host's, and browsers say so."""
        host = self.headers.get("Host", "")
        if not _OWN_HOST.fullmatch(host):
            raise _RefusalError(HTTPStatus.FORBIDDEN, f"this page is at {self.server.address} alone")
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site", "none")
        is_ours = origin in {None, f"http://{host}"} and site in {"none", "same-origin"}
        is_opened = self.command == "GET" and self.headers.get("Sec-Fetch-Dest") == "document"  # by a link elsewhere
        if not (is_ours or (is_opened and self.path == "/")):
            raise _RefusalError(HTTPStatus.FORBIDDEN, "other pages may not ask this one")

    def _check_length(self) -> int:
        length = self._told_length()
        if length is None and self.headers.get("Content-Length", "").isdecimal():
            raise _RefusalError(HTTPStatus.BAD_REQUEST, "Content-Length: no file is as long as that")
        if length is None or "Transfer-Encoding" in self.headers:
            raise _RefusalError(HTTPStatus.LENGTH_REQUIRED, "the file's length must be told: Content-Length")
        if length > MOST_BYTES:
            size = f"{length / 2**20:.0f} MiB are more than the {MOST_BYTES // 2**20} MiB that the page takes"
            raise _RefusalError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{size}; use rnan restore for it")
        return length

    def _told_length(self) -> int | None:
        """Of the body, in bytes; None where no number is told, or one of more digits than any length has."""
        told = self.headers.get("Content-Length", "")
        return int(told) if _LENGTH.fullmatch(told) else None

    def _get(self) -> None:
        path = self.path.partition("?")[0]
        if path in _PAGE:
            name, kind = _PAGE[path]
            self._send(HTTPStatus.OK, (files("rnan_plugin.page") / name).read_bytes(), f"{kind}; charset=utf-8")
        elif path == "/api/options":
            limits = {"bytes": MOST_BYTES, "pixels": MOST_PIXELS, "waiting": MOST_WAITING, "kept": MOST_KEPT}
            self._send_json(HTTPStatus.OK, {"version": __version__, **choices(), "limits": limits})
        else:
            self._get_of_job(*self._job())

    def _get_of_job(self, job: Job, part: str) -> None:
        if not part:
            self._send_json(HTTPStatus.OK, self.server.jobs.describe(job))
        elif part == "result" and job.result is not None:
            self._send_result(job)
        elif part.removesuffix(".png") in job.pictures:
            name = job.asked.file_name
            photo = read_photo(_content(job.pictures[part.removesuffix(".png")]), name)
            self._send(HTTPStatus.OK, b"".join(encode_photo(photo, "picture.png")[0]), "image/png")
        else:
            raise _RefusalError(HTTPStatus.NOT_FOUND, f"no {part} of this file, or not yet")

    def _post(self) -> None:
        path, _, query = self.path.partition("?")
        if path not in {"/api/jobs", "/api/restore"}:
            raise _RefusalError(HTTPStatus.NOT_FOUND, "files are sent to /api/restore or /api/jobs")
        length = self._check_length()
        asked = asked_by(query)
        self.server.jobs.check_room()
        content = self.rfile.read(length)
        self._is_read = True
        if len(content) < length or not content:
            raise UserError(f"{asked.file_name}: nothing, or not all of it, has come; send it again")
        job = self.server.jobs.add(asked, content)
        if path == "/api/jobs":
            self._send_json(HTTPStatus.ACCEPTED, self.server.jobs.describe(job))
        else:
            self._wait(job)

    def _wait(self, job: Job) -> None:
        job.finished.wait()
        try:
            if job.error or job.is_cancelled:
                raise UserError(job.error or "taken back")
            self._send_result(job, {"Rnan-Job": json.dumps(self.server.jobs.describe(job))})
        finally:
            self.server.jobs.remove(job)

    def _delete(self) -> None:
        job, part = self._job()
        if part:
            raise _RefusalError(HTTPStatus.NOT_FOUND, "a job can be forgotten as a whole alone")
        self.server.jobs.remove(job)
        self._send_json(HTTPStatus.OK, {})

    def _job(self) -> tuple[Job, str]:
        """The job that a path names, and what of it."""
        parts = self.path.partition("?")[0].removeprefix("/api/jobs/").split("/")
        job = self.server.jobs.get(parts[0]) if len(parts) <= 2 else None
        if job is None:
            raise _RefusalError(HTTPStatus.NOT_FOUND, "nothing here, or not kept any more")
        return job, "/".join(parts[1:])

    def _drain(self) -> None:
        left = min(self._told_length() or 0, _DRAINED)
        while left > 0 and (part := self.rfile.read(min(left, 2**16))):
            left -= len(part)

    def _send_result(self, job: Job, headers: dict[str, str] | None = None) -> None:
        assert job.result is not None
        kind = _TYPES.get(FORMATS.get(job.result.suffix.lower(), ""), "application/octet-stream")
        kept = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(job.result.name)}", **(headers or {})}
        try:
            file = job.result.open("rb")
        except OSError:
            raise _RefusalError(HTTPStatus.NOT_FOUND, "not kept any more") from None
        with file:
            self._send_head(HTTPStatus.OK, job.result.stat().st_size, kind, kept)
            shutil.copyfileobj(file, self.wfile)

    def _send_json(self, status: HTTPStatus, told: dict[str, Any]) -> None:
        self._send(status, json.dumps(told).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self._send_head(status, len(content), kind, {})
        self.wfile.write(content)

    def _send_head(self, status: HTTPStatus, length: int, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        told = {"Content-Type": kind, "Content-Length": str(length), **_HEADERS, **headers}
        if self.close_connection:
            told["Connection"] = "close"
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise _RefusalError(HTTPStatus.NOT_FOUND, "not kept any more") from None
