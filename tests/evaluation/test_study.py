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
from rnan_plugin.commands.train import find_run
from rnan_plugin.errors import RnanWarning
from rnan_plugin.evaluation.study import Training, read_set, table
from rnan_plugin.training.curves import Curve


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


def test_a_training_whose_file_has_changed_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yml").write_text(yaml.safe_dump(opt := tiny_options(data)))
    begin(tmp_path, 4)
    Path("experiments/tiny/tiny.yml").write_text(f"# GENERATE TIME: then\n\n{Path('tiny.yml').read_text()}")
    assert main(["study", "tiny.yml", "--only-table"]) == 0
    opt["datasets"]["train"]["gt_size"] = 24
    Path("tiny.yml").write_text(yaml.safe_dump(opt))
    told = r"^tiny.yml: changed since it was trained, .*: datasets.train.gt_size: 16 -> 24$"
    with pytest.warns(RnanWarning, match=told):
        assert main(["study", "tiny.yml", "--only-table"]) == 0
    assert "| tiny | 4 of 4 |" in capsys.readouterr().out


def test_the_best_of_a_metric_that_falls_is_its_lowest(data: Path, tmp_path: Path) -> None:
    opt = tiny_options(data)
    opt["val"]["metrics"] = {
        "sharp": {"type": "calculate_niqe", "crop_border": 0},
        "mine": {"type": "calculate_psnr", "better": "lower", "crop_border": 0, "test_y_channel": False},
        "own": {"type": "calculate_of_ones_own", "better": "lower"},
    }
    (tmp_path / "tiny.yml").write_text(yaml.safe_dump(opt))
    (training,) = read_set([str(tmp_path / "tiny.yml")])
    curve = Curve([1, 2, 3], [], [5.0, 3.0, 4.0])
    (row,) = table({training: {f"held-out/{name}": curve for name in ("mine", "own", "sharp")}}).splitlines()[2:]
    assert row.endswith("| 4.0000 (5.0000) | 4.0000 (3.0000) | 4.0000 (3.0000) |")


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


def begin(folder: Path, *states: int) -> None:
    """A run called tiny, as far as its folders and states' names go."""
    (folder / "experiments/tiny/training_states").mkdir(parents=True)
    for iteration in states:
        (folder / f"experiments/tiny/training_states/{iteration}.state").touch()


def test_study_and_training_look_for_a_run_in_the_same_place(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "project/options").mkdir(parents=True)
    (tmp_path / "project/sub").mkdir()
    file = tmp_path / "project/options/tiny.yml"
    file.write_text(yaml.safe_dump(tiny_options(data)))
    begin(tmp_path / "project", 3)

    def places(folder: str) -> tuple[Path, int]:
        monkeypatch.chdir(tmp_path / folder)
        monkeypatch.setattr(sys, "argv", ["rnan train", "-opt", str(file), "--auto_resume"])
        assert main(["study", str(file), "--only-table"]) == 0
        assert f"| tiny | {Training(str(file), 'tiny', 4).done} of 4 |" in capsys.readouterr().out
        done = Training(str(file), "tiny", 4).done
        find_run(["-opt", str(file), "--auto_resume"])
        return Path.cwd().relative_to(tmp_path), done

    assert places(".") == (Path("project"), 3)
    assert places("project/sub") == (Path("project"), 3)
    begin(tmp_path / "project/sub")  # begun, and nothing of it saved yet
    assert places("project/sub") == (Path("project/sub"), 0)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("other", ["--force_yml", "train:total_iter=9", "name=other"]),
        ("debug_tiny", ["--debug"]),
        ("debug_other", ["--debug", "--force_yml", "name=other"]),
    ],
)
def test_a_run_is_looked_for_by_the_name_that_it_gets(
    name: str, arguments: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project/options").mkdir(parents=True)
    file = tmp_path / "project/options/tiny.yml"
    file.write_text(yaml.safe_dump(tiny_options(data)))
    (tmp_path / f"project/experiments/{name}/training_states").mkdir(parents=True)
    (tmp_path / f"project/experiments/{name}/training_states/3.state").touch()
    monkeypatch.chdir(tmp_path)
    for given, folder in (([], "."), (["-opt", str(file), "--auto-resume", *arguments], "project")):
        monkeypatch.setattr(sys, "argv", ["rnan train", *(given or ["-opt", str(file), "--auto-resume"])])
        find_run(sys.argv[1:])
        assert Path.cwd() == tmp_path / folder
    assert sys.argv[-2:] == ["-opt", str(file)]


@pytest.mark.parametrize(
    ("changes", "arguments", "told"),
    [
        ({"train": [1]}, [], "error: tiny.yml, train.total_iter: None is not a whole number from 1"),
        ({"train": {"total_iter": 5.5}}, [], "error: tiny.yml, train.total_iter: 5.5 is not a whole number from 1"),
        ({"name": None}, [], "error: tiny.yml, name: None is not a text"),
        ({"name": ["a"]}, [], "error: tiny.yml, name: ['a'] is not a text"),
        ({}, ["--processes", "0"], "argument --processes: 0 is not a whole number of 1 or more"),
    ],
)
def test_what_can_not_be_run_is_told_before_the_start(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes,
    arguments,
    told,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yml").write_text(yaml.safe_dump(tiny_options(data) | changes))
    try:
        status = main(["study", "tiny.yml", *arguments])
    except SystemExit as end:  # of argparse
        status = end.code
    assert status == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yml"]


def test_a_metric_without_a_name_of_its_kind_ends_no_table(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    options = tiny_options(data)
    options["val"] = {"metrics": {"n": {"type": ["x"]}, "m": {"type": {"x": 1}}, "k": 3}}
    Path("tiny.yml").write_text(yaml.safe_dump(options))
    assert main(["study", "tiny.yml", "--only-table"]) == 0
    assert "| tiny | 0 of " in capsys.readouterr().out


@pytest.mark.parametrize("total", ["5e3", 5000.0, "5000"])
def test_totals_are_read_as_training_reads_them(data: Path, tmp_path: Path, monkeypatch, capsys, total) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yml").write_text(yaml.safe_dump(tiny_options(data, total_iter=total)))
    assert main(["study", "tiny.yml", "--only-table"]) == 0
    assert "| tiny | 0 of 5,000 |" in capsys.readouterr().out
