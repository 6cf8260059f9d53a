"""The plugin's commands.

    python -m rnan_plugin enable --link
    python basicsr/train.py -opt options/train_RNAN_CAR_q10.yml

`python -m rnan_plugin --help` lists the others. Exit status: 0 fine, 1 something to mend, 2 wrong use.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rnan_plugin import startup
from rnan_plugin.errors import exit_status


@dataclass(frozen=True)
class Command:
    """One subcommand: its help line, what it runs, its arguments as `add_argument` takes them.

    The work is imported inside `run`, so that each command pays only for what it needs.
    """

    help: str
    run: Callable[[argparse.Namespace], int]
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    forwards: bool = False  # takes all remaining arguments unparsed, in `options.rest`


def _enable(options: argparse.Namespace) -> int:
    from rnan_plugin.environment import hook as environment_hook

    environment_hook.enable(link=options.link)
    return 0


def _disable(_: argparse.Namespace) -> int:
    from rnan_plugin.environment import hook as environment_hook

    environment_hook.disable()
    return 0


def _status(_: argparse.Namespace) -> int:
    from rnan_plugin.environment import hook as environment_hook

    return environment_hook.status()


def _doctor(options: argparse.Namespace) -> int:
    from rnan_plugin.environment import doctor

    return doctor.diagnose(options.opt)


def _launch(options: argparse.Namespace) -> int:
    from rnan_plugin.training import launcher

    return launcher.main(options.command, options.rest)


def _prepare(options: argparse.Namespace) -> int:
    from rnan_plugin.data.lmdb_writer import Layout
    from rnan_plugin.data.prepare import prepare

    layout = Layout(options.crop_size, options.step, options.codec)
    choice = {"set_name": options.set, "hold_out": options.hold_out, "skip_bad": options.skip_bad}
    prepare(options.sources, options.lmdb, layout, **choice)
    return 0


def _verify(options: argparse.Namespace) -> int:
    from rnan_plugin.data.prepare import verify

    return verify(options.lmdb)


def _sets(options: argparse.Namespace) -> int:
    from rnan_plugin.data.prepare import list_validation_sets

    return list_validation_sets(options.root)


def _convert(options: argparse.Namespace) -> int:
    from rnan_plugin.archs import official_weights

    official_weights.convert(options.released, options.out)
    return 0


def _restore(options: argparse.Namespace) -> int:
    from rnan_plugin.paper.tasks import TaskAtLevel
    from rnan_plugin.inference.policy import named_policy
    from rnan_plugin.inference.restore_files import restore_files
    from rnan_plugin.inference.restorer import Restorer, Settings, provenance_of
    from rnan_plugin.inference.networks import load_network

    tiles = options.tile, options.overlap
    policy = named_policy(options.policy, *tiles, tile_batch=options.tile_batch, self_ensemble=options.self_ensemble)
    settings = Settings(policy, options.device, options.precision, options.compile, options.channels)
    setting = TaskAtLevel(options.task, options.level) if options.task else None
    loaded = load_network(options.opt, options.weights, setting)
    restorer = Restorer(loaded.net, loaded.channels, settings, setting)
    named = {"option_file": options.opt, "task": str(setting) if setting else None, "channels": restorer.channels}
    provenance = named | provenance_of(loaded.weights, settings, restorer)
    count = restore_files(options.source, options.target, restorer, provenance)
    print(f"{count} image(s) restored")
    return 0


COMMANDS = {
    "enable": Command(
        "let every `import basicsr` of this environment know RNAN",
        _enable,
        {"--link": {"action": "store_true", "help": "also link ./basicsr to the installed toolbox"}},
    ),
    "disable": Command("undo enable", _disable),
    "status": Command("say whether the hook is enabled (exit status 0) or not (1)", _status),
    "doctor": Command(
        "say what is wrong with the installation, or an option file's data, and how to mend it",
        _doctor,
        {"-opt": {"metavar": "FILE", "help": "option file whose data to check"}},
    ),
    "train": Command("train, with the arguments of basicsr/train.py", _launch, forwards=True),
    "test": Command("test, with the arguments of basicsr/test.py", _launch, forwards=True),
    "restore": Command(
        "restore an image or a folder of images",
        _restore,
        {
            "source": {"metavar": "INPUT", "help": "image or folder"},
            "target": {"metavar": "OUTPUT", "help": "PNG file for an image, or folder"},
            "--task": {"choices": ["car", "colordn", "demosaic", "graydn", "sr"], "help": "take the package's weights"},
            "--level": {"type": float, "help": "sigma, JPEG quality or scale of the task"},
            "-opt": {"metavar": "FILE", "help": "option file: its network_g and path.pretrain_network_g"},
            "--weights": {"metavar": "FILE", "help": "released weights; with -opt, instead of the file's own"},
            "--channels": {"choices": ["y", "gray"], "help": "of colour images, for one-channel networks"},
            "--policy": {
                "choices": ["auto", "whole", "tile", "release"],
                "help": "default: tile with --tile or --overlap, else auto",
            },
            "--tile": {"type": int, "help": "side of a tile in input pixels (default: 128)"},
            "--overlap": {"type": int, "help": "of neighbouring tiles (default: 16, or a quarter of a small tile)"},
            "--tile-batch": {"type": int, "default": 1, "help": "tiles of one pass (default: 1)"},
            "--self-ensemble": {"action": "store_true", "help": "mean over the eight flips (RNAN+)"},
            "--device": {"default": "auto", "help": "cpu, cuda, cuda:1, … (default: a GPU if there is one)"},
            "--precision": {"choices": ["float32", "bfloat16", "float16"], "default": "float32"},
            "--compile": {"action": "store_true", "help": "compile the network first; pays for many images"},
        },
    ),
    "prepare": Command(
        "pack an image set into an LMDB: folders, zip files, or URLs, which it downloads; goes on if interrupted",
        _prepare,
        {
            "sources": {"metavar": "SOURCE", "nargs": "*", "help": "folder, zip file, or URL; default: the set's URL"},
            "lmdb": {"metavar": "LMDB", "help": "LMDB to write, NAME.lmdb"},
            "--set": {
                "choices": ["div2k", "div2k-valid", "bsd400", "sr291"],
                "help": "insist on the set's number of images, names and checksum",
            },
            "--hold-out": {
                "type": int,
                "metavar": "N",
                "help": "pack one image in N apart, for validation",
            },
            "--crop-size": {"type": int, "help": "cut sub-images with this side (DIV2K: 480; default: whole images)"},
            "--step": {"type": int, "default": 240, "help": "distance of neighbouring sub-images (default: 240)"},
            "--codec": {
                "choices": ["png", "raw"],
                "default": "png",
                "help": "png: the toolbox reads it, too; raw: more disk, a crop reads its own rows alone",
            },
            "--skip-bad": {"action": "store_true", "help": "leave unreadable images out and list them"},
        },
    ),
    "verify": Command(
        "re-read an LMDB and compare names, shapes and checksums",
        _verify,
        {"lmdb": {"metavar": "LMDB", "help": "LMDB to read"}},
    ),
    "sets": Command(
        "say which of the paper's validation sets are complete",
        _sets,
        {"root": {"metavar": "FOLDER", "nargs": "?", "default": "datasets", "help": "default: datasets"}},
    ),
    "convert": Command(
        "convert released weights to this plugin's names",
        _convert,
        {
            "released": {"metavar": "RELEASED", "help": "file of the RNAN release"},
            "out": {"metavar": "OUT", "help": "file to write"},
        },
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    startup.install()  # `import rnan_plugin` may have happened long ago, switched off
    try:
        options = _parse(list(sys.argv[1:] if argv is None else argv))
        return exit_status(lambda: COMMANDS[options.command].run(options))
    except KeyboardInterrupt:
        return 130


def _parse(argv: list[str]) -> argparse.Namespace:
    # argparse.REMAINDER would stumble over a leading -opt.
    if argv and argv[0] in COMMANDS and COMMANDS[argv[0]].forwards:
        return argparse.Namespace(command=argv[0], rest=argv[1:])
    parser = argparse.ArgumentParser(prog="python -m rnan_plugin", description="RNAN for BasicSR")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.help, description=command.help)
        for flag, settings in command.arguments.items():
            subparser.add_argument(flag, **settings)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
