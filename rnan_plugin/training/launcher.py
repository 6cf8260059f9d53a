"""The command line of training and testing: arguments and option file to the toolbox's options, nothing executed."""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

from rnan_plugin.errors import UserError, nearest, tell
from rnan_plugin.images.levels import expand_levels
from rnan_plugin.inference.shipped import named_file
from rnan_plugin.options.changes import changed_keys
from rnan_plugin.options.schema import check_sections, parse_yaml, read_option_file
from rnan_plugin.options.values import number_in
from rnan_plugin.targets import expanded, why_no_file
from rnan_plugin.toolbox.api import check_resume, get_dist_info, set_random_seed, stock_init_dist
from rnan_plugin.training.option_check import check_option_file
from rnan_plugin.training.other_models import check_other_model
from rnan_plugin.training.run_aside import check_what_is_moved_aside
from rnan_plugin.training.run_lock import hold_run
from rnan_plugin.training.section_check import OUR_MODEL, check_values
from rnan_plugin.training.states import load_state, newest_state

_PATHS = ("resume_state", "pretrain_network")  # beginnings or parts of keys whose `~` stands for the home folder


def parse_options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], argparse.Namespace]:
    """Parse the command line and option file to the toolbox's options, and check them before anything is made.

    Unlike the toolbox's it executes nothing that stands in the file or in `--force_yml`, takes `--local-rank` as well
    as `--local_rank`, `dist_params.backend` with every launcher, and `--archive`. The stock script uses it too where
    the environment hook is enabled; a problem ends the process with status 2.
    """
    try:
        args = _arguments()
        return _options(args, root_path, is_train=is_train), args
    except UserError as error:
        tell(error)
        raise SystemExit(2) from None


def check_file(option_file: str) -> None:
    """Check an option file as its training does, or where it has none its test; nothing is made.

    Raises:
        UserError: A line for each problem.
    """
    content = read_option_file(option_file)
    args = argument_parser().parse_args(["-opt", option_file, "--archive"])
    has_weights = content["path"].get("pretrain_network_g") is not None  # a test's `train`, which nobody took out
    is_train = "train" in content["datasets"] or ("train" in content and not has_weights)
    check_other_model(_options(args, str(Path.cwd()), is_train=is_train), option_file)


def _options(args: argparse.Namespace, root_path: str, *, is_train: bool) -> dict[str, Any]:
    opt = read_forced(args)
    check_sections(opt, args.opt)
    problems = check_values(opt, args.opt, is_train=is_train)
    _distribute(opt, args.launcher)
    _derive(opt, args, root_path, is_train=is_train)
    check_option_file(opt, args.opt, problems)
    if opt["model_type"] == OUR_MODEL:
        check_what_is_moved_aside(opt, resumes=args.auto_resume, may_archive=args.archive or args.debug)
    return opt


def read_forced(args: argparse.Namespace) -> dict[str, Any]:
    """The content of the option file with the values of `--force_yml`."""
    opt = dict(read_option_file(args.opt))
    for entry in args.force_yml or []:
        _force(opt, entry)
    return opt


def name_of_run(name: str, args: argparse.Namespace) -> str:
    """What a run's folders are called: `--debug` keeps them apart."""
    return f"debug_{name}" if args.debug and not name.startswith("debug") else name


def argument_parser() -> argparse.ArgumentParser:
    """The arguments of `train` and `test`: BasicSR's, and `--archive`."""
    parser = argparse.ArgumentParser(prog=Path(sys.argv[0]).name)
    parser.add_argument("-opt", required=True, help="option file")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none", help="who starts processes")
    parser.add_argument("--auto_resume", "--auto-resume", action="store_true", help="go on from the last good state")
    parser.add_argument("--archive", action="store_true", help="move a run of this name aside and start anew")
    parser.add_argument("--debug", action="store_true", help="log every step, validate and save every eighth")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--force_yml", nargs="+", metavar="KEY:KEY=VALUE", help="change values of the option file")
    return parser


def _arguments() -> argparse.Namespace:
    args = argument_parser().parse_args()
    if args.auto_resume and args.archive:
        raise UserError("--auto_resume goes on with a run, --archive begins it anew; give one of them")
    # torchrun starts a process anew with the same arguments.
    args.auto_resume |= int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    return args


