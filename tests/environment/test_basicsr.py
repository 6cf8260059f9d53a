"""BasicSR built from its sdist: here from a small one with the same setup.py habits, without a network."""

from __future__ import annotations

import importlib.metadata
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from rnan_plugin.environment import basicsr
from rnan_plugin.errors import UserError

if not list(importlib.metadata.distributions(name="pip")):
    pytest.skip("pip is not installed in this environment", allow_module_level=True)

# As in BasicSR 1.4.2: a version that only older Pythons find, requirements in a file, others for the build.
SETUP = """
from setuptools import find_packages, setup

def get_version():
    with open('basicsr/version.py', 'r') as f:
        exec(compile(f.read(), 'basicsr/version.py', 'exec'))
    return locals()['__version__']

def get_requirements():
    with open('requirements.txt', 'r') as f:
        return [line.replace('\\n', '') for line in f.readlines()]

if __name__ == '__main__':
    setup(name=NAME, version=get_version(), packages=find_packages(), install_requires=get_requirements(),
          setup_requires=['no-such-package-of-the-build'])
"""


def sdist(folder: Path, name: str) -> Path:
    (folder / "basicsr").mkdir(parents=True)
    (folder / "basicsr/__init__.py").write_text("x = 1\n")
    (folder / "basicsr/version.py").write_text("__version__ = '1.4.2'\n")
    (folder / "requirements.txt").write_text("numpy>=1.17\ntb-nightly\ntqdm\n")
    (folder / "setup.py").write_text(SETUP.replace("NAME", repr(name)))
    return folder


def test_it_is_built_as_it_is_but_for_its_requirements(tmp_path: Path) -> None:
    basicsr.build(str(sdist(tmp_path / "sdist", "basicsr")), str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read("basicsr-1.4.2.dist-info/METADATA").decode())
        code = {name: archive.read(name) for name in archive.namelist() if name.startswith("basicsr/")}
    assert metadata.get_all("Requires-Dist") == ["numpy>=1.17", "tensorboard", "tqdm", "setuptools"]
    assert code == {f"basicsr/{file.name}": file.read_bytes() for file in (tmp_path / "sdist/basicsr").glob("*.py")}


def test_what_pip_cannot_build_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(UserError, match="`pip wheel` failed"):
        basicsr.build(str(tmp_path), str(tmp_path))


def test_no_pip_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.distributions", lambda **_: [])
    with pytest.raises(UserError, match=r"has no pip: `.* -m ensurepip` adds it"):
        basicsr.build(str(tmp_path), str(tmp_path))


@pytest.mark.parametrize(
    ("version", "required", "installed"),
    [("1.4.2", "tensorboard", True), ("1.4.2", "tb-nightly", False), ("1.3.5", "tensorboard", False)],
)
def test_what_counts_as_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, required: str, *, installed: bool
) -> None:
    """One that pip built, with tb-nightly among its requirements, `pip check` complains of: it is built again."""
    place = tmp_path / f"basicsr-{version}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Name: basicsr\nVersion: {version}\nRequires-Dist: {required}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert basicsr.is_installed() is installed
