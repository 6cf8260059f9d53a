"""Running a set of option files: interrupted in its middle, gone on with, and collected."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import tiny_options

from rnan_plugin.__main__ import main


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rnan_plugin", "study", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=folder, text=True, **pipes)


def test_a_stopped_set_goes_on_and_ends_in_a_table(data: Path, tmp_path: Path) -> None:
    def write(name: str, features: int, iterations: int) -> None:
        opt = tiny_options(data, total_iter=iterations)
        opt |= {"name": name, "network_g": opt["network_g"] | {"num_feat": features}}
        opt["train"]["scheduler"]["periods"] = [100_000]
        opt["logger"]["save_checkpoint_freq"] = 2
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(opt, sort_keys=False))

    write("narrow", 4, 4)
    write("wide", 6, 100_000)  # does not end by itself
    first = start(tmp_path, "narrow.yml", "wide.yml")
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("experiments/wide/training_states/[0-9]*.state")):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    told = first.communicate(timeout=100)[0]
    assert first.returncode == 143, told
    assert "wide.yml: ended with status 143; the same command goes on" in told
    assert "| narrow | 4 of 4 |" in told
    reached = max(int(file.stem) for file in tmp_path.glob("experiments/wide/training_states/[0-9]*.state"))
    assert f"| wide | {reached:,} of 100,000 |" in told
    write("wide", 6, reached + 4)
    second = start(tmp_path, "narrow.yml", "wide.yml", "--table", "results/table.md", "--curves", "results/curves.png")
    told = second.communicate(timeout=200)[0]
    assert second.returncode == 0, told
    assert "narrow: finished already" in told
    assert f"wide: from iteration {reached:,} of {reached + 4:,}" in told
    table = (tmp_path / "results/table.md").read_text()
    assert table.startswith(
        "| training | iterations | minutes | held-out/psnr, last (best) | held-out/ssim, last (best) |"
    )
    assert f"| wide | {reached + 4:,} of {reached + 4:,} | " in table
    assert told.endswith(table)
    assert (tmp_path / "results/curves.png").read_bytes().startswith(b"\x89PNG")
    minutes = [float(row.split(" | ")[2]) for row in table.splitlines()[2:]]  # the logs tell them: numbers, no dash
    assert len(minutes) == 2


def test_two_of_one_name_are_refused(data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(tiny_options(data), sort_keys=False))
    process = start(tmp_path, "a.yml", "b.yml")
    assert "error: a.yml, b.yml: both are called tiny" in process.communicate(timeout=100)[0]
    assert process.returncode == 2


@pytest.mark.parametrize("report", [["--table", "a.yml"], ["--curves", "a.yml"], ["--curves", "x.xyz"]])
def test_a_report_that_cannot_be_written_is_told_before_training(
    report: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yml").write_text("name: mine")
    assert main(["study", "a.yml", *report]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "would replace its input" in line or "no format of a picture" in line
    assert Path("a.yml").read_text() == "name: mine"