def _force(opt: dict[str, Any], entry: str) -> None:
    """Set one value, `train:ema_decay=0.999`; YAML says what it means."""
    path, equals, text = entry.partition("=")
    *sections, key = path.strip().split(":")
    place: Any = opt
    for name in sections:
        place = _child(place, name, entry)
        if not isinstance(place, dict):
            raise UserError(f"--force_yml {entry}: '{name}' is no section of the option file")
    if not equals:
        raise UserError(f"--force_yml {entry}: is not KEY:KEY=VALUE")
    _child(place, key, entry)
    try:
        value = parse_yaml(text)
    except UserError as error:
        raise UserError(f"--force_yml {entry}: the value is {error}") from None
    number = number_in(value) if isinstance(value, str) else None  # 1e-4, which YAML takes for a text
    place[key] = value if number is None else number


def _child(place: Mapping[str, Any], name: str, entry: str) -> Any:
    if name not in place:
        raise UserError(f"--force_yml {entry}: the option file has no key '{name}'{nearest(name, place)}")
    return place[name]


def _distribute(opt: dict[str, Any], launcher: str) -> None:
    opt["dist"] = launcher != "none"
    if opt["dist"]:
        settings = opt.get("dist_params") or {}
        known = {"backend", "port"} if launcher == "slurm" else {"backend"}
        stock_init_dist(launcher, **{key: settings[key] for key in known if key in settings})
    opt["rank"], opt["world_size"] = get_dist_info()


def leave_processes() -> None:
    """End what `parse_options` began of a training of several processes; nothing may refer to its model any more.

    The threads of gloo end with the last reference to their group. One that still clears up a tensor when Python ends
    aborts the process (seen with torch 2.14: one of ten trainings that had finished well).
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()  # the model, which refers to groups, is a circle of references


def _derive(opt: dict[str, Any], args: argparse.Namespace, root_path: str, *, is_train: bool) -> None:
    """Add what the toolbox adds to an option file."""
    opt["seed_drawn"] = opt.get("manual_seed") is None
    if opt["seed_drawn"]:
        opt["manual_seed"] = _drawn_seed()
    _seed(opt)
    opt["auto_resume"], opt["is_train"] = args.auto_resume, is_train
    opt["name"] = name_of_run(opt["name"], args)
    if opt["num_gpu"] == "auto":
        opt["num_gpu"] = torch.cuda.device_count()
    if not is_train and opt["model_type"] == OUR_MODEL and opt["datasets"].get("train"):
        _say(opt, "datasets.train: passed over, a test is on the other sets")
        opt["datasets"] = {phase: section for phase, section in opt["datasets"].items() if phase != "train"}
    _derive_paths(opt)
    if isinstance(weights := opt["path"].get("pretrain_network_g"), str) and weights:
        opt["path"]["pretrain_network_g"] = named_file(weights, args.opt)
    folders = _folders(root_path, opt["name"], is_train=is_train)
    for key in sorted(opt["path"].keys() & folders.keys()):
        _say(opt, f"path.{key}: passed over, it is {folders[key]}")
    opt["path"] |= folders
    if is_train and "debug" in opt["name"]:
        opt["logger"] |= {"print_freq": 1, "save_checkpoint_freq": 8}
        if opt.get("val"):
            opt["val"]["val_freq"] = 8


def _seed(opt: Mapping[str, Any]) -> None:
    """Seed the streams that are not drawn from by a sample's or a step's number."""
    set_random_seed((opt["manual_seed"] + opt["rank"]) % 2**32)


def _drawn_seed() -> int:
    """A seed at random, the first process's for all of them."""
    drawn = [random.randint(1, 10000)]
    if dist.is_available() and dist.is_initialized():
        dist.broadcast_object_list(drawn, src=0)
    return drawn[0]


def _derive_paths(opt: dict[str, Any]) -> None:
    opt["datasets"] = _with_levels(opt["datasets"])
    for phase, dataset in opt["datasets"].items():
        dataset["phase"] = phase.split("_")[0]
        if "scale" in opt:
            dataset["scale"] = opt["scale"]
        for key in ("dataroot_gt", "dataroot_lq"):
            if key in dataset:
                dataset[key] = _at_home(dataset[key])
    for key, value in opt["path"].items():
        if any(part in key for part in _PATHS):
            opt["path"][key] = _at_home(value)


def _at_home(value: Any) -> Any:
    """A path, or several, with `~` replaced by the home folder; what is no path is left for the checks to tell."""
    if isinstance(value, list):
        return [_at_home(item) for item in value] if all(isinstance(item, str) for item in value) else value
    return str(Path(expanded(value))) if isinstance(value, str) and value else value


