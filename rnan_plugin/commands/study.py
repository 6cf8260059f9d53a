"""`study`: train a set of option files one after another, go on where it was interrupted, collect their results."""

from __future__ import annotations

import argparse
from pathlib import Path

from rnan_plugin.commands.arguments import path_at_home

EXAMPLES = """
  rnan study options/ablation/*.yml --table results/ablation.md
  rnan study options/ablation/*.yml --processes 4      each as a torchrun job of 4 processes
  rnan study options/ablation/*.yml --only-table --table ablation.md --curves ablation.png

A training that is finished is passed over, a begun one goes on from its last good state, so that the same command
serves to begin and to go on. Ctrl-C lets the running training save, and ends. The table has the last and the best
metrics of each training, the curves those between, by its TensorBoard log. Minutes are at the median step's time, so
that validation, pauses and other work on the machine do not count.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("files", nargs="+", help="option files")
    parser.add_argument(
        "--processes", type=_at_least_one, default=1, help="of each training, by torchrun (default: 1, without)"
    )
    parser.add_argument("--table", type=path_at_home, help="Markdown file to write the table to, too")
    parser.add_argument("--curves", type=path_at_home, help="PNG, SVG or PDF to draw the validation metrics to")
    parser.add_argument("--only-table", action="store_true", help="train nothing")


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of 1 or more")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Train and report; see `run_study` for the status. Where the report can't be written, nothing is trained."""
    from rnan_plugin.evaluation.plotting import picture_file
    from rnan_plugin.evaluation.study import report_study, run_study
    from rnan_plugin.targets import check_file

    inputs = [Path(file) for file in options.files]
    if options.table:
        check_file(options.table, inputs)
    if options.curves:
        options.curves = picture_file(options.curves, inputs, overwrite=True)
    status = 0 if options.only_table else run_study(options.files, options.processes)
    report_study(options.files, options.table, options.curves)
    return status
