"""Let BasicSR's setup.py run as it is on Python 3.13 and later, and ask for what BasicSR needs today.

Python runs this module when it starts with this folder on PYTHONPATH: `environment.basicsr` builds BasicSR so. The
sdist stays untouched, and so does each file of BasicSR that its wheel holds; what changes is the list of requirements.
"""

from __future__ import annotations

import builtins
import sys
from typing import Any

# tb-nightly overwrites files of tensorboard, and its command fails with today's setuptools.
INSTEAD = {"tb-nightly": "tensorboard"}
# `basicsr/archs/arch_util.py` imports distutils, which setuptools provides since Python 3.12.
MISSING = "setuptools"


def replace_exec() -> None:
    """Let the function that calls `exec` find new names in `locals()`, as it did before Python 3.13 (PEP 667)."""
    stock = builtins.exec

    def exec_in_frame(source: Any, *scopes: Any, **keywords: Any) -> None:
        if not scopes and not keywords:
            frame = sys._getframe(1)
            scopes = frame.f_globals, frame.f_locals
        stock(source, *scopes, **keywords)

    builtins.exec = exec_in_frame


def replace_setup() -> None:
    """Give BasicSR today's requirements, and none for its build, which compiles nothing."""
    import setuptools

    stock = setuptools.setup

    def setup(**settings: Any) -> Any:
        if settings.get("name") == "basicsr":
            wanted = [INSTEAD.get(name, name) for name in settings["install_requires"]]
            settings |= {"install_requires": [*wanted, MISSING], "setup_requires": []}
        return stock(**settings)

    setuptools.setup = setup


if "pip" not in sys.orig_argv:  # pip's own process, which starts the one that builds
    replace_exec()
    replace_setup()
