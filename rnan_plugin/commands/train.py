"""`train` and `test`: the arguments of BasicSR's scripts, results below the current folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def run(argv: Sequence[str]) -> int:
    """Train with the plugin's own loop.

    Args:
        argv: Arguments of BasicSR's script.

    Returns:
        Exit status: 0, or of a training that was asked to stop, 128 and the signal's number.

    Raises:
        UserError: Something the user can mend, also when a data worker met it.
    """
    return launch("train", argv)


def launch(mode: str, argv: Sequence[str]) -> int:
    """Run `train` or `test` with BasicSR's arguments; see `run`."""
    import rnan_plugin.training.connect  # noqa: F401 - tells BasicSR of RNAN
    from rnan_plugin.toolbox.api import basicsr
    from rnan_plugin.training.launcher import leave_processes, load_resume_state, parse_options
    from rnan_plugin.training.loop import train
    from rnan_plugin.training.other_models import check_other_model

    sys.argv = [f"rnan {mode}", *argv]
    try:
        if mode == "test":
            _test(basicsr.test.test_pipeline)
            return 0
        find_run(argv)
        opt, args = parse_options(str(Path.cwd()), is_train=True)
        check_other_model(opt, args.opt)
        return train(opt, args.opt, load_resume_state(opt))
    finally:
        leave_processes()


def _test(pipeline: Callable[[str], None]) -> None:
    """Run BasicSR's test with results below the current folder."""
    from rnan_plugin.errors import UserError

    try:
        pipeline(str(Path.cwd()))
    except OSError as error:  # its results' folder, a log or an image that can't be written
        place = error.filename or Path.cwd() / "results"
        raise UserError(f"{place}: {error.strerror or error}; check the folder and the disk") from None


def find_run(argv: Sequence[str]) -> None:
    """With `--auto_resume`, go where the run is; see `place_of_run`.

    The option file's relative paths, such as those of data sets, then count from there.
    """
    from rnan_plugin.files import one_component
    from rnan_plugin.training.launcher import argument_parser, name_of_run, read_forced
    from rnan_plugin.training.states import place_of_run

    args = argument_parser().parse_args(list(argv))
    if not args.auto_resume:
        return
    file = Path(args.opt).absolute()
    name = one_component(read_forced(args)["name"], f"{file}, name")
    folder = place_of_run(file, name_of_run(name, args))
    if folder != Path.cwd():
        print(f"the run is below {folder}: going on there", flush=True)
        sys.argv += ["-opt", str(file)]  # the last one counts
        os.chdir(folder)
