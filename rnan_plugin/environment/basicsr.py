"""Build and install BasicSR from its untouched sdist, on Pythons where pip alone can't, and without tb-nightly."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from rnan_plugin.errors import UserError
from rnan_plugin.toolbox.compat import TOOLBOX_VERSION

REQUIREMENT = f"basicsr=={TOOLBOX_VERSION}"
BUILDING = Path(__file__).with_name("building")
BACKEND = "setuptools>=77"  # builds wheels by itself


def install(source: str = REQUIREMENT) -> None:
    """Install BasicSR into this environment, with what it needs; nothing is done where it is installed like that.

    Args:
        source: What pip is to build: a requirement, an sdist, or a folder.

    Raises:
        UserError: There is no pip, or it failed; it has said why.
    """
    if is_installed():
        print(f"{REQUIREMENT} is installed already in {sys.prefix}")
        return
    print(f"building {source} and installing it into {sys.prefix}", flush=True)
    _pip("install", BACKEND)
    with tempfile.TemporaryDirectory() as folder:
        build(source, folder)
        (wheel,) = Path(folder).glob("*.whl")
        _pip("install", "--force-reinstall", "--no-deps", str(wheel))
    _pip("install", REQUIREMENT)  # what it requires, by the wheel's own list
    print("installed; `rnan doctor` looks after it, `rnan enable --link` lets its own scripts know RNAN")


def is_installed() -> bool:
    """Whether BasicSR is there in the version that the plugin is for, with requirements that can be met."""
    try:
        distribution = metadata.distribution("basicsr")
    except metadata.PackageNotFoundError:
        return False
    return distribution.version == TOOLBOX_VERSION and "tb-nightly" not in (distribution.requires or [])


def build(source: str, folder: str) -> None:
    """Build BasicSR's wheel into a folder, in this environment's own Python, which has setuptools.

    Without pip's cache: a wheel that was built in another way would be taken from there, and this one be put there.
    """
    _pip(
        *("wheel", "--no-deps", "--no-build-isolation", "--use-pep517", "--no-cache-dir"),
        *("--no-binary", "basicsr", "--wheel-dir", folder, source),
        PYTHONPATH=os.pathsep.join(filter(None, (str(BUILDING), os.environ.get("PYTHONPATH")))),
    )


def _pip(*arguments: str, **environment: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    if not list(metadata.distributions(name="pip")):  # to look for the module would change distutils before Python 3.12
        raise UserError(f"{sys.prefix} has no pip: `{sys.executable} -m ensurepip` adds it")
    if subprocess.run(command, env={**os.environ, **environment}, check=False).returncode:
        raise UserError(f"BasicSR is not installed: `pip {arguments[0]}` failed for the reason it gives above")
