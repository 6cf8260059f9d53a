"""Sdist and wheel: the one is the repository, the other, built from it, works from an empty folder without BasicSR."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import REPOSITORY

NOT_SHIPPED = {".ci/run", ".gitignore", ".pre-commit-config.yaml"}


@pytest.fixture(scope="module")
def files() -> set[str]:
    """The repository's files, those not yet committed too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout.split("\n")
    names = {name for name in listed if name and (REPOSITORY / name).is_file()}
    if not names:
        pytest.skip("not a checkout")
    return names


@pytest.fixture(scope="module")
def built(files: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, and with the wheel that was built from it."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def unpacked(built: Path) -> Path:
    """The wheel's content, as pip would lay it down."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(built / "installed")
    return built / "installed"


def test_the_sdist_is_the_repository(files: set[str], built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    made = {"PKG-INFO", "setup.cfg"}
    assert {name for name in names if ".egg-info/" not in name} == (files - NOT_SHIPPED) | made


def test_the_wheel_is_the_package(files: set[str], unpacked: Path) -> None:
    names = {file.relative_to(unpacked).as_posix() for file in unpacked.rglob("*") if file.is_file()}
    package = {name for name in files if name.startswith("rnan_plugin/")}
    assert {name for name in names if ".dist-info/" not in name} == package


def test_metadata_say_what_it_is(unpacked: Path) -> None:
    (file,) = unpacked.glob("*.dist-info/METADATA")
    metadata = Parser().parsestr(file.read_text(encoding="utf-8"))
    required = [line.split(">")[0] for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert "torch" in required
    assert "basicsr" not in required  # pip can't build it everywhere, and would bring tb-nightly
    assert metadata["License-Expression"] == "MIT"
    assert "image restoration" in metadata["Keywords"]
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert any(line.startswith("Paper,") for line in metadata.get_all("Project-URL", []))
    assert str(metadata.get_payload()).startswith("# rnan_plugin")


WITHOUT_BASICSR = """
import sys
from importlib import metadata
known = metadata.Distribution.from_name
def from_name(name):
    if name == "basicsr":
        raise metadata.PackageNotFoundError(name)
    return known(name)
metadata.Distribution.from_name = staticmethod(from_name)
sys.modules["basicsr"] = None
from rnan_plugin.__main__ import main
sys.exit(main())
"""


def rnan(unpacked: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WITHOUT_BASICSR, *arguments]
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
    found = rnan(unpacked, tmp_path, "doctor").stdout
    assert f"one copy of rnan_plugin: {unpacked}" in found
    assert "BasicSR is not installed" in found


@pytest.mark.parametrize("arguments", [("train", "-opt", "x.yml"), ("options", "--schema")], ids=lambda words: words[0])
def test_what_needs_basicsr_says_how_to_get_it(unpacked: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = rnan(unpacked, tmp_path, *arguments)
    assert result.returncode == 2
    assert result.stderr == "error: this needs BasicSR, which is not installed: `rnan install-basicsr` adds it\n"


def test_python_and_the_page_need_no_basicsr_and_no_unix(unpacked: Path, tmp_path: Path) -> None:
    """Nor do the modules of locks and of memory, whose modules of Unix are guarded."""
    code = """
import sys
for name in ("fcntl", "resource", "basicsr"):
    sys.modules[name] = None
import numpy as np, rnan_plugin
from rnan_plugin import device, data, page
from rnan_plugin.data import pack_work
from rnan_plugin.page import server
from rnan_plugin.training import data_workers, run_lock
from pathlib import Path
assert device.process_peak_mib() == 0
run_lock.hold_run(Path("experiments/run"))
with pack_work.work_folder(Path("a.lmdb"), {"job": 1}) as folder:
    assert folder.is_dir()
img = np.zeros((24, 24, 1), np.uint8)
print(rnan_plugin.restore(img, "car", 10).shape)
"""
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout == "(24, 24, 1)\n", result.stderr


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
    assert "rnan = rnan_plugin.__main__:program" in entry
