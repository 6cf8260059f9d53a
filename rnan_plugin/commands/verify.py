"""`verify`: whether an LMDB is complete and undamaged."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("lmdb", metavar="LMDB", help="LMDB to read")


def run(options: argparse.Namespace) -> int:
    """Read all of it; 1 where something is wrong."""
    from rnan_plugin.data.prepare import verify

    return verify(options.lmdb)
