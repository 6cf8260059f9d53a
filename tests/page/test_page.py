"""The page's HTTP interface: files equal to the command's, scores equal to the protocol's, others kept away."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import cv2
import numpy as np
import pytest
from PIL import Image

import rnan_plugin
from rnan_plugin.__main__ import main
from rnan_plugin.data.degrade_folder import degrade_folder
from rnan_plugin.evaluation.evaluate import evaluate
from rnan_plugin.evaluation.methods import MethodSource, build_method
from rnan_plugin.inference.restorer import RestoreSettings
from rnan_plugin.page import jobs as queue
from rnan_plugin.page import server as serving
from rnan_plugin.page import work
from rnan_plugin.page.asked import Asked, asked_by
from rnan_plugin.page.server import PageServer, page_server
from rnan_plugin.paper.tasks import TASKS, TaskAtLevel

PATIENCE = 300  # seconds until what hangs fails its test


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    with page_server(0, RestoreSettings(device="cpu")) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.shutdown()


def ask(
    server: PageServer, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, Any, dict[str, str]]:
    """Status, content and headers of an answer; JSON read."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        content: Any = answer.read()
    finally:
        connection.close()
    told = dict(answer.getheaders())
    return answer.status, json.loads(content) if told["Content-Type"] == "application/json" else content, told


def finished(server: PageServer, content: bytes, **asked: Any) -> dict[str, Any]:
    """The job of a file when nothing more happens to it."""
    status, told, _ = ask(server, f"/api/jobs?{urlencode(asked)}", "POST", content)
    assert status == 202, told
    job = server.jobs.get(told["id"])
    assert job is not None
    assert job.finished.wait(PATIENCE)
    return ask(server, f"/api/jobs/{told['id']}")[1]


