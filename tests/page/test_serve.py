"""The command `rnan serve`: its mistakes are a line, its end leaves nothing."""

from __future__ import annotations

import http.client
import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rnan_plugin.__main__ import main

PATIENCE = 300  # seconds until what hangs fails its test


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """SIGTERM, which the command takes for itself, is given back; Ctrl-C counts, in background runs too."""
    before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
        signal.signal(number, handler)


def noise() -> bytes:
    """A file that takes long enough to be restored."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_used_port_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "--port", str(port), "--device", "cpu"]) == 2
    told = f"error: --port: 127.0.0.1:{port} can't be listened on"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(told)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--port", "70000"], "--port: 70000"),
        (["--threads", "0"], "--threads: 0"),
        (["--device", "abacus"], "'abacus'"),
    ],
)
def test_wrong_flags_are_one_line(flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(how: signal.Signals, tmp_path: Path) -> None:
    """While a file is restored, and another one waits."""
    command = [sys.executable, "-m", "rnan_plugin", "serve", "--port", "0", "--device", "cpu", "--threads", "1"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)}, **pipes) as process:
        line = process.stdout.readline()
        port = int(re.findall(r"http://127\.0\.0\.1:(\d+)/ ", line)[0])
        content = noise()
        for _ in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            connection.request("POST", "/api/jobs?task=colordn&level=50", content)
            assert connection.getresponse().status == 202
        assert list(tmp_path.glob("rnan-page-*/*/in/image"))
        process.send_signal(how)
        try:
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, errors) == (130, "")
    assert list(tmp_path.iterdir()) == []
