"""Make BasicSR 1.4.2 work with today's libraries, without touching its files.

`before_import` supplies what its import needs; `after_import` replaces functions that fail later; `replace_…` give it
functions of the plugin, which `training.connect` names. BasicSR's modules are reached through `sys.modules`: only
`rnan_plugin.toolbox.api` imports them.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

from rnan_plugin.errors import UserError

TOOLBOX_VERSION = "1.4.2"
INSTALL = "`rnan install-basicsr`"  # what to type where BasicSR is missing
FUNCTIONAL_TENSOR = "torchvision.transforms.functional_tensor"


def before_import() -> None:
    """Provide modules which `import basicsr` needs and today's libraries lack."""
    _provide_functional_tensor()


def after_import() -> None:
    """Replace what fails in the imported toolbox; another version than 1.4.2 is left alone."""
    if sys.modules["basicsr"].__version__ != TOOLBOX_VERSION:
        return
    for cure in AFTER_IMPORT:
        cure()


def _provide_functional_tensor() -> None:
    """Stand in for the module that torchvision 0.17 dropped; the toolbox uses one function of it."""
    if FUNCTIONAL_TENSOR in sys.modules or importlib.util.find_spec(FUNCTIONAL_TENSOR) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    module = importlib.util.module_from_spec(ModuleSpec(FUNCTIONAL_TENSOR, loader=None))
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[FUNCTIONAL_TENSOR] = module


def _cure_distributed_start() -> None:
    """Pick the GPU by LOCAL_RANK (stock: RANK), and run on the CPU too (stock: ZeroDivisionError)."""
    dist_util = sys.modules["basicsr.utils.dist_util"]
    dist_util._init_dist_pytorch = _init_dist_pytorch  # type: ignore[attr-defined]
    dist_util._init_dist_slurm = _init_dist_slurm  # type: ignore[attr-defined]


def _init_dist_pytorch(backend: str, **kwargs: Any) -> None:
    import torch
    import torch.distributed as dist

    is_told = not kwargs.keys().isdisjoint({"init_method", "store"})  # where processes meet
    missing = [name for name in _TORCHRUN_VARIABLES if name not in os.environ]
    if missing and not is_told:
        raise UserError(
            f"--launcher pytorch: {missing[0]} is not set; start the command with torchrun, or leave out --launcher"
        )
    if torch.cuda.is_available():
        local_rank = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    else:
        backend = "gloo"  # the stock default, nccl, needs CUDA
    dist.init_process_group(backend=backend, **_meeting_place(), **kwargs)


_TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def _init_dist_slurm(backend: str, port: int | None = None) -> None:
    """Tell torch.distributed what `srun` says of this process; the first node of the job is the meeting place."""
    env = os.environ
    missing = [name for name in _SLURM_VARIABLES if name not in env]
    if missing:
        raise UserError(f"--launcher slurm: {missing[0]} is not set; start the command with srun")
    env["RANK"], env["WORLD_SIZE"], env["LOCAL_RANK"] = (env[name] for name in _SLURM_VARIABLES[:3])
    # A step may run on some of the job's hosts alone.
    env["MASTER_ADDR"] = _first_host(env.get("SLURM_STEP_NODELIST", env["SLURM_JOB_NODELIST"]))
    if port is not None:
        env["MASTER_PORT"] = str(port)
    env.setdefault("MASTER_PORT", "29500")
    _init_dist_pytorch(backend)


_SLURM_VARIABLES = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_JOB_NODELIST")


def _first_host(node_list: str) -> str:
    """The first of the hosts that Slurm abbreviates like `node[01-04]`."""
    try:
        listed = subprocess.run(
            ["scontrol", "show", "hostnames", node_list], check=True, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"--launcher slurm: scontrol does not tell the hosts of {node_list}: {error}") from None
    return listed.stdout.split()[0]


def _meeting_place() -> dict[str, Any]:
    """Where the processes of this attempt meet.

    torchrun keeps one store for all its restarts (seen in torch 2.14), so that a restarted process may read the
    address of one that is dead: each attempt gets keys of its own.
    """
    import torch.distributed as dist

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {}
    world_size = int(os.environ["WORLD_SIZE"])
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(*place, world_size, is_master=False)  # type: ignore[attr-defined]
    attempt = f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    own = dist.PrefixStore(attempt, store)  # type: ignore[attr-defined]
    return {"store": own, "rank": int(os.environ["RANK"]), "world_size": world_size}


def replace_parse_options(ours: Callable[[str, bool], Any]) -> None:
    """Let the toolbox's scripts read their command line and option file by a function of the plugin."""
    stock = inspect.unwrap(sys.modules["basicsr.utils.options"].parse_options)

    @functools.wraps(stock)
    def parse_options(root_path: str, is_train: bool = True) -> Any:
        return ours(root_path, is_train)

    for name in ("basicsr.utils.options", "basicsr.train", "basicsr.test"):
        sys.modules[name].parse_options = parse_options  # type: ignore[attr-defined]


def replace_train_pipeline(ours: Callable[[dict[str, Any], Any], int], model_type: str) -> None:
    """Let the toolbox's training script train a type of model by a function of the plugin, from its options on.

    Run as a script, its functions are `__main__`'s own and nothing can replace them; what it calls first, the parsing
    of options, therefore does all, and ends the process with the training's status.
    """
    train = sys.modules["basicsr.train"]
    parse, stock = train.parse_options, inspect.unwrap(train.train_pipeline)

    @functools.wraps(parse)
    def parse_options(root_path: str, is_train: bool = True) -> Any:
        opt, args = parse(root_path, is_train)
        if sys._getframe(1).f_code.co_name == stock.__name__ and opt["model_type"] == model_type:
            raise SystemExit(ours(opt, args))
        return opt, args

    @functools.wraps(stock)
    def train_pipeline(root_path: str) -> None:
        try:
            stock(root_path)
        except SystemExit as end:  # whoever imports this function goes on after it
            if end.code:
                raise

    sys.modules["basicsr.utils.options"].parse_options = train.parse_options = parse_options  # type: ignore[attr-defined]
    train.train_pipeline = train_pipeline  # type: ignore[attr-defined]


AFTER_IMPORT: tuple[Callable[[], None], ...] = (_cure_distributed_start,)
