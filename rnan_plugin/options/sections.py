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
from rnan_plugin.options.schema import place_keys
from rnan_plugin.options.values import (
    NOT_EMPTY,
    Count,
    CountOrNone,
    Milestones,
    Name,
    NotNegative,
    PathText,
    Positive,
    Share,
    at_least,
    within,
)


@dataclass(frozen=True)
class DistParams:
    """How processes talk to each other; `port` is for `--launcher slurm`.

    Args:
        backend: nccl for CUDA GPUs, gloo for CPUs.
        port: For `--launcher slurm`.
    """

    backend: Literal["nccl", "gloo"] = "nccl"
    port: Annotated[int, within(1, 65535)] | None = None


@dataclass(frozen=True)
class AnyModel:
    """Keys at the top that BasicSR's parsing reads, whatever the model.

    Args:
        name: Of the run; its folders below `experiments` and `results` are called so.
        model_type: RestorationModel, the plugin's; others are BasicSR's own.
        num_gpu: Of a process; 0 for the CPU, auto for all that there are.
        manual_seed: Of everything random; left out, one is drawn.
        dist_params: How processes talk to each other.
        datasets: One set to train on (`train`), any number to look at (`val`, `val_2`, `test`, …).
        path: Weights and states to begin with.
        train: Optimiser, schedule and losses; a test does without.
        val: Validation and test.
        logger: What is written how often.
    """

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
    """Keys at the top; those from `dist` on are BasicSR's, added while it reads the file.

    Args:
        scale: Pixels of the ground truth for one of the input, in each direction.
        find_unused_parameters: Of torch's DistributedDataParallel.
        device: auto, cuda, mps or cpu.
        deterministic: Algorithms alone that give the same bits each time.
        network_g: The network: its `type` and arguments.
        dist: Added by BasicSR.
        rank: Added by BasicSR.
        world_size: Added by BasicSR.
        auto_resume: Added by BasicSR.
        is_train: Added by BasicSR.
        root_path: Added by BasicSR.
        seed_drawn: Added by the plugin.
    """

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
    """The section `path`; the keys from `experiments_root` on are BasicSR's, added while it reads the file.

    Args:
        pretrain_network_g: Checkpoint to begin with, or to test: a file, or a network of the package, such as car_10.
        param_key_g: Key of the weights in the checkpoint; found where it is left out.
        strict_load_g: Whether every weight has to be there and fit.
        resume_state: Training state to go on from.
        ignore_resume_networks: Networks that don't come from the state.
        experiments_root: Added by BasicSR.
        models: Added by BasicSR.
        training_states: Added by BasicSR.
        log: Added by BasicSR.
        visualization: Added by BasicSR.
        results_root: Added by BasicSR.
    """

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
    periods: Annotated[list[Count], NOT_EMPTY] = field(default_factory=lambda: [1])
    restart_weights: list[NotNegative] = field(default_factory=lambda: [1])
    eta_min: NotNegative = 0
    last_epoch: Literal[-1] = -1


# By what `type` says, the section, the key that it can't do without, and its two lists that must be of one length.
SCHEDULERS: dict[str, tuple[type, str, str, str]] = {
    "MultiStepLR": (MultiStep, "milestones", "restarts", "restart_weights"),
    "MultiStepRestartLR": (MultiStep, "milestones", "restarts", "restart_weights"),
    "CosineAnnealingRestartLR": (CosineAnnealing, "periods", "periods", "restart_weights"),
}


