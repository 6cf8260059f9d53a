"""`restore`: images and folders of images, by weights in the package or others."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rnan_plugin.choices import ONE_CHANNEL, RESULT_FORMATS
from rnan_plugin.commands.arguments import (
    add_device,
    add_network,
    add_policy,
    add_task,
    add_weights,
    policy_of,
    task_of,
)

if TYPE_CHECKING:  # torch takes seconds, and help needs none of it
    from rnan_plugin.inference.pick import Pick


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("sources", nargs="+", metavar="INPUT", help="images, folders, patterns")
    parser.add_argument("target", metavar="OUTPUT", help="file (.png, .jpg, .webp, .tif) for a single image, or folder")
    why = "what to restore from, with the package's weights unless others are named; auto (default) looks at each file"
    add_task(parser, required=False, why=why, finds_level=True)
    add_network(parser)
    add_weights(parser)
    parser.add_argument("--channels", choices=ONE_CHANNEL, help="of colour images, for one-channel networks")
    parser.add_argument(
        "--format", choices=RESULT_FORMATS, help="of results in a folder (default: png; same: each file's own)"
    )
    parser.add_argument("--quality", type=int, metavar="N", help="of JPEG (default: 95) and WebP (default: lossless)")
    parser.add_argument("--suffix", default="", metavar="TEXT", help="behind the names of results, such as _restored")
    parser.add_argument("--overwrite", action="store_true", help="do again what restore.jsonl says is done")
    parser.add_argument("--jobs", type=int, metavar="N", help="files at a time (default: as many as CPU threads)")
    parser.add_argument("--threads", type=int, metavar="N", help="of each file (default: all, shared out)")
    add_policy(parser, default=None)
    add_device(parser)
    parser.add_argument("--compile", action="store_true", help="compile the network first; pays for many images")


def run(options: argparse.Namespace) -> int:
    """Restore; 1 if some of several images could not be. See `restore_files` for errors."""
    from rnan_plugin.errors import UserError, tell
    from rnan_plugin.inference.plan import Naming
    from rnan_plugin.inference.restore_files import Work, restore_files

    naming = Naming(options.format, options.suffix, options.quality)
    work = Work(options.jobs, options.threads, options.overwrite)
    summary = restore_files(options.sources, options.target, _pick(options), naming, work)
    print(summary)
    if not summary.errors:
        return 0
    tell(UserError(*sorted(summary.errors)), most=len(summary.errors))  # each of them is a file to look after
    return 1


def _pick(options: argparse.Namespace) -> Pick:
    from rnan_plugin.inference.pick import NamedPick, PackagePick, build_worker
    from rnan_plugin.inference.restorer import RestoreSettings

    settings = RestoreSettings(policy_of(options), options.device, options.precision, options.compile, options.channels)
    if options.opt or options.weights:
        return NamedPick(build_worker(options.opt, options.weights, task_of(options), settings))
    if options.level is not None:
        task_of(options)  # checks that the task has such a level
    is_named = any(given is not None for given in (options.policy, options.tile, options.overlap, options.window))
    return PackagePick(settings, options.task or "auto", options.level, is_policy_named=is_named)
