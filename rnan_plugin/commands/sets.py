"""`sets`: which of the paper's validation sets are complete."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("root", metavar="FOLDER", nargs="?", help="default: datasets")


def run(options: argparse.Namespace) -> int:
    """Print a line for each; 1 where one is not complete, or there is no `datasets` yet."""
    from rnan_plugin.data.prepare import list_validation_sets
    from rnan_plugin.errors import UserError
    from rnan_plugin.targets import ABSENT, absence

    if options.root is not None and absence(options.root) == ABSENT:
        raise UserError(f"{options.root}: no such folder; name the one that has a folder for each set")
    return list_validation_sets("datasets" if options.root is None else options.root)
