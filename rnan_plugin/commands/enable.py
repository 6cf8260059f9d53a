"""`enable`: let every `import basicsr` of this environment know RNAN."""

from __future__ import annotations

import argparse

from rnan_plugin.environment import hook


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--link", action="store_true", help="also link ./basicsr to the installed BasicSR")


def run(options: argparse.Namespace) -> int:
    """Do it; see `hook.enable`."""
    hook.enable(link=options.link)
    return 0
