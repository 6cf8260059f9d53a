"""`options`: whole option files, from the same recipes as those that are shipped."""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from rnan_plugin.choices import CHANNELS, NETWORKS, SIZES
from rnan_plugin.commands.arguments import add_task, path_at_home
from rnan_plugin.errors import RnanWarning, UserError

if TYPE_CHECKING:  # torch takes seconds, and help needs none of it
    from rnan_plugin.options.inputs import Inputs
    from rnan_plugin.options.recipes import OptionFile

EXAMPLES = """
  rnan options --task colordn --level 25 > mine.yml             the paper's training at a level of your own
  rnan options --task car --blind --channels rgb > mine.yml     for colour JPEG files of any quality
  rnan options --task sr --level 4 --network EDSR > mine.yml    a network of BasicSR in RNAN's place
  rnan options --task sr --level 4 --released > mine.yml        the test of the authors' weights
  rnan options --write                                          all shipped files, into the folder `options`
  rnan options --check                                          which of them differ from their recipes
  rnan options --schema > option_file.json                      the JSON schema from which editors know keys and values
"""
# Flags that describe the file which --task prints, by their names in the parsed options.
_OF_A_FILE = ("network", "size", "channels", "blind", "test", "released")
_FOLDER = "options"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    add_task(parser, required=False, why="print the file that trains for it")
    parser.add_argument("--blind", action="store_true", help="for unknown levels: drawn from the task's range")
    parser.add_argument("--channels", choices=CHANNELS, help="others than the paper's: rgb for car")
    parser.add_argument("--network", choices=NETWORKS, help="a network of BasicSR instead (default: RNAN)")
    sizes = "trained on BSD400 within CPU hours: small, or medium (Table 7's small model); default: paper"
    parser.add_argument("--size", choices=SIZES, help=sizes)
    parser.add_argument("--test", action="store_true", help="the test of what the file trains")
    parser.add_argument("--released", action="store_true", help="the test of the authors' weights")
    parser.add_argument("--write", action="store_true", help="write all shipped files")
    parser.add_argument("--overwrite", action="store_true", help="with --write: also those that were changed")
    parser.add_argument("--check", action="store_true", help="say which shipped files differ; exit status 1 if any do")
    parser.add_argument(
        "--schema",
        nargs="?",
        const="option",
        choices=("option", "comparison"),
        help="print a schema (default: %(const)s)",
    )
    parser.add_argument("--folder", type=path_at_home, help=f"of the shipped files (default: {_FOLDER})")


def run(options: argparse.Namespace) -> int:
    """Print a file or a schema, or write or check all that are shipped.

    Raises:
        UserError: Flags that don't go together, or a task or network that doesn't fit them.
    """
    _check_flags(options)
    if options.write:
        return _write(options.folder or Path(_FOLDER), overwrite=options.overwrite)
    if options.check:
        return _check(options.folder or Path(_FOLDER))
    return _print(_schema(options.schema) if options.schema else _asked_for(options).text)


def _print(text: str) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # option files are, whatever the terminal has
    sys.stdout.write(text)
    return 0


def _check_flags(options: argparse.Namespace) -> None:
    doing = [flag for flag in ("write", "check", "task", "schema") if getattr(options, flag)]
    if len(doing) != 1:
        asked = " and ".join(f"--{flag}" for flag in doing) or "nothing"
        raise UserError(f"{asked} asked for; use one of --task (prints one file), --write, --check (all) and --schema")
    if options.folder is not None and not (options.write or options.check):
        raise UserError(
            f"--folder: goes with --write or --check; with --{doing[0]} the file is printed, redirect it by > FILE"
        )
    if options.overwrite and not options.write:
        raise UserError("--overwrite: goes with --write")
    given = [flag for flag in _OF_A_FILE if getattr(options, flag)]
    if not options.task and (given or options.level is not None):
        raise UserError(f"--{given[0] if given else 'level'}: goes with --task, which prints one file")
    others = {"size": options.size not in (None, "paper"), "network": options.network not in (None, "RNAN")}
    if options.released and any(others.values()):
        flag = next(flag for flag, given in others.items() if given)
        raise UserError(f"--{flag}: the released weights are the paper's RNAN; leave out --{flag} or --released")
    if all(others.values()):
        raise UserError(f"--size: there are {options.size} files of RNAN alone; leave out --size or --network")


def _write(folder: Path, *, overwrite: bool) -> int:
    from rnan_plugin.evaluation.schemas import write_schemas
    from rnan_plugin.options.shipped_files import write_files

    written, total, kept = write_files(folder, overwrite=overwrite)
    print(f"{total} option files in {folder}, {written} of them written anew")
    if kept:
        others = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
        told = f"{kept[0]}{others}: left as they are, other than their recipes; --overwrite replaces them"
        warnings.warn(told, RnanWarning, stacklevel=2)
    if schemas := write_schemas(folder):
        print(f"{schemas} schemas for editors written anew")
    return 0


def _check(folder: Path) -> int:
    from rnan_plugin.evaluation.schemas import stale_schemas
    from rnan_plugin.options.shipped_files import differences

    lines = [*differences(folder), *stale_schemas(folder)]
    print(*lines or [f"{folder}: every option file is as its recipe"], sep="\n")
    return 1 if lines else 0


def _schema(kind: str) -> str:
    from rnan_plugin.evaluation.schemas import text_of_schema
    from rnan_plugin.options.shipped_files import COMPARISON_SCHEMA, OPTION_SCHEMA

    return text_of_schema(OPTION_SCHEMA if kind == "option" else COMPARISON_SCHEMA)


def _asked_for(options: argparse.Namespace) -> OptionFile:
    """The file that the flags describe; messages of the recipes begin with the flag's name."""
    from rnan_plugin.options import recipes
    from rnan_plugin.options.inputs import inputs_of

    try:
        inputs = inputs_of(options.task, options.level, blind=options.blind, channels=options.channels)
        if options.released:
            return recipes.released(inputs)
        file = _training(options, inputs)
        return recipes.test(file, inputs) if options.test else file
    except UserError as error:
        raise error.within("--") from None


def _training(options: argparse.Namespace, inputs: Inputs) -> OptionFile:
    from rnan_plugin.options import recipes, small_recipes

    if options.size == "small":
        return small_recipes.small(inputs)
    if options.size == "medium":
        return small_recipes.medium(inputs)
    if options.network in (None, "RNAN"):
        return recipes.paper(inputs)
    return recipes.compare(options.network, inputs)