@dataclass(frozen=True)
class Train:
    """The section `train`, beside the keys of `rnan_plugin.training.step.StepOptions`.

    Args:
        ema_decay: Of the moving average of the weights; 0 for none.
        optim_g: The optimiser, by its name in `type`, and its arguments.
        scheduler: How the learning rate falls; a schedule-free optimiser has none.
        total_iter: Iterations of the whole training.
        warmup_iter: Iterations in which the rate rises to its value; -1 for none.
        pixel_opt: Loss between output and ground truth.
        perceptual_opt: Loss between features of both.
    """

    ema_decay: Share = 0.0
    optim_g: Mapping[str, Any] = field(default_factory=dict)
    scheduler: Mapping[str, Any] | None = None
    total_iter: Count = 1
    warmup_iter: Annotated[int, within(-1, 10**9)] = -1
    pixel_opt: Mapping[str, Any] | None = None
    perceptual_opt: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Validation:
    """The section `val`; the keys from `policy` on are `rnan_plugin.inference.policy.Policy`'s.

    Args:
        val_freq: Iterations between two validations.
        save_img: Write restored images.
        pbar: Tell how far a validation is: by a bar on a terminal, elsewhere a line every ten seconds.
        suffix: Of the restored images' names.
        metrics: By name, what is computed: `psnr: {type: calculate_psnr, crop_border: 0}`.
        num_panel: Images of each set in TensorBoard.
        policy: How the network is applied to an image; left out, `tile` where tiles are described, else `auto`.
        tile: Largest side of a tile in pixels of the input; left out, 128.
        tile_overlap: Pixels that neighbouring tiles share; left out, 16, or a quarter of a smaller tile than 64.
        attention_window: Side in pixels of the input of the windows of a tile within which attention over the
            keys compares; left out, all of the tile, but for `auto` where windows are faster.
        tile_batch: Tiles of one pass.
        self_ensemble: Mean over the eight flips and transposes.
    """

    val_freq: Count = 1
    save_img: bool = False
    pbar: bool = True
    suffix: Name | None = None
    metrics: Mapping[str, Any] | None = None
    num_panel: CountOrNone = 3
    policy: PolicyName | None = None
    tile: Count | None = None
    tile_overlap: CountOrNone | None = None
    attention_window: Count | None = None
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
class Mlflow:
    """The section `logger.mlflow`; a training that is resumed goes on in its run.

    Args:
        experiment: What the run belongs to, made where it is missing.
        tracking_uri: A server or data base; left out, what the environment or mlflow itself says.
        resume_id: Of another run to go on in.
    """

    experiment: Name = "rnan"
    tracking_uri: str | None = None
    resume_id: str | None = None


@dataclass(frozen=True)
class Logger:
    """The section `logger`.

    Args:
        print_freq: Iterations between two lines of the log.
        save_checkpoint_freq: Iterations between two checkpoints.
        use_tb_logger: Write TensorBoard's log.
        wandb: Copy it to Weights & Biases.
        mlflow: Log to a run of mlflow, with TensorBoard's log or without.
        keep_last: Checkpoints that are kept; all where it is left out.
        save_best: Metric by which the best checkpoint is kept apart.
    """

    print_freq: Count = 1
    save_checkpoint_freq: Count = 1
    use_tb_logger: bool = False
    wandb: Wandb | None = None
    mlflow: Mlflow | None = None
    keep_last: Count | None = None
    save_best: str | None = None


# Where keys belong that stand elsewhere, as after a slip in the indentation.
place_keys(["device", "deterministic", "network_g"], "at the top")
for _kind, _place in (
    (AnyModel, "at the top"),
    (Paths, "in path"),
    (Train, "in train"),
    *((kind, "in train.scheduler") for kind, *_ in SCHEDULERS.values()),
    (Loss, "in a loss, such as train.pixel_opt"),
    (Validation, "in val"),
    (Metric, "in a metric of val.metrics"),
    (Logger, "in logger"),
):
    place_keys(_kind.__dataclass_fields__, _place)  # type: ignore[attr-defined]

# What a training reads without a default.
NEEDED: dict[str, tuple[str, ...]] = {
    "train": ("optim_g", "total_iter"),  # and "scheduler", but of schedule-free optimisers
    "logger": ("print_freq", "save_checkpoint_freq"),
    "datasets.train": ("batch_size_per_gpu", "num_worker_per_gpu"),
    "val": ("val_freq", "save_img"),
}
