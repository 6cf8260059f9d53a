"""Score a model on image sets under the paper's protocol, beside the paper's rows.

    python scripts/evaluate.py datasets/Classic5 --task car --level 10   # the weights in the box
    python scripts/evaluate.py datasets/Kodak24 --task colordn --level 50 --weights RNAN_F64G10P48L2N50.pt
    python scripts/evaluate.py datasets/Set5 --task sr --level 2 -opt options/test_RNAN_SR_x2.yml --self-ensemble
    python scripts/evaluate.py datasets/Kodak24 --task graydn --level 50 --restored results/other_program
    python scripts/evaluate.py datasets/Classic5 --task car --level 10 --input  # first rows

prints PSNR and SSIM of each image and their mean, and writes CSV, JSON and Markdown files with the whole protocol.
Option files may name any network of the toolbox.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rnan_plugin.evaluation.classical import CLASSICAL
from rnan_plugin.data.image_store import is_lmdb, open_store
from rnan_plugin.paper.tasks import TASKS, TaskAtLevel
from rnan_plugin.errors import UserError, exit_status
from rnan_plugin.evaluation.methods import Method, NetworkMethod, RestoredFiles, unrestored
from rnan_plugin.evaluation.evaluate import evaluate
from rnan_plugin.inference.policy import named_policy
from rnan_plugin.inference.restorer import Settings
from rnan_plugin.evaluation.reports import as_text, write_report


def method_of(
    args: argparse.Namespace, setting: TaskAtLevel, root: str
) -> tuple[str, Method, Callable[[], dict[str, Any]]]:
    """Name and method that the command line asks for, and what tells what its results depend on."""
    if args.weights and (args.input or args.restored):
        raise UserError("--weights: nothing to load them into with --input or --restored; leave one out")
    if args.input:
        described = CLASSICAL["bicubic" if setting.name == "sr" else "input"].describe
        return "input", unrestored(setting), described
    if args.restored:
        names = open_store(root, is_lmdb=is_lmdb(root)).names
        folder = args.restored if len(args.sets) == 1 else f"{args.restored}/{Path(root).stem}"
        return args.name or Path(args.restored).name, RestoredFiles(folder, names), lambda: {"files": folder}
    policy = named_policy(args.policy, args.tile, args.overlap, self_ensemble=args.self_ensemble)
    settings = Settings(policy, args.device, args.precision, channels=setting.task.channels)
    method = NetworkMethod(setting, settings, args.opt, args.weights)
    return args.name or method.name, method, method.describe


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add: Callable[..., Any] = parser.add_argument
    add("sets", nargs="+", help="folders or LMDBs of ground truth, such as datasets/Kodak24")
    add("--task", required=True, choices=sorted(TASKS))
    add("--level", type=float, help="sigma (0..255), JPEG quality (1..100) or scale; demosaic has none")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("-opt", metavar="FILE", help="option file: its network_g and path.pretrain_network_g")
    model.add_argument("--restored", metavar="FOLDER", help="another program's results; of several sets FOLDER/SET")
    model.add_argument("--input", action="store_true", help="score the degraded images themselves")
    add("--weights", metavar="FILE", help="released weights, or with -opt a checkpoint instead of the file's own")
    add("--name", help="of the method, in tables and file names")
    add("--policy", choices=["auto", "whole", "tile", "release"], default="tile", help="default: tile")
    add("--tile", type=int, help="side of a tile in input pixels (default: 128)")
    add("--overlap", type=int, help="of neighbouring tiles (default: 16, or a quarter of a small tile)")
    add("--self-ensemble", action="store_true", help="mean over the eight flips (RNAN+)")
    add("--device", default="auto", help="cpu, cuda, … (default: a GPU if there is one)")
    add("--precision", choices=["float32", "bfloat16", "float16"], default="float32")
    add("--seed", type=int, default=0, help="of the noise (default: 0)")
    add("--out", type=Path, default=Path("results/evaluation"), help="folder (default: results/evaluation)")
    return parser.parse_args(argv)


def main() -> int:
    """Run the command line; return the exit status."""
    args = parse()
    setting = TaskAtLevel(args.task, args.level, args.seed)
    for root in args.sets:
        name, method, describe = method_of(args, setting, root)
        evaluation = evaluate(method, setting, root, name=name, describe=describe)
        print(as_text(evaluation))
        print(*(f"-> {file}" for file in write_report(evaluation, args.out)), "", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