def _with_levels(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `datasets`, those at a list of levels as a set for each, under a key that no other entry has."""
    entries: dict[str, Any] = {}
    for phase, section in datasets.items():
        for wanted, entry in _levels_of(phase, section).items():
            key = wanted
            while key in entries or (key != phase and key in datasets):
                key += "_"
            entries[key] = entry
    return entries


def _levels_of(phase: str, section: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A set for each level of a validation set's list of levels; training keeps its range."""
    return {phase: section} if phase.split("_")[0] == "train" else expand_levels(phase, section)


def _folders(root_path: str, name: str, *, is_train: bool) -> dict[str, str]:
    root = Path(root_path, "experiments" if is_train else "results", name)
    if not is_train:
        return {"results_root": str(root), "log": str(root), "visualization": str(root / "visualization")}
    return {
        "experiments_root": str(root),
        "models": str(root / "models"),
        "training_states": str(root / "training_states"),
        "log": str(root),
        "visualization": str(root / "visualization"),
    }


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """Find and read the training state to resume from: `path.resume_state`, or the last whole one with `--auto_resume`.

    With `--auto_resume` a named state counts only where there is no other.

    Unlike the toolbox's it works without a GPU, looks where the toolbox writes, and verifies what it reads. What has
    changed in the option file since is printed key by key. From here on no other process can start the run.

    Raises:
        UserError: The state is missing, damaged or of another run, or with `--auto_resume` all of them are damaged; or
            the run is being trained already.
    """
    named = opt["path"].get("resume_state")
    if named is not None and not opt["auto_resume"]:
        _check_state_is_of_this_run(Path(named), opt)
    if opt["rank"] == 0:
        hold_run(Path(opt["path"]["experiments_root"]))
    state = _last_whole_state(opt) if opt["auto_resume"] else None
    if named is not None and state is None:
        _check_state_is_of_this_run(Path(named), opt)
        state = load_state(Path(named), Path(opt["path"]["models"]))
    if state is None:
        return None
    _keep_drawn_seed(opt, state)
    for line in changed_keys(state.get("options") or {}, opt):
        _say(opt, f"changed since iteration {state['iter']}: {line}")
    check_resume(opt, state["iter"])
    if "network_g" not in (opt["path"].get("ignore_resume_networks") or ()):
        opt["path"]["param_key_g"] = "params"  # training goes on with the weights, not with their average
    return state


def _check_state_is_of_this_run(path: Path, opt: Mapping[str, Any]) -> None:
    """Its weights are taken from this run's folder, so that the state has to come from there too."""
    folder = Path(opt["path"]["training_states"])
    if path.absolute().parent.resolve() != folder.resolve():
        raise UserError(
            f"path.resume_state: {path} is not of this run, whose states are in {folder}; to begin with the weights of "
            "another run, name them in path.pretrain_network_g"
        )
    if reason := why_no_file(path, "state"):
        other = "or take the key out: the run has no other" if opt["auto_resume"] else "or use --auto_resume"
        raise UserError(f"path.resume_state: {path}: {reason}; check the path, {other}")


def _last_whole_state(opt: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `--auto_resume` goes on from, and takes down as `path.resume_state`."""
    found = newest_state(Path(opt["path"]["training_states"]), Path(opt["path"]["models"]))
    if found is None:
        return None
    path, state, problems = found
    for problem in problems:
        _say(opt, f"warning: {problem}")
    if problems:
        _say(opt, f"warning: going on from {path}, the last state that is whole")
    named = opt["path"].get("resume_state")
    if named is not None and Path(named).resolve() != path.resolve():
        _say(opt, f"warning: path.resume_state: {named} is passed over, --auto_resume goes on from {path}, the last")
    opt["path"]["resume_state"] = str(path)
    return state


def _keep_drawn_seed(opt: dict[str, Any], state: Mapping[str, Any]) -> None:
    """Go on with the seed that the run has drawn, where the option file names none."""
    seed = (state.get("options") or {}).get("manual_seed")
    if opt.get("seed_drawn") and seed is not None:
        opt["manual_seed"] = seed
        _seed(opt)


def _say(opt: Mapping[str, Any], line: str) -> None:
    if opt["rank"] == 0:
        print(line, flush=True)
