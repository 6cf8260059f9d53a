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
    why = "what to restore from, with the package's weights unless others are named; auto (default) looks at each file"
    add_task(parser, required=False, why=why, finds_level=True)
    add_network(parser)
    add_weights(parser)
    parser.add_argument("--channels", choices=["y", "gray"], help="of colour images, for one-channel networks")
    add_policy(parser, default=None)
    add_device(parser)
    parser.add_argument("--compile", action="store_true", help="compile the network first; pays for many images")


def run(options: argparse.Namespace) -> int:
    """Restore; see `restore_files` for errors."""
    from rnan_plugin.inference.pick import PackagePick, Pick, always, build_worker
    from rnan_plugin.inference.restore_files import restore_files
    from rnan_plugin.inference.restorer import RestoreSettings

    settings = RestoreSettings(policy_of(options), options.device, options.precision, options.compile, options.channels)
    pick: Pick
    if options.opt or options.weights:
        pick = always(build_worker(options.opt, options.weights, task_of(options), settings))
    else:
        if options.level is not None:
            task_of(options)  # checks that the task has such a level
        name = options.task or "auto"
        is_named = options.policy is not None or options.tile is not None or options.overlap is not None
        pick = PackagePick(settings, name, options.level, is_policy_named=is_named)
    count = restore_files(options.source, options.target, pick)
    print(f"{count} image(s) done")
    return 0
