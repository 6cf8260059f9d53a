"""`doctor`: what is wrong with the installation, or an option file and its data, and how to mend it."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("-opt", metavar="FILE", help="option file to check, as its training or test does, and its data")


def run(options: argparse.Namespace) -> int:
    """Print the diagnosis; 1 where something is wrong."""
    from rnan_plugin.environment import doctor

    if options.opt is not None:
        sys.argv = ["rnan doctor", "-opt", options.opt]  # where messages find the option file's name
    return doctor.diagnose(options.opt)
