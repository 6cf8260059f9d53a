"""`attention`: a picture of what the attention looks at."""

from __future__ import annotations

import argparse

from rnan_plugin.commands.arguments import add_network, add_task, add_weights, path_at_home, task_of

EXAMPLES = """
  rnan attention photo.png maps.png --pixel 120 200 --task car --level 10
  rnan attention photo.png maps.png --pixel 120 200 --weights RNAN_F64G10P48L2N30.pt

Each non-local block: bright where it takes from for the pixel (row, column), marked with a cross. Each mask: its mean
over the features; bright is let through. Exact on the whole image, in memory linear in its pixels.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("image", type=path_at_home, help="input of the network")
    parser.add_argument("picture", type=path_at_home, help="to write; its ending says the format (PNG without one)")
    parser.add_argument("--pixel", type=int, nargs=2, required=True, metavar=("ROW", "COLUMN"), help="looked from")
    add_task(parser, required=False, why="take the package's weights")
    add_network(parser)
    add_weights(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the picture where it is there already")


def run(options: argparse.Namespace) -> int:
    """Draw; see `picture_file` and `attention_figure.draw` for errors."""
    from rnan_plugin.evaluation.attention_figure import draw
    from rnan_plugin.evaluation.plotting import picture_file
    from rnan_plugin.inference.networks import load_network

    task = task_of(options)
    picture = picture_file(options.picture, [options.image], overwrite=options.overwrite)
    loaded = load_network(options.opt, options.weights, task)
    draw(loaded, options.image, picture, tuple(options.pixel), task)
    return 0
