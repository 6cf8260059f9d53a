"""The wheel, without the checkout: its commands work from an empty folder, and name nothing that is not in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import REPOSITORY


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, as pip would lay it down."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(REPOSITORY / "rnan_plugin", source / "rnan_plugin", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    result = subprocess.run([*build, str(source)], capture_output=True, text=True, check=False)
    if "No module named pip" in result.stderr:
        pytest.skip("pip is not installed in this environment")
    assert result.returncode == 0, result.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def rnan(unpacked: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rnan_plugin", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_commands_work_from_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    photo = cv2.resize(coarse, (70, 50), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "photos/a.png"), photo)
    cv2.imwrite(str(tmp_path / "a.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 10])
    level = ["--task", "car", "--level", "10", "--tile", "64"]
    printed = ["options", "--task", "colordn", "--level", "25"]
    for arguments in (["restore", "a.jpg", "out.png", *level], ["evaluate", "photos", *level], ["--help"], printed):
        result = rnan(unpacked, tmp_path, *arguments)
        assert result.returncode == 0, result.stdout + result.stderr
    assert "sigma: 25" in result.stdout
    assert (tmp_path / "out.png").is_file()
    assert f"one copy of rnan_plugin: {unpacked}" in rnan(unpacked, tmp_path, "doctor").stdout


def test_every_command_has_help(unpacked: Path, tmp_path: Path) -> None:
    from rnan_plugin.__main__ import FORWARDING, HELP_LINES

    for name in HELP_LINES.keys() - FORWARDING:
        result = rnan(unpacked, tmp_path, name, "--help")
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith(f"usage: rnan {name}")


def test_it_holds_the_weights_and_their_cards(unpacked: Path) -> None:
    weights = {file.stem for file in (unpacked / "rnan_plugin/weights").glob("*.pth")}
    cards = {file.stem for file in (unpacked / "rnan_plugin/weights").glob("*.md")}
    assert weights == cards == {file.stem for file in (REPOSITORY / "rnan_plugin/weights").glob("*.pth")}
    entry = next(unpacked.glob("*.dist-info/entry_points.txt")).read_text()
    assert "rnan = rnan_plugin.__main__:main" in entry
