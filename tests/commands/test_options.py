"""The `options` command: what it prints can be trained with, and flags that don't go together are one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from jsonschema import Draft7Validator
from printed_options import check_printed_options

import rnan_plugin.training.connect  # noqa: F401 - BasicSR has to know the plugin
from rnan_plugin.__main__ import main
from rnan_plugin.errors import RnanWarning

Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture, *arguments: str) -> str:
    assert main(["options", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


# Every task, at levels of the paper and others, with every flag that goes with it.
LEGAL = [
    "colordn --level 25",
    "colordn --level 1.5",
    "colordn --level 70 --released",
    "colordn --level 33 --size small --test",
    "colordn --blind",
    "colordn --blind --test",
    "colordn --blind --network RCAN",
    "graydn --level 15 --network SwinIR",
    "graydn --blind --size small",
    "demosaic",
    "demosaic --test",
    "demosaic --released --test",
    "demosaic --network RIDNet --test",
    "car --level 77",
    "car --level 77 --channels rgb --network EDSR",
    "car --blind --channels rgb --test",
    "car --level 20 --network MSRResNet",
    "sr --level 3 --size small",
    "sr --level 4 --network MSRResNet --test",
    "sr --level 8 --network EDSR",
    "sr --level 2 --released",
]


@pytest.mark.parametrize("arguments", LEGAL)
def test_what_is_printed_passes_the_checks(
    arguments: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = printed(capsys, "--task", *arguments.split())
    check_printed_options(text)
    schema = json.loads((REPOSITORY / "options/schemas/option_file.json").read_text(encoding="utf-8"))
    assert [error.message for error in Draft7Validator(schema).iter_errors(yaml.safe_load(text))] == []
    assert text.startswith("# ")
    assert text.endswith("\n")


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        ("car --level 10", "train_RNAN_CAR_q10"),
        ("car --level 10 --network RNAN --size paper --channels y", "train_RNAN_CAR_q10"),
        ("sr --level 3 --test", "test_RNAN_SR_x3"),
        ("sr --level 3 --released", "test_RNAN_released_SR_x3"),
        ("graydn --level 50 --size small", "small/train_RNAN_small_GrayDN_s50"),
        ("colordn --level 50 --size medium", "medium/train_RNAN_medium_ColorDN_s50"),
        ("car --blind --channels rgb", "train_RNAN_CAR_color_blind"),
        ("graydn --blind --size small", "small/train_RNAN_small_GrayDN_blind"),
        ("demosaic --network MSRResNet", "compare/train_MSRResNetX1_Demosaic"),
    ],
)
def test_what_is_shipped_is_printed_as_it_is_shipped(arguments: str, file: str, capsys: Capture) -> None:
    schema, _, shipped = (REPOSITORY / f"options/{file}.yml").read_text(encoding="utf-8").partition("\n")
    assert schema.startswith("# yaml-language-server: ")  # its path holds in the repository alone
    assert printed(capsys, "--task", *arguments.split()) == shipped


def test_a_level_of_ones_own(capsys: Capture) -> None:
    opt = yaml.safe_load(printed(capsys, "--task", "colordn", "--level", "25"))
    assert opt["name"] == "train_RNAN_ColorDN_s25"
    wanted = {"type": "awgn", "sigma": 25, "quantize": True}
    assert [entry["degradation"] for entry in opt["datasets"].values()] == [wanted] * 3
    scaled = yaml.safe_load(printed(capsys, "--task", "sr", "--level", "8", "--network", "SwinIR", "--test"))
    assert (scaled["scale"], scaled["network_g"]["upscale"], scaled["network_g"]["type"]) == (8, 8, "SwinIR")
    assert scaled["val"]["metrics"]["psnr"]["crop_border"] == 8
    assert scaled["path"]["pretrain_network_g"] == "experiments/train_SwinIR_SR_x8/models/net_g_latest.pth"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "nothing asked for; use one of --task"),
        ("--write --check", "--write and --check asked for"),
        ("--write --task demosaic", "--write and --task asked for"),
        ("--check --blind", "--blind: goes with --task"),
        ("--write --level 3", "--level: goes with --task"),
        ("--task demosaic --folder x", "--folder: goes with --write or --check"),
        ("--schema --folder x", "--folder: goes with --write or --check"),
        ("--schema --write", "--write and --schema asked for"),
        ("--schema comparison --blind", "--blind: goes with --task"),
        ("--check --folder nowhere", "nowhere: no such folder"),
        ("--task car", "--level: car needs a quality"),
        ("--task demosaic --level 2", "--level: demosaic has no levels"),
        ("--task car --level 101", "--level: quality is 101"),
        ("--task colordn --level -1", "--level: sigma is -1"),
        ("--task colordn --level nan", "--level: sigma is nan"),
        ("--task car --level inf", "--level: inf is not a whole number"),
        ("--task sr --level 2.5", "--level: 2.5 is not a whole number"),
        ("--task sr --level 5", "--network: RNAN enlarges ×2, ×3, ×4, not ×5"),
        ("--task sr --level 8 --size small", "--network: RNAN enlarges ×2, ×3, ×4, not ×8"),
        ("--task sr --level 5 --size medium", "--network: RNAN enlarges ×2, ×3, ×4, not ×5"),
        ("--task sr --level 2 --network RIDNet", "--network: RIDNet keeps the size of its input"),
        ("--task car --level 10 --network EDSR", "--network: EDSR takes RGB images alone"),
        ("--task car --level 10 --blind", "--blind: a network for unknown levels has no level"),
        ("--task sr --blind", "--blind: sr has no range of levels to draw from; these have: colordn, graydn, car"),
        ("--task sr --level 2 --channels y", "--channels: sr works on rgb, not on y"),
        ("--task colordn --level 25 --released", "--released: the authors released no weights for colour noise"),
        ("--task car --blind --released", "--released: the authors released no weights for JPEG artefacts"),
        ("--task car --level 10 --channels rgb --released", "--released: the authors released no weights"),
        ("--task car --level 10 --released --network SwinIR", "--network: the released weights are the paper's RNAN"),
        ("--task car --level 10 --released --size small", "--size: the released weights are the paper's RNAN"),
        ("--task car --level 10 --size small --network SwinIR", "--size: there are small files of RNAN alone"),
        ("--task car --level 10 --size medium --network SwinIR", "--size: there are medium files of RNAN alone"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    arguments: str, told: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["options", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {told}")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_writing_then_checking(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = "135 option files in options, 135 of them written anew\n"
    assert printed(capsys, "--write") == f"{files}2 schemas for editors written anew\n"
    assert printed(capsys, "--write", "--folder", "options") == "135 option files in options, 0 of them written anew\n"
    assert printed(capsys, "--check") == "options: every option file is as its recipe\n"
    file = tmp_path / "options/small/train_RNAN_small_CAR_q10.yml"
    file.write_text(file.read_text(encoding="utf-8").replace("tile: 64", "tile: 96"), encoding="utf-8")
    assert main(["options", "--check"]) == 1
    line = "options/small/train_RNAN_small_CAR_q10.yml: val.tile is 96, the recipe has 64\n"
    assert capsys.readouterr().out == line
    changed = file.read_bytes()
    with pytest.warns(RnanWarning, match=f"^{file.relative_to(tmp_path)}: left as they are"):
        assert printed(capsys, "--write") == "135 option files in options, 0 of them written anew\n"
    assert file.read_bytes() == changed
    anew = "135 option files in options, 1 of them written anew"
    assert printed(capsys, "--write", "--overwrite").splitlines() == [anew]
    (tmp_path / "options/schemas/option_file.json").write_text("{}")
    (tmp_path / "options/schemas/comparison_file.json").unlink()
    assert main(["options", "--check"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "options/schemas/option_file.json: not as the code has it",
        "options/schemas/comparison_file.json: missing",
    ]


def test_the_file_is_utf8_whatever_the_terminal_has(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rnan_plugin", "options", "--task", "colordn", "--level", "50"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    _, _, shipped = (REPOSITORY / "options/train_RNAN_ColorDN_s50.yml").read_bytes().partition(b"\n")
    assert result.stdout == shipped


def test_help_needs_no_torch(tmp_path: Path) -> None:
    code = "import sys, rnan_plugin.__main__ as m\ntry: m.main(['options', '-h'])\nexcept SystemExit: pass\n"
    code += "sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert b"--blind" in result.stdout