def photo(height: int = 50, width: int = 70, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(40, 216, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def noisy(sigma: float = 40) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, sigma, (50, 70, 3))
    return np.clip(np.rint(photo() + noise), 0, 255).astype(np.uint8)


def file_of(img: np.ndarray | Image.Image, ending: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    (img if isinstance(img, Image.Image) else Image.fromarray(img)).save(
        buffer, Image.registered_extensions()[ending], **how
    )
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return file_of(photo(), ".jpg", quality=10, exif=exif, dpi=(300, 300))


def deep() -> bytes:
    return cv2.imencode(".png", noisy().astype(np.uint16) * 257)[1].tobytes()


# Names and files, and what is asked for; the command gets the same as flags.
FILES: dict[str, tuple[str, Callable[[], bytes], dict[str, str]]] = {
    "jpeg, found": ("a.jpg", lambda: file_of(photo(), ".jpg", quality=10), {}),
    "sideways, with camera data": ("turned.jpeg", turned, {"format": "same"}),
    "noise, found": ("b.png", lambda: file_of(noisy(), ".png"), {}),
    "noise, named, as WebP": (
        "b.png",
        lambda: file_of(noisy(), ".png"),
        {"task": "colordn", "level": "50", "format": "webp"},
    ),
    "JPEG of a quality": ("b.bmp", lambda: file_of(noisy(), ".bmp"), {"format": "jpg", "quality": "80"}),
    "16 bits, as TIFF": ("deep.png", deep, {"format": "tif"}),
    "alpha": ("c.png", lambda: file_of(Image.fromarray(noisy()).convert("RGBA"), ".png"), {}),
    "super-resolution": ("d.png", lambda: file_of(photo(), ".png"), {"task": "sr"}),
    "left as it is": ("e.png", lambda: file_of(photo(), ".png"), {}),
    "left as it is, converted": ("e.png", lambda: file_of(photo(), ".png"), {"format": "tif"}),
}


@pytest.mark.parametrize("case", FILES)
def test_a_download_is_the_commands_file(case: str, server: PageServer, tmp_path: Path) -> None:
    name, content, asked = FILES[case]
    (tmp_path / name).write_bytes(content())
    flags = [word for key, value in asked.items() for word in (f"--{key}", value)]
    command = ["restore", str(tmp_path / name), str(tmp_path / "out"), "--suffix", "_restored", "--device", "cpu"]
    assert main([*command, *flags]) == 0
    (written,) = (path for path in (tmp_path / "out").iterdir() if path.suffix != ".jsonl")

    told = finished(server, content(), name=name, **asked)
    assert (told["state"], told["progress"], told["file"]) == ("done", float(not told["left_as_it_is"]), written.name)
    assert told["left_as_it_is"] == case.startswith("left")
    status, downloaded, headers = ask(server, f"/api/jobs/{told['id']}/result")
    assert status == 200
    assert downloaded == written.read_bytes()
    assert headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{written.name}"


def test_a_download_has_the_name_of_the_file(server: PageServer) -> None:
    """In whatever letters, with nothing in it that would end the header or begin another."""
    name = 'Tom & Anna\'s "हिन्दी"; filename=x\r\nX: y%0a.jpg'
    told = finished(server, file_of(photo(), ".jpg", quality=10), name=name)
    headers = ask(server, f"/api/jobs/{told['id']}/result")[2]
    kind, _, quoted = headers["Content-Disposition"].partition("filename*=UTF-8''")
    assert kind == "attachment; "
    assert re.fullmatch(r"[\w.~%-]+", quoted, re.ASCII)
    assert unquote(quoted) == told["file"] == "Tom & Anna's _हिन्दी_; filename=x__X_ y%0a_restored.png"
    assert "X" not in headers


def test_curl_gets_the_file_at_once(server: PageServer, tmp_path: Path) -> None:
    """As the guide's line does, whose target names the format."""
    (tmp_path / "photo.jpg").write_bytes(file_of(photo(), ".jpg", quality=10))
    assert main(["restore", str(tmp_path / "photo.jpg"), str(tmp_path / "restored.png"), "--device", "cpu"]) == 0
    body = (tmp_path / "photo.jpg").read_bytes()
    status, content, headers = ask(server, "/api/restore?name=photo.jpg&format=png", "POST", body)
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert content == (tmp_path / "restored.png").read_bytes()
    told = json.loads(headers["Rnan-Job"])
    assert (told["task"], told["chosen"]) == ("car 10", "JPEG of quality 10: restored with car (rgb) 5-95")
    deadline = time.monotonic() + 60
    while server.jobs.get(told["id"]) is not None:  # forgotten after the answer, as nobody could ask for it
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_pictures_are_what_a_viewer_shows(server: PageServer) -> None:
    told = finished(server, turned(), name="turned.jpg")
    for which in ("before", "after"):
        picture = Image.open(io.BytesIO(ask(server, f"/api/jobs/{told['id']}/{which}.png")[1]))
        assert (picture.format, picture.size) == ("PNG", (50, 70))
    assert told["pictures"] == ["after", "before"]
    assert ask(server, f"/api/jobs/{told['id']}/clean.png")[0] == 404


@pytest.mark.parametrize("task", TASKS)
def test_a_demonstration_is_scored_as_the_protocol_does(task: str, server: PageServer, tmp_path: Path) -> None:
    row = TASKS[task]
    at_level = TaskAtLevel(task, (row.typical or row.levels[0]) if row.level else None)
    content = file_of(photo(51, 73), ".png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.png").write_bytes(content)
    asked = {"task": task, "clean": "1"} | ({"level": at_level.level} if row.level else {})
    told = finished(server, content, name="a.png", **asked)
    assert told["error"] is None
    assert sorted(told["pictures"]) == ["after", "before", "clean"]

    method = build_method(MethodSource("bicubic" if row.enlarges else "input"), at_level, RestoreSettings(), ["a"])
    before = evaluate(method, at_level, str(tmp_path / "set")).mean
    after = rnan_plugin.evaluate(str(tmp_path / "set"), task, at_level.level, policy="auto").mean
    expected = {
        name: {"psnr": score.psnr, "ssim": score.ssim} for name, score in (("before", before), ("after", after))
    }
    assert told["scores"] == expected

    degrade_folder(str(tmp_path / "set"), tmp_path / "pairs", at_level)
    flags = ["--task", task, *(["--level", f"{at_level.level:g}"] if row.level else []), "--device", "cpu"]
    assert main(["restore", str(tmp_path / "pairs/lq/a.png"), str(tmp_path / "restored.png"), *flags]) == 0
    assert ask(server, f"/api/jobs/{told['id']}/result")[1] == (tmp_path / "restored.png").read_bytes()


def test_equal_pictures_have_no_number(server: PageServer) -> None:
    told = finished(server, file_of(photo(), ".png"), name="a.png", task="colordn", level="0", clean="1")
    assert told["scores"]["before"] == {"psnr": None, "ssim": pytest.approx(1)}


CUT = file_of(photo(), ".jpg")[:-40]
HUGE = file_of(Image.new("1", (8000, 8000)), ".png")
CLEAR = file_of(Image.new("RGBA", (20, 20)), ".png")
PHOTO, SMALL = file_of(photo(), ".png"), file_of(photo(8, 8), ".png")
NOISE, JPEG = {"task": "colordn", "level": 50}, {"task": "car", "level": 10}


@pytest.mark.parametrize(
    ("content", "asked", "error"),
    [
        (b"text", {}, "a.png: unreadable or truncated image"),
        (CUT, {"name": "../../etc/a.jpg"}, "a.jpg: unreadable or truncated image"),
        (HUGE, {}, "a.png: 8000×8000 pixels are more than the 50 megapixels"),
        (CLEAR, {"format": "jpg", **NOISE}, "a_restored.jpg: JPEG has no transparency"),
        (PHOTO, {"task": "demosaic"}, "a.png: not a GRBG mosaic"),
        (SMALL, {"clean": 1, **JPEG}, "SSIM needs images of 11×11"),
    ],
)
def test_what_can_not_be_restored_is_one_line(
    content: bytes, asked: dict[str, Any], error: str, server: PageServer
) -> None:
    asked = {"name": "a.png", **asked}
    told = finished(server, content, **asked)
    assert told["state"] == "failed"
    assert error in told["error"]
    assert "\n" not in told["error"]
    assert "rnan-page" not in told["error"]
    status, answer, _ = ask(server, f"/api/restore?{urlencode(asked)}", "POST", content)
    assert (status, answer) == (422, {"error": told["error"]})


def test_a_result_may_not_get_too_large(server: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "MOST_PIXELS", 4 * 50 * 70 - 1)
    told = finished(server, file_of(photo(), ".png"), name="a.png", task="sr")
    assert told["error"].startswith("a.png: 140×100 pixels, enlarged, are more than")


@pytest.mark.parametrize(("text", "is_clean"), [("1", True), ("YES", True), ("no", False), ("Off", False), ("", False)])
def test_a_picture_is_degraded_if_it_is_said_to_be_clean(text: str, is_clean: bool) -> None:
    assert asked_by(f"clean={text}&task=car&level=10").clean == is_clean


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("task=jpeg", "task: no 'jpeg'"),
        ("level=10", "task: a level needs one"),
        ("clean=1", "task: a clean picture needs one"),
        ("clean=1&task=car", "level: car needs a quality"),
        ("task=car&level=x", "level: 'x' is no number"),
        ("task=car&level=0", "quality is 0"),
        ("task=colordn&level=nan", "sigma is nan"),
        ("task=demosaic&level=1", "level: demosaic has no levels"),
        ("format=gif", "format: no 'gif'"),
        ("quality=101", "quality: 101"),
        ("quality=9.5", "quality: '9.5' is no whole number"),
        ("clean=1&task=car&level=10&format=jpg", "format: a clean picture"),
        ("clean=maybe&task=car&level=10", "clean: 'maybe' is not one of true, yes, on, 1, false, no, off, 0"),
        ("task=sr&level=2&level=3", "level: is given 2 times; give it once"),
        ("quality=9&format=png", "--quality: png loses nothing"),
        ("tsak=car", "'tsak': unknown (did you mean 'task'?)"),
    ],
)
def test_a_wrong_query_is_one_line(query: str, error: str, server: PageServer) -> None:
    status, told, _ = ask(server, f"/api/jobs?{query}", "POST", b"x")
    assert status == 422
    assert error in told["error"]
    assert "\n" not in told["error"]


