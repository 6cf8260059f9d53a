"""The page in headless Chromium, driven over its debugging pipe: as a person with a keyboard uses it."""

from __future__ import annotations

import base64
import fcntl
import io
import itertools
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from rnan_plugin.__main__ import main
from rnan_plugin.page.jobs import MOST_WAITING

BROWSER = shutil.which("chromium")
WITHOUT_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
CONTAINER = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
PATIENCE = 300  # seconds until a page that hangs fails its test
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "End": 35, "Home": 36, "ArrowLeft": 37}
TEXTS = {"Enter": "\r", " ": " "}

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser: apt-get install chromium")


class Chromium:
    """A browser with one page, and what it told of it."""

    def __init__(self, folder: Path, lasting: list[Any]) -> None:
        there, back = os.pipe(), os.pipe()
        # The browser reads file descriptor 3 and writes 4: its ends are moved out of their way first.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (there[0], back[1])]
        script = f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}'
        arguments = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", *CONTAINER]
        command = ["bash", "-c", script, "bash", BROWSER, *arguments, WITHOUT_NETWORK, "about:blank"]
        self.process = subprocess.Popen(command, pass_fds=ends, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for end in (there[0], back[1], *ends):
            os.close(end)
        self.pipe, self.answers = os.fdopen(there[1], "wb", buffering=0), os.fdopen(back[0], "rb")
        self.numbers, self.messages = itertools.count(1), queue.Queue()
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        threading.Thread(target=self._listen, daemon=True).start()
        lasting.append(self)
        (target,) = [each for each in self.call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{part}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.call("Emulation.setScrollbarsHidden", hidden=True)  # as screenshots of the whole page have none

    def _listen(self) -> None:
        rest = b""
        while part := self.answers.read1(2**16):
            *whole, rest = (rest + part).split(b"\0")
            for message in whole:
                self.messages.put(json.loads(message))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        asked = {"id": number, "method": method, "params": parameters}
        asked |= {"sessionId": self.session} if self.session and not method.startswith(("Target", "Browser")) else {}
        self.pipe.write(json.dumps(asked).encode() + b"\0")
        while True:
            message = self.messages.get(timeout=PATIENCE)
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def told(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def wait_for_event(self, is_wanted: Callable[[dict[str, Any]], bool]) -> None:
        while not any(is_wanted(event) for event in self.events):
            self.events.append(self.messages.get(timeout=PATIENCE))

    def open(self, address: str, width: int = 1200, height: int = 1000) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=address)
        self.wait_for("document.getElementById('task')?.options.length > 1")

    def js(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Until an expression of the page is true, looked at whenever the page draws; or too long a time is over."""
        end = time.monotonic() + PATIENCE
        waits = f"new Promise(done => {{ let n = 60; (function look() {{ try {{ if ({condition}) return done(true) }}"
        waits += " catch {} --n ? setTimeout(look, 16) : done(false) })() })"
        while not self.js(waits):
            assert time.monotonic() < end, f"never: {condition}\n{self.js('document.body.innerText')}"

    def press(self, key: str, times: int = 1) -> None:
        for _ in range(times):
            parts = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
            self.call("Input.dispatchKeyEvent", type="rawKeyDown", **parts)
            if key in TEXTS:
                self.call("Input.dispatchKeyEvent", type="char", text=TEXTS[key], **parts)
            self.call("Input.dispatchKeyEvent", type="keyUp", **parts)

    def upload(self, *files: Path) -> None:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def drop(self, file: Path) -> None:
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=200, y=200, data=data)

    def screenshot(self, file: Path) -> None:
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        file.write_bytes(base64.b64decode(shot))

    def requests(self) -> set[str]:
        return {event["request"]["url"] for event in self.told("Network.requestWillBeSent")}

    def complaints(self) -> list[str]:
        logged = [event["entry"]["text"] for event in self.told("Log.entryAdded") if event["entry"]["level"] == "error"]
        return logged + [str(event["exceptionDetails"]) for event in self.told("Runtime.exceptionThrown")]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def write_photo(file: Path, **how: Any) -> None:
    coarse = np.random.default_rng(0).integers(40, 216, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(file, **how)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of the command's own server."""
    command = [sys.executable, "-m", "rnan_plugin", "serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield re.findall(r"http://\S+", process.stdout.readline())[0]
        finally:
            process.terminate()


@pytest.fixture
def page(address: str, tmp_path: Path) -> Iterator[Chromium]:
    """A browser that looks at the page; at the end it has asked nobody else, and nothing has gone wrong in it."""
    begun: list[Chromium] = []
    try:
        browser = Chromium(tmp_path, begun)
        browser.open(address)
        yield browser
        browser.call("Runtime.evaluate", expression="0")  # whatever it has told until now is read
        assert {url for url in browser.requests() if not url.startswith(address)} == set()
        assert browser.complaints() == []
    finally:
        for each in begun:
            each.close()


def pictures_are_there(page: Chromium) -> None:
    page.wait_for("[...document.querySelectorAll('.left, .right')].every(img => img.complete && img.naturalWidth)")


def region(page: Chromium) -> np.ndarray:
    """What is to be seen of the middle of the picture, (160, 240, 3), away from labels and border."""
    place = "(({x, y}) => ({x: Math.round(x + scrollX), y: Math.round(y + scrollY)}))"
    box = page.js(f"{place}(document.querySelector('.stack').getBoundingClientRect())")
    clip = {"x": box["x"] + 40, "y": box["y"] + 10, "width": 240, "height": 160, "scale": 1}
    shot = page.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")).astype(int)


def test_upload_restore_slide_download(page: Chromium, address: str, tmp_path: Path) -> None:
    source, expected = tmp_path / "photo.jpg", tmp_path / "expected.png"
    write_photo(source, quality=10)
    assert main(["restore", str(source), str(expected), "--device", "cpu"]) == 0
    page.upload(source)
    page.wait_for("document.querySelector('.done')")
    assert page.js("document.querySelector('.state').textContent") == "Restored: JPEG artefacts, quality 10"
    assert page.js("document.querySelector('.lines').textContent") == "JPEG of quality 10: restored with car (rgb) 5-95"
    pictures_are_there(page)

    before, after = (np.asarray(Image.open(file))[10:170, 40:280].astype(int) for file in (source, expected))
    assert np.abs(before - after).max() > 10
    page.js("document.querySelector('.slider').focus()")
    clip = "getComputedStyle(document.querySelector('.right')).clipPath"
    seen = [page.js(clip)]
    for key, times, left in (("Home", 1, 0), ("End", 1, 240), ("ArrowLeft", 50, 120)):
        page.press(key, times)
        seen.append(page.js(clip))
        shown = region(page)
        for part, picture in ((slice(0, max(0, left - 20)), before), (slice(left + 20, 240), after)):
            if picture[:, part].size:
                np.testing.assert_array_equal(shown[:, part], picture[:, part], f"{key}, {part}")
    assert len(set(seen)) == 3  # it ends where it began
    assert page.js("document.querySelector('.slider').ariaValueText") == "50 % before, 50 % after"

    place = page.js(
        "(({x, y, width, height}) => ({x, y, width, height}))(document.querySelector('.view').getBoundingClientRect())"
    )
    for kind, share in (("mousePressed", 0.5), ("mouseMoved", 0.25), ("mouseReleased", 0.25)):
        at = {"x": place["x"] + share * place["width"], "y": place["y"] + place["height"] / 2}
        page.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **at)
    assert page.js("document.querySelector('.slider').value") == "25"

    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "down"), eventsEnabled=True)
    page.js("document.querySelector('.download').focus()")
    page.press("Enter")
    page.wait_for_event(lambda event: event.get("params", {}).get("state") == "completed")
    assert (tmp_path / "down/photo_restored.png").read_bytes() == expected.read_bytes()

    page.open(address)
    page.wait_for("document.querySelector('.done')")  # it is still there after reloading


def test_a_clean_picture_is_degraded_and_scored(page: Chromium, tmp_path: Path) -> None:
    write_photo(tmp_path / "clean.png")
    page.js("document.getElementById('clean').focus()")
    page.press(" ")
    assert page.js("[task.value, level.value, format.disabled]") == ["colordn", "50", True]
    page.drop(tmp_path / "clean.png")
    page.wait_for("document.querySelector('.done')")
    pictures_are_there(page)
    job = page.js(
        "fetch(document.querySelector('.download').href.replace('/result', '')).then(answer => answer.json())"
    )
    rows = [["", "PSNR", "SSIM"]]
    for name, which in (("degraded", "before"), ("restored", "after")):
        score = job["scores"][which]
        rows.append([name, f"{score['psnr']:.2f} dB", f"{score['ssim']:.4f}"])
    assert (
        page.js("[...document.querySelectorAll('.scores tr')].map(row => [...row.cells].map(cell => cell.textContent))")
        == rows
    )
    assert job["scores"]["after"]["psnr"] > job["scores"]["before"]["psnr"] + 10
    page.js("document.querySelector('.against select').value = 'clean'")
    page.js("document.querySelector('.against select').onchange()")
    page.wait_for("document.querySelector('.left').src.endsWith('clean.png')")
    pictures_are_there(page)


def test_several_files_on_a_narrow_screen(page: Chromium, address: str, tmp_path: Path) -> None:
    page.open(address, 360, 700)
    files = [tmp_path / name for name in ("photo.jpg", "deep.tif", "text.png", f"{'long' * 30}.png", "huge.png")]
    write_photo(files[0], quality=10)
    deep = 257 * np.random.default_rng(0).normal(128, 30, (40, 50, 3)).clip(0, 255)
    tifffile.imwrite(files[1], deep.astype(np.uint16), photometric="rgb")
    files[2].write_text("text")
    write_photo(files[3])
    with files[4].open("wb") as huge:
        huge.truncate(2**26 + 1)
    page.upload(*files)
    page.wait_for("document.querySelectorAll('.done, .failed').length === 5")
    told = page.js(
        "[...document.querySelectorAll('.job')].reverse().map(job => job.querySelector('.state').textContent)"
    )
    assert told[0] == "Restored: JPEG artefacts, quality 10"
    assert told[1].startswith("Restored: colour noise, sigma ")
    assert told[2] == "text.png: unreadable or truncated image; replace it or take it out"
    assert told[3] == "Left as it is"
    assert told[4] == "huge.png: 65 MiB are more than the 64 MiB that the page takes; use rnan restore for it"
    for closed in range(3):
        page.js(f"document.querySelectorAll('.done .compare')[{closed}].open = true")
    page.wait_for(
        "[...document.querySelectorAll('.done .right, .done .left')].every(img => img.complete && img.naturalWidth)"
    )
    assert page.js("document.documentElement.scrollWidth") <= 360
    page.js("document.querySelectorAll('.done .pixels').forEach(box => box.click())")
    assert page.js("document.documentElement.scrollWidth") <= 360
    for left in reversed(range(5)):
        page.js("document.querySelector('.remove').focus()")
        page.press("Enter")
        assert page.js("document.querySelectorAll('.job').length") == left
    assert page.js("document.activeElement.id") == "files"


def test_more_files_than_the_queue_takes(page: Chromium, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(MOST_WAITING + 8)]
    for file in files:
        Image.new("RGB", (32, 32), "teal").save(file)
    page.upload(*files)
    page.wait_for(f"document.querySelectorAll('.done').length === {len(files)}")
    page.js("document.querySelectorAll('.remove').forEach(button => button.click())")


def test_everything_is_reached_by_keyboard(page: Chromium, tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.jpg", quality=10)
    page.upload(tmp_path / "photo.jpg")
    page.wait_for("document.querySelector('.done')")
    pictures_are_there(page)
    page.js("document.activeElement.blur()")
    reached, style = (
        [],
        "getComputedStyle(document.activeElement.closest('.drop') ?? document.activeElement).outlineStyle",
    )
    for _ in range(20):
        page.press("Tab")
        name = page.js(
            "(({id, classList, localName}) => id || [...classList].pop() || localName)(document.activeElement)"
        )
        if name == "body" or name in reached:
            break
        assert page.js(style) == "solid", name
        reached.append(name)
    wanted = [
        "files",
        "task",
        "format",
        "clean",
        "download",
        "again",
        "remove",
        "summary",
        "slider",
        "pixels",
        "summary",
    ]
    assert reached == wanted[:-1]
