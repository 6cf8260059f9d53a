"""`evaluate`: scores on image sets under the paper's protocol, beside the paper's rows."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rnan_plugin.commands.arguments import (
    add_device,
    add_network,
    add_policy,
    add_task,
    add_weights,
    path_at_home,
    policy_of,
    task_of,
)
from rnan_plugin.errors import UserError, one_line
from rnan_plugin.targets import expanded

if TYPE_CHECKING:
    from rnan_plugin.evaluation.methods import Method
    from rnan_plugin.paper.tasks import TaskAtLevel

EXAMPLES = """
  rnan evaluate datasets/Classic5 --task car --level 10                          the weights in the package
  rnan evaluate datasets/Kodak24 --task colordn --level 50 --weights RNAN_F64G10P48L2N50.pt
  rnan evaluate datasets/Set5 --task sr --level 2 -opt options/test_RNAN_SR_x2.yml --self-ensemble
  rnan evaluate datasets/Kodak24 --task graydn --level 50 --restored results/other_program
  rnan evaluate datasets/Classic5 --task car --level 10 --input                  the paper's first rows

prints PSNR and SSIM of each image and their mean, and writes CSV, JSON and Markdown with the whole protocol.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("sets", nargs="+", help="folders or LMDBs of ground truth, such as datasets/Kodak24")
    add_task(parser, required=True, why="whose inputs and protocol to score with")
    method = parser.add_mutually_exclusive_group()
    add_network(method)
    method.add_argument(
        "--restored", type=expanded, metavar="FOLDER", help="another program's results; of several sets FOLDER/SET"
    )
    method.add_argument("--input", action="store_true", help="score the degraded images themselves")
    add_weights(parser)
    parser.add_argument("--name", help="of the method, in tables and file names")
    _add_flags_of_networks(parser)
    files = ("WEIGHTS", "LINEAR")
    parser.add_argument("--lpips", nargs=2, metavar=files, help="LPIPS too: files of its backbone and linear layers")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument(
        "--out", type=path_at_home, default=Path("results/evaluation"), help="folder (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Score and report; see `evaluate` for errors."""
    from rnan_plugin.data.image_store import is_lmdb, open_store
    from rnan_plugin.evaluation.evaluate import evaluate
    from rnan_plugin.evaluation.reports import as_text, write_report
    from rnan_plugin.perceptual import Lpips
    from rnan_plugin.targets import check_folder

    check_folder(options.out)
    task = task_of(options)
    assert task is not None
    lpips = Lpips(*options.lpips) if options.lpips else None
    if lpips:
        lpips.describe()  # whatever is wrong with its files, before anything is restored
    for root in options.sets:
        open_store(root, is_lmdb=is_lmdb(root))  # a slip in the last is told before the first is scored
    for root in options.sets:
        evaluation = evaluate(method_of(options, task, root), task, root, lpips=lpips)
        print(as_text(evaluation))
        print(*(one_line(f"-> {file}") for file in write_report(evaluation, options.out)), "", sep="\n")
    return 0


def _refuse_flags_of_networks(options: argparse.Namespace) -> None:
    """What would have no effect without a network."""
    if options.weights:
        raise UserError("--weights: nothing to load them into with --input or --restored; leave one out")
    plain = _add_flags_of_networks(argparse.ArgumentParser()).parse_args([])
    for name, default in vars(plain).items():
        if getattr(options, name) != default:
            told = "is of a network, of which there is none with --input or --restored; leave one out"
            raise UserError(f"--{name.replace('_', '-')}: {told}")


def _add_flags_of_networks(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add how a network is applied, and on what."""
    add_policy(parser, default="tile")
    add_device(parser)
    return parser


def method_of(options: argparse.Namespace, task: TaskAtLevel, root: str) -> Method:
    """The method that the flags ask for, for one image set."""
    from rnan_plugin.data.image_store import is_lmdb, open_store
    from rnan_plugin.evaluation.methods import MethodSource, build_method
    from rnan_plugin.inference.restorer import RestoreSettings
    from rnan_plugin.targets import with_a_name

    if options.input or options.restored:
        _refuse_flags_of_networks(options)
    settings = RestoreSettings(policy_of(options), options.device, options.precision, channels=task.row.channels)
    wanted: list[str] = []
    if options.input:
        source = MethodSource("bicubic" if task.row.enlarges else "input")
        return build_method(source, task, settings, wanted, options.name or "input")
    if options.restored:
        folder = options.restored if len(options.sets) == 1 else f"{options.restored}/{Path(with_a_name(root)).stem}"
        wanted = list(open_store(root, is_lmdb=is_lmdb(root)).names)
        name = options.name or Path(options.restored).name
        return build_method(MethodSource("files", files=folder), task, settings, wanted, name)
    source = MethodSource("network", options.opt, options.weights)
    return build_method(source, task, settings, wanted, options.name)