def test_queries_and_names() -> None:
    assert asked_by("") == asked_by("task=&level=auto&clean=0") == Asked()
    assert asked_by("name=%C3%A9.jpg&task=car&level=10") == Asked("é.jpg", "car", 10.0)
    names = ["../../x/é a.jpg", "C:\\b\\c.png", "..", "", "\0\n.png", "x" * 400 + ".jpeg", "a." + "b" * 400]
    kept = [Asked(name).file_name for name in names]
    usual = [
        "हिन्दी फ़ोटो.jpg",
        "สวัสดี.png",
        "Zu\u0308rich e\u0301.jpg",
        "Tom & Anna's [1], 50%~#;=!@$.webp",
        "👩\u200d🔬.tif",
    ]
    assert [Asked(f"C:/x/{name}").file_name for name in usual] == usual
    odd = "a" + "".join(map(chr, (*range(32), 0x7F, 0x85, 0x2028, 0xD83D, 0xDC00))) + '<>:"|?*.png'
    assert re.fullmatch(r"a_+\.png", Asked(odd).file_name)
    assert kept[:5] == ["é a.jpg", "c.png", "image", "image", "__.png"]
    assert all(len(name.encode()) < 256 for name in kept)
    assert kept[5].endswith(".jpeg")


# Who may ask


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:7860"},
        {"Host": "[::1"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Dest": "document"},
    ],
)
def test_other_pages_are_kept_away(headers: dict[str, str], server: PageServer) -> None:
    body = file_of(photo(), ".png")
    for method, path, sent in (
        ("GET", "/api/options", None),
        ("POST", "/api/jobs", body),
        ("DELETE", "/api/jobs/x", None),
    ):
        status, told, answered = ask(server, path, method, sent, **headers)
        assert status == 403, (method, told)
        assert "Access-Control-Allow-Origin" not in answered


