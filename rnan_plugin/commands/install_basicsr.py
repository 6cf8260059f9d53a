"""`install-basicsr`: BasicSR from its untouched sdist, on Pythons where pip can't build it, and without tb-nightly."""

from __future__ import annotations

import argparse

from rnan_plugin.environment import basicsr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""


def run(options: argparse.Namespace) -> int:  # noqa: ARG001 - there are none
    """Do it; see `basicsr.install`."""
    basicsr.install()
    return 0
