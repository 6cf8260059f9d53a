"""`restore`: an image or a folder of images, by weights in the package or others."""

from __future__ import annotations

import argparse

from rnan_plugin.commands.arguments import (
    add_device,
    add_network,
    add_policy,
    add_task,
    add_weights,
    policy_of,
    task_of,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("source", metavar="INPUT", help="image or folder")
    parser.add_argument("target", metavar="OUTPUT", help="PNG file for an image, or folder")
    add_task(parser, required=False, why="what to restore from; takes the package's weights unless others are named")
    add_network(parser)
    add_weights(parser)
    parser.add_argument("--channels", choices=["y", "gray"], help="of colour images, for one-channel networks")
    add_policy(parser, default=None)
    add_device(parser)
    parser.add_argument("--compile", action="store_true", help="compile the network first; pays for many images")


def run(options: argparse.Namespace) -> int:
    """Restore; see `restore_files` for errors."""
    from rnan_plugin.inference.networks import load_network
    from rnan_plugin.inference.restore_files import restore_files
    from rnan_plugin.inference.restorer import Restorer, RestoreSettings, provenance_of

    settings = RestoreSettings(policy_of(options), options.device, options.precision, options.compile, options.channels)
    task = task_of(options)
    loaded = load_network(options.opt, options.weights, task)
    restorer = Restorer(loaded.net, loaded.channels, settings, task)
    named = {"option_file": options.opt, "task": str(task) if task else None, "channels": restorer.channels}
    provenance = named | provenance_of(loaded.weights, settings, restorer)
    count = restore_files(options.source, options.target, restorer, provenance)
    print(f"{count} image(s) restored")
    return 0
