"""`degrade`: a folder of images degraded as the paper does, so that any model can be tested on the same files."""

from __future__ import annotations

import argparse

from rnan_plugin.commands.arguments import add_task, path_at_home, task_of

EXAMPLES = """
  rnan degrade datasets/Kodak24 degraded/Kodak24_s50 --task colordn --level 50

writes OUTPUT/lq and OUTPUT/gt (grey, Y, or cropped to a multiple of the scale, as the task needs) as PNG with the names
of the input, and the settings in OUTPUT/settings.json. The noise is that of the validation data sets with
`noise_seed` N.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("input", metavar="INPUT", help="folder of images")
    parser.add_argument("output", metavar="OUTPUT", type=path_at_home, help="new folder to write")
    add_task(parser, required=True, why="what to degrade for")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise (default: 0)")


def run(options: argparse.Namespace) -> int:
    """Degrade; see `degrade_folder` for errors."""
    from rnan_plugin.data.degrade_folder import degrade_folder

    task = task_of(options)
    assert task is not None
    count = degrade_folder(options.input, options.output, task)
    print(f"{count} pairs in {options.output}/lq and {options.output}/gt")
    return 0
