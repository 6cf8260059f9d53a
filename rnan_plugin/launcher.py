"""The plugin's own launcher around the toolbox's training and testing, and its cured option parsing."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rnan_plugin.errors import UserError
from rnan_plugin.option_check import check_option_file
from rnan_plugin.options import option_file, read_option_file
from rnan_plugin.toolbox import basicsr, check_resume, stock_init_dist, stock_parse_options


def parse_options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], Any]:
    """Parse the command line and option file as the toolbox does, then check the file before anything is made.

    Takes `--local-rank` as well as `--local_rank`, and `dist_params.backend` with every launcher. The stock script
    uses it too where the environment hook is enabled; a problem ends the process with one line and status 2.
    """
    try:
        sys.argv[1:] = [re.sub(r"^--local-rank\b", "--local_rank", argument) for argument in sys.argv[1:]]
        path = option_file()
        config = read_option_file(path) if path else {}  # without one, argparse says how to use the command
        backend = (config.get("dist_params") or {}).get("backend")
        basicsr.utils.options.init_dist = partial(stock_init_dist, **({"backend": backend} if backend else {}))
        opt, args = stock_parse_options(root_path, is_train)
        check_option_file(opt, args.opt)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    return opt, args


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """Find and read the training state to resume from: `path.resume_state`, or the latest with `--auto_resume`.

    Unlike the toolbox's it works without a GPU, and looks where the toolbox writes.

    Raises:
        UserError: The state is missing or damaged.
    """
    path = opt["path"].get("resume_state")
    if opt["auto_resume"]:
        states = (file for file in Path(opt["path"]["training_states"]).glob("*.state") if file.stem.isdigit())
        path = str(max(states, key=lambda state: int(state.stem), default=None) or "") or None
        opt["path"]["resume_state"] = path
    if path is None:
        return None
    if not Path(path).is_file():
        raise UserError(f"path.resume_state: {path} not found; check the path, or use --auto_resume")
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else "cpu"
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path}: not a readable training state ({type(error).__name__}); resume from another"
        ) from None
    check_resume(opt, state["iter"])
    return state


def main(mode: str, argv: Sequence[str]) -> int:
    """Run the toolbox's training ("train") or testing ("test"); results land below the current folder.

    Args:
        mode: "train" or "test".
        argv: Arguments of the toolbox's script.

    Returns:
        Exit status 0.

    Raises:
        UserError: Something the user can mend, also when a data worker met it.
    """
    sys.argv = [f"rnan_plugin {mode}", *argv]
    root_path = str(Path.cwd())
    basicsr.train.load_resume_state = load_resume_state
    try:
        if mode == "train":
            basicsr.train.train_pipeline(root_path)
        else:
            basicsr.test.test_pipeline(root_path)
    except UserError as error:
        raise UserError(_worker_line(str(error))) from None
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0


def _worker_line(message: str) -> str:
    """The line itself of an error that a data worker wrapped in its traceback."""
    return message.rpartition("UserError: ")[2].strip()
