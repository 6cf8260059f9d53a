"""Flags that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rnan_plugin.choices import ASKED_PRECISIONS, POLICIES
from rnan_plugin.errors import UserError
from rnan_plugin.paper.tasks import TASKS, TaskAtLevel
from rnan_plugin.targets import expanded

if TYPE_CHECKING:  # torch takes seconds, and help needs none of it
    from rnan_plugin.inference.policy import Policy


def path_at_home(text: str) -> Path:
    """A path whose `~` no shell has replaced, as in `--out=~/results`."""
    return Path(expanded(text))


def add_task(parser: argparse.ArgumentParser, *, required: bool, why: str, finds_level: bool = False) -> None:
    """Add `--task` and `--level`; `why` is the task's help, and both may be "auto" where `finds_level`."""
    parser.add_argument(
        "--task", required=required, choices=[*(["auto"] if finds_level else []), *sorted(TASKS)], help=why
    )
    meanings = ", ".join(f"{task.level} ({name})" for name, task in sorted(TASKS.items()) if task.level)
    found = "; auto (default) finds it in each file" if finds_level else ""
    kind = _level_or_auto if finds_level else float
    parser.add_argument("--level", type=kind, help=f"{meanings}; other tasks have none{found}")


def _level_or_auto(text: str) -> float | None:
    try:
        return None if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor auto") from None


def task_of(options: argparse.Namespace) -> TaskAtLevel | None:
    """The task that the flags name, if they do.

    Raises:
        UserError: A level without a task, or one that the task does not have.
    """
    if options.task in {None, "auto"}:
        if options.level is not None:
            raise UserError("--level: needs --task, whose level it is")
        return None
    try:
        return TaskAtLevel(options.task, options.level, getattr(options, "seed", 0))
    except UserError as error:
        raise error.within("--") from None


def add_network(parser: argparse.ArgumentParser | argparse._MutuallyExclusiveGroup) -> None:
    """Add `-opt`; `--weights` is added by `add_weights`, since it goes with what excludes `-opt`."""
    parser.add_argument("-opt", metavar="FILE", help="option file: its network_g and path.pretrain_network_g")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add `--weights`."""
    told = "a training's or a released checkpoint, or a name of the package's; with -opt, instead of the file's own"
    parser.add_argument("--weights", metavar="FILE", help=told)


def add_policy(parser: argparse.ArgumentParser, *, default: str | None) -> None:
    """Add how a network is applied to an image; without a default it is auto, or tile where tiles are described."""
    told = f"default: {default}" if default else "default: tile with --tile, --overlap or --window, else auto"
    parser.add_argument("--policy", choices=POLICIES, default=default, help=told)
    parser.add_argument("--tile", type=int, metavar="SIDE", help="of a tile in input pixels (default: 128)")
    overlap = "pixels that tiles share (default: 16, or a quarter of a small tile)"
    parser.add_argument("--overlap", type=int, metavar="PIXELS", help=overlap)
    window = "of windows of a tile that attention stays within (default: the tile; auto chooses)"
    parser.add_argument("--window", type=int, metavar="SIDE", help=window)
    parser.add_argument("--tile-batch", type=int, default=1, metavar="N", help="tiles of one pass (default: 1)")
    parser.add_argument("--self-ensemble", action="store_true", help="mean over the eight flips (RNAN+)")


def policy_of(options: argparse.Namespace) -> Policy:
    """The policy that the flags describe.

    Raises:
        UserError: A value outside its legal interval, or tiles for a policy that has none.
    """
    from rnan_plugin.inference.policy import named_policy

    others = {"tile_batch": options.tile_batch, "self_ensemble": options.self_ensemble}
    return named_policy(options.policy, options.tile, options.overlap, options.window, **others)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device` and `--precision`."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")
    told = "of the layers (default: float32; auto: bfloat16 where the device is faster in it)"
    parser.add_argument("--precision", choices=ASKED_PRECISIONS, default="float32", help=told)
