"""The sections of an option file: their legal keys, and for each what its values may be.

Data sets stand in `rnan_plugin.data.dataset_options`, the keys of a training step in `rnan_plugin.training.step`;
networks, losses and metrics are checked against what is called with them. A default is what holds where the key is
left out; keys that training can't do without are named in `NEEDED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from rnan_plugin.choices import PolicyName
from rnan_plugin.options.values import (
    Count,
    CountOrNone,
    Milestones,
    Name,
    NotNegative,
    PathText,
    Positive,
    Rule,
    Share,
    at_least,
    within,
)


@dataclass(frozen=True)
class DistParams:
    """How processes talk to each other; `port` is for `--launcher slurm`."""

    backend: Literal["nccl", "gloo"] = "nccl"
    port: Annotated[int, within(1, 65535)] | None = None


@dataclass(frozen=True)
class AnyModel:
    """Keys at the top that BasicSR's parsing reads, whatever the model."""

    name: Name = "unnamed"
    model_type: str = "RestorationModel"
    num_gpu: Literal["auto"] | Annotated[int, within(0, 1024)] = "auto"
    manual_seed: Annotated[int, within(0, 2**32 - 1)] | None = None
    dist_params: DistParams | None = None
    datasets: Mapping[str, Any] = field(default_factory=dict)
    path: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] | None = None
    val: Mapping[str, Any] | None = None
    logger: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Top(AnyModel):
    """Keys at the top; those from `dist` on are BasicSR's, added while it reads the file."""

    scale: Count = 1
    find_unused_parameters: bool = False
    device: str | None = None
    deterministic: bool = False
    network_g: Mapping[str, Any] = field(default_factory=dict)
    dist: bool = False
    rank: CountOrNone = 0
    world_size: Count = 1
    auto_resume: bool = False
    is_train: bool = True
    root_path: str = ""
    seed_drawn: bool = False  # by the plugin: the file leaves manual_seed to chance


@dataclass(frozen=True)
class Paths:
    """The section `path`; the keys from `experiments_root` on are BasicSR's, added while it reads the file."""

    pretrain_network_g: PathText | None = None
    param_key_g: str | None = None
    strict_load_g: bool = True
    resume_state: PathText | None = None
    ignore_resume_networks: list[str] | None = None
    experiments_root: PathText = "."
    models: PathText = "."
    training_states: PathText = "."
    log: PathText = "."
    visualization: PathText = "."
    results_root: PathText = "."


@dataclass(frozen=True)
class Adam:
    """The section `train.optim_g`: arguments of `torch.optim.Adam`, the only optimiser."""

    type: str = "Adam"
    lr: NotNegative = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: NotNegative = 1e-8
    weight_decay: NotNegative = 0
    amsgrad: bool = False
    foreach: bool | None = None
    maximize: bool = False
    capturable: Literal[False] = False  # for CUDA graphs, which no loop here records
    differentiable: Literal[False] = False  # for gradients of the step itself
    fused: bool | None = None
    decoupled_weight_decay: bool = False


@dataclass(frozen=True)
class MultiStep:
    """The section `train.scheduler`: the rate is multiplied by `gamma` at each milestone."""

    type: Literal["MultiStepLR", "MultiStepRestartLR"] = "MultiStepLR"
    milestones: Milestones = field(default_factory=lambda: [1])
    gamma: Positive = 0.1
    restarts: list[CountOrNone] = field(default_factory=lambda: [0])
    restart_weights: list[NotNegative] = field(default_factory=lambda: [1])
    last_epoch: Literal[-1] = -1


@dataclass(frozen=True)
class CosineAnnealing:
    """The section `train.scheduler`: the rate falls to `eta_min` along a cosine, once in each period."""

    type: Literal["CosineAnnealingRestartLR"] = "CosineAnnealingRestartLR"
    periods: Annotated[list[Count], Rule(bool, "not empty")] = field(default_factory=lambda: [1])
    restart_weights: list[NotNegative] = field(default_factory=lambda: [1])
    eta_min: NotNegative = 0
    last_epoch: Literal[-1] = -1


# By what `type` says, the section, and its two lists that must be of one length.
SCHEDULERS: dict[str, tuple[type, str, str]] = {
    "MultiStepLR": (MultiStep, "restarts", "restart_weights"),
    "MultiStepRestartLR": (MultiStep, "restarts", "restart_weights"),
    "CosineAnnealingRestartLR": (CosineAnnealing, "periods", "restart_weights"),
}


@dataclass(frozen=True)
class Train:
    """The section `train`, beside the keys of `rnan_plugin.training.step.StepOptions`."""

    ema_decay: Share = 0.0
    optim_g: Adam = field(default_factory=Adam)
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    total_iter: Count = 1
    warmup_iter: Annotated[int, within(-1, 10**9)] = -1
    pixel_opt: Mapping[str, Any] | None = None
    perceptual_opt: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Validation:
    """The section `val`; the keys from `policy` on are `rnan_plugin.inference.policy.Policy`'s."""

    val_freq: Count = 1
    save_img: bool = False
    pbar: bool = True
    suffix: Name | None = None
    metrics: Mapping[str, Any] | None = None
    num_panel: CountOrNone = 3
    policy: PolicyName = "auto"
    tile: Count = 128
    tile_overlap: CountOrNone = 16
    tile_batch: Annotated[int, within(1, 2**16)] = 1
    self_ensemble: bool = False


@dataclass(frozen=True)
class Metric:
    """Keys that entries of `val.metrics` share; which of them a metric takes, its function says."""

    type: str = ""
    crop_border: CountOrNone = 0
    test_y_channel: bool = False
    input_order: Literal["HWC", "CHW"] = "HWC"
    convert_to: Literal["y", "gray"] = "y"
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True)
class Loss:
    """Keys that the pixel losses share; "none" would leave nothing to minimise."""

    type: str = ""
    loss_weight: Annotated[float, at_least(0)] = 1.0
    reduction: Literal["mean", "sum"] = "mean"
    eps: Positive = 1e-12


@dataclass(frozen=True)
class Wandb:
    """The section `logger.wandb`."""

    project: str | None = None
    resume_id: str | None = None


@dataclass(frozen=True)
class Logger:
    """The section `logger`."""

    print_freq: Count = 1
    save_checkpoint_freq: Count = 1
    use_tb_logger: bool = False
    wandb: Wandb | None = None
    keep_last: Count | None = None
    save_best: str | None = None


# What a training reads without a default.
NEEDED: dict[str, tuple[str, ...]] = {
    "train": ("optim_g", "scheduler", "total_iter"),
    "logger": ("print_freq", "save_checkpoint_freq"),
    "datasets.train": ("batch_size_per_gpu", "num_worker_per_gpu"),
    "val": ("val_freq", "save_img"),
}
