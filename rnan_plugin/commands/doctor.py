"""`doctor`: what is wrong with the installation, or an option file's data, and how to mend it."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("-opt", metavar="FILE", help="option file whose data to check")


def run(options: argparse.Namespace) -> int:
    """Print the diagnosis; 1 where something is wrong."""
    from rnan_plugin.environment import doctor

    return doctor.diagnose(options.opt)