def test_a_browser_of_this_machine_may_ask(server: PageServer) -> None:
    for host in (f"127.0.0.1:{server.server_port}", f"localhost:{server.server_port}", "localhost:9000"):  # a tunnel's
        ours = {"Host": host, "Origin": f"http://{host}", "Sec_Fetch_Site": "same-origin"}
        assert ask(server, "/api/options", **ours)[0] == 200
    linked = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "document"}
    assert ask(server, "/", **linked)[0] == 200


def test_it_listens_on_one_address(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", server.server_port), timeout=10):  # noqa: PT011
        pass


def test_the_page_names_no_other_host(server: PageServer) -> None:
    for path in ("/", "/page.js", "/page.css", "/icon.svg"):
        status, content, headers = ask(server, path)
        assert status == 200
        assert headers["Content-Security-Policy"].startswith("default-src 'self';")
        text = content.decode().replace("http://www.w3.org/2000/svg", "").replace("http://127.0.0.1", "")
        assert not re.search(r"(https?:)?//[\w.]+\.\w", text), path


@pytest.mark.parametrize(
    "path", ["/x", "/api/jobs/x", "/api/jobs/", "/../page.html", "/api/jobs/../../page.html", "/server.py", "//["]
)
def test_nothing_else_is_served(path: str, server: PageServer) -> None:
    assert ask(server, path)[0] == 404


# Sizes


def raw(server: PageServer, head: str, body: bytes = b"") -> bytes:
    """All that is answered to lines of HTTP."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=PATIENCE) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        return b"".join(iter(lambda: connection.recv(2**16), b""))


def test_too_large_a_file_is_refused_in_a_line(server: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MOST_BYTES", 2**20)
    status, told, _ = ask(server, "/api/jobs?name=a.png", "POST", bytes(3 * 2**20))
    assert (status, told["error"]) == (
        413,
        "3 MiB are more than the 1 MiB that the page takes; use rnan restore for it",
    )
    lines = "POST /api/restore HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 3000000\nExpect: 100-continue"
    answer = raw(server, lines)  # no body: curl waits for the answer, and hears it before it sends anything
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


@pytest.mark.parametrize("more", [[], ["Expect: 100-continue"]])
@pytest.mark.parametrize("path", ["/api/jobs", "/nothing"])
def test_a_length_beyond_all_numbers_is_refused(path: str, more: list[str], server: PageServer) -> None:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {'9' * 5000}", *more]
    answer = raw(server, "\n".join(lines))
    assert answer.startswith(b"HTTP/1.1 404 " if path == "/nothing" and not more else b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("length", ["", "Content-Length: x", "Content-Length: -1", "Transfer-Encoding: chunked"])
def test_the_length_must_be_told(length: str, server: PageServer) -> None:
    lines = ["POST /api/jobs HTTP/1.1", "Host: 127.0.0.1", *([length] if length else [])]
    assert raw(server, "\n".join(lines)).startswith(b"HTTP/1.1 411 ")


def test_nothing_is_no_file(server: PageServer) -> None:
    assert ask(server, "/api/jobs?name=a.png", "POST", b"")[1] == {
        "error": "a.png: nothing, or not all of it, has come; send it again"
    }


def test_a_full_queue_is_503(server: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST_WAITING", 0)
    status, told, _ = ask(server, "/api/jobs", "POST", b"x")
    assert (status, told["error"]) == (503, "0 files are waiting already; send it again when one is done")


def test_a_file_can_be_forgotten(server: PageServer) -> None:
    told = finished(server, file_of(photo(), ".png"), name="a.png")
    assert ask(server, f"/api/jobs/{told['id']}", "DELETE")[:2] == (200, {})
    for path in ("", "/result", "/before.png"):
        assert ask(server, f"/api/jobs/{told['id']}{path}")[0] == 404
