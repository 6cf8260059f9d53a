"""The plugin's commands: `rnan COMMAND`, or `python -m rnan_plugin COMMAND`.

    rnan restore photo.jpg restored.png --task car --level 10
    rnan train -opt options/train_RNAN_CAR_q10.yml

Exit status: 0 fine, 1 something to mend, 2 wrong use.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from rnan_plugin import startup
from rnan_plugin.errors import UserError, exit_status
from rnan_plugin.version import __version__

# A module of `rnan_plugin.commands` each, imported when it runs, so that each pays only for what it needs.
COMMANDS = {
    "images": {
        "restore": "restore an image or a folder of images",
        "serve": "serve a page on this machine to restore photographs in a browser",
        "degrade": "degrade a folder of images as the paper does",
    },
    "training": {
        "options": "write a whole option file, or all that are shipped",
        "prepare": "pack an image set into an LMDB: folders, zip files, or URLs; goes on if interrupted",
        "verify": "re-read an LMDB and compare names, shapes and checksums",
        "sets": "say which of the paper's validation sets are complete",
        "train": "train, with the arguments of basicsr/train.py; can be left at any moment",
        "test": "test, with the arguments of basicsr/test.py",
        "study": "train a set of option files one after another, and collect their results",
    },
    "results": {
        "evaluate": "score a method under the paper's protocol, beside the paper's rows",
        "compare": "put several methods into one table with their cost, and one page",
        "figure": "draw a figure as the paper's from a comparison",
        "attention": "picture what the attention looks at",
    },
    "weights and environment": {
        "export": "write a network as a file for other programs",
        "convert": "convert released weights to this plugin's names",
        "install-basicsr": "build and install BasicSR as it is, without tb-nightly, on any Python from 3.11 on",
        "enable": "let every `import basicsr` of this environment know RNAN",
        "disable": "undo enable",
        "status": "say whether the hook is enabled (exit status 0) or not (1)",
        "doctor": "say what is wrong with the installation, or an option file's data, and how to mend it",
    },
}
HELP_LINES = {name: line for group in COMMANDS.values() for name, line in group.items()}
FORWARDING = frozenset({"train", "test"})  # take all arguments as they are: BasicSR's


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    startup.install()  # `import rnan_plugin` may have happened long ago, switched off
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no UTF-8
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # its decoders print beside the line that an error gives
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return exit_status(lambda: _run(arguments))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has seen enough, as under `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        return 141


def program() -> int:
    """`main` as a process of its own, which starts and ends a quarter faster.

    The collector of reference cycles takes that time: it looks at what torch's modules hold, again and again while they
    are imported, and once more when all is done.
    """
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        return main()
    finally:
        gc.freeze()


_OBJECTS_BETWEEN_COLLECTIONS = 10_000  # Python's own number is 700


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(_overview())
        return 0
    if arguments[0] not in HELP_LINES:
        _parse_top(arguments)
    name, rest = arguments[0], arguments[1:]
    _check_none_is_empty(rest)
    module = importlib.import_module(module_of(name))
    status: int = module.run(rest if name in FORWARDING else parser_of(name, module).parse_args(rest))
    return status


def _check_none_is_empty(arguments: list[str]) -> None:
    """As a path it would be the current folder, and as a flag's value as if the flag were not there.

    Raises:
        UserError: One is.
    """
    if "" in arguments:
        before = arguments[: arguments.index("")]
        place = f"after '{before[-1]}'" if before else "the first"
        raise UserError(f"an argument is empty, {place}; leave it out, or set the variable that it is to come from")


def module_of(name: str) -> str:
    """The module in which a command is."""
    return f"rnan_plugin.commands.{name.replace('-', '_')}"


def parser_of(name: str, module: Any) -> argparse.ArgumentParser:
    """The parser of a command's own arguments."""
    examples = getattr(module, "EXAMPLES", None)
    parser = argparse.ArgumentParser(
        prog=f"rnan {name}",
        description=HELP_LINES[name],
        epilog=examples and f"examples:{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return parser


def _parse_top(arguments: list[str]) -> None:
    """What comes before a command: its version, or a mistake."""
    parser = argparse.ArgumentParser(prog="rnan", usage="rnan COMMAND …")
    parser.add_argument("--version", action="version", version=f"rnan_plugin {__version__}")
    parser.add_argument("command", choices=HELP_LINES, metavar="COMMAND")
    parser.parse_args(arguments[:1])


def _overview() -> str:
    lines = ["usage: rnan COMMAND …", "", "RNAN for BasicSR: restore images, train, compare."]
    for group, commands in COMMANDS.items():
        lines += ["", f"{group}:", *(f"  {name:15} {line}" for name, line in commands.items())]
    return "\n".join([*lines, "", "rnan COMMAND --help tells more; --version the version."])


if __name__ == "__main__":
    sys.exit(program())
