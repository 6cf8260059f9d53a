"""`disable`: undo `enable`."""

from __future__ import annotations

import argparse

from rnan_plugin.environment import hook


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""


def run(options: argparse.Namespace) -> int:  # noqa: ARG001 - there are none
    """Do it; see `hook.disable`."""
    hook.disable()
    return 0
