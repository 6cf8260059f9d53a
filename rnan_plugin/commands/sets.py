"""`sets`: which of the paper's validation sets are complete."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("root", metavar="FOLDER", nargs="?", default="datasets", help="default: datasets")


def run(options: argparse.Namespace) -> int:
    """Print a line for each; 1 where one is not complete."""
    from rnan_plugin.data.prepare import list_validation_sets

    return list_validation_sets(options.root)
