"""The sections of the shipped option files, and whole trainings and tests made of them.

Keys stand in the order that files have them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from rnan_plugin.errors import UserError
from rnan_plugin.options.inputs import Inputs
from rnan_plugin.options.networks import PATCH, Section
from rnan_plugin.paper.image_sets import VALIDATION_SETS

DIV2K = ("DIV2K", "datasets/DIV2K/DIV2K_train_HR_sub.lmdb")
BSD400 = ("BSD400", "datasets/BSD400.lmdb")
BSD400_HELD_OUT = ("BSD400_held_out", "datasets/BSD400_held_out.lmdb")

_WATCHED_SETS = 2  # the first ones of a task, while training


def paper_training(
    name: str,
    inputs: Inputs,
    network: Section,
    *,
    train: tuple[str, str] = DIV2K,
    sets: Sequence[str] | None = None,
) -> Section:
    """A training with the paper's patches and schedule."""
    cut = patches(PATCH * inputs.scale, workers=4, batch=16, enlarge=1, persistent=True)
    looked_at = _sets_of(inputs)[:_WATCHED_SETS] if sets is None else sets
    return training(
        name,
        inputs,
        datasets={"train": data_set(*train, inputs, inputs.drawn()) | cut, **_image_sets("val", looked_at, inputs)},
        network=network,
        train=_multi_step(loss_of(inputs)),
        val={"val_freq": val_freq(inputs), "save_img": False, **tiles(128, 16), **metrics(inputs)},
        logger={"print_freq": 100, "save_checkpoint_freq": 5000},
    )


def small_training(
    name: str,
    inputs: Inputs,
    network: Section,
    *,
    learning_rate: float,
    steps: int,
    looked_every: int,
    again: int = 0,
    step: Section | None = None,
) -> Section:
    """A training on BSD400 with short patches, in bfloat16 where that is faster, with more of `StepOptions` in `step`.

    Of `again`, it takes so many steps more, from half the rate.
    """
    enlarges = inputs.scale > 1
    cut = patches((24 if enlarges else 32) * inputs.scale, workers=1, batch=16 if enlarges else 8, enlarge=100)
    train_set = data_set(*BSD400, inputs, inputs.drawn()) | cut
    schedule = cosine(learning_rate, steps, lowest=1e-6, warmup=500, loss=loss_of(inputs), again=again)
    return training(
        name,
        inputs,
        datasets={"train": train_set, "val": data_set(*BSD400_HELD_OUT, inputs, inputs.looked_at())},
        network=network,
        train={"precision": "auto", **(step or {}), **schedule},
        val={"val_freq": looked_every, "save_img": False, **tiles(64, 8), **metrics(inputs)},
        logger={"print_freq": 100, "save_checkpoint_freq": 1000, "keep_last": 2, "save_best": "psnr"},
    )


def training(
    name: str, inputs: Inputs, *, datasets: Section, network: Section, train: Section, val: Section, logger: Section
) -> Section:
    """Options of a training, without the sections that all have alike."""
    return {
        **_top(name, inputs),
        "datasets": datasets,
        "network_g": copy.deepcopy(network),
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": train,
        "val": val,
        "logger": {**logger, "use_tb_logger": True},
        "dist_params": {"backend": "nccl", "port": 29500},
    }


def testing(name: str, inputs: Inputs, trained: Section, weights: str) -> Section:
    """Options of a test on the task's image sets.

    Args:
        name: Of the run.
        inputs: What is restored.
        trained: Options of the training, whose network and tiles it has.
        weights: File of the weights.

    Raises:
        UserError: The task's row has no image sets, or none in colour where it takes that.
    """
    sets = _sets_of(inputs)
    if not sets:
        raise UserError(
            f"test: task {inputs.task.name} has no image sets for {inputs.title}; leave out --test, and name yours"
        )
    cut = {key: trained["val"][key] for key in tiles(0, 0)}
    return {
        **_top(name, inputs),
        "datasets": _image_sets("test", sets, inputs),
        "network_g": copy.deepcopy(trained["network_g"]),
        "path": {"pretrain_network_g": weights, "strict_load_g": True},
        "val": {"save_img": True, "suffix": None, **cut, **metrics(inputs)},
    }


def _top(name: str, inputs: Inputs) -> Section:
    general = {"model_type": "RestorationModel", "scale": inputs.scale, "num_gpu": "auto", "manual_seed": 0}
    return {"name": name, **general}


def data_set(name: str, root: str, inputs: Inputs, degradation: Section) -> Section:
    """An entry of `datasets`, from an LMDB or a folder of images."""
    backend = {"type": "lmdb" if root.endswith(".lmdb") else "disk"}
    entry = {"name": name, "type": "RestorationDataset", "dataroot_gt": root, "io_backend": backend}
    return {**entry, "channels": inputs.channels, "degradation": degradation}


def _sets_of(inputs: Inputs) -> list[str]:
    """The image sets of the task's row that can be an input: a network on RGB can't be shown grey images."""
    grey = {name for name, known in VALIDATION_SETS.items() if not known.colour}
    return [name for name in inputs.task.row.sets if inputs.channels != "rgb" or name not in grey]


def _image_sets(phase: str, names: Sequence[str], inputs: Inputs) -> Section:
    """Entries `val`, `val_2`, … or `test`, `test_2`, … for image sets below `datasets/`."""
    return {
        phase if number == 1 else f"{phase}_{number}": data_set(name, f"datasets/{name}", inputs, inputs.looked_at())
        for number, name in enumerate(names, start=1)
    }


def patches(gt_size: int, *, workers: int, batch: int, enlarge: int, persistent: bool = False) -> Section:
    """The keys of a training set that say how it is drawn from; `gt_size` is the patch's side in pixels of the GT."""
    loader = {"use_shuffle": True, "num_worker_per_gpu": workers, "batch_size_per_gpu": batch}
    loader |= {"dataset_enlarge_ratio": enlarge} | ({"persistent_workers": True} if persistent else {})
    return {"gt_size": gt_size, "use_hflip": True, "use_rot": True, **loader, "prefetch_mode": None}


def _multi_step(loss: str) -> Section:
    """The paper's schedule: half the rate every 200 000 iterations."""
    every, last = 200_000, 1_300_000
    scheduler = {"type": "MultiStepLR", "milestones": list(range(every, last, every)), "gamma": 0.5}
    return {"optim_g": _adam(1e-4) | {"eps": 1e-8}, "scheduler": scheduler, **_steps(last, -1, loss)}


def cosine(rate: float, steps: int, *, lowest: float, warmup: int, loss: str, again: int = 0) -> Section:
    """The section `train` with a rate that falls along a cosine to `lowest`; a `warmup` of -1 is none.

    Of `again`, it falls a second time from half of `rate`, within so many steps.
    """
    falls = 2 if again else 1
    cycles = {"periods": [steps, again][:falls], "restart_weights": [1, 0.5][:falls]}
    scheduler = {"type": "CosineAnnealingRestartLR", **cycles, "eta_min": lowest}
    return {"optim_g": _adam(rate), "scheduler": scheduler, **_steps(steps + again, warmup, loss)}


def schedule_free(rate: float, steps: int, *, loss: str) -> Section:
    """The section `train` of AdamW without a schedule (Defazio and others, 2024), whose average takes its place."""
    optim = {"type": "AdamWScheduleFree", "lr": rate, "warmup_steps": 500, "weight_decay": 0}
    return {"optim_g": optim, **_steps(steps, -1, loss)}


def _adam(rate: float) -> dict[str, Any]:
    return {"type": "Adam", "lr": rate, "weight_decay": 0, "betas": [0.9, 0.999]}


def _steps(total: int, warmup: int, loss: str) -> Section:
    pixel = {"type": loss, "loss_weight": 1.0, "reduction": "mean"}
    return {"total_iter": total, "warmup_iter": warmup, "pixel_opt": pixel}


def loss_of(inputs: Inputs) -> str:
    """The task's loss; blind it is L1, in which images of strong degradation don't drown the others."""
    return "L1Loss" if inputs.blind else inputs.task.row.loss


def val_freq(inputs: Inputs) -> int:
    """Iterations between two validations: more where there are several levels to look at."""
    return 10_000 if inputs.blind else 5000


def tiles(side: int, overlap: int) -> Section:
    """The keys of `val` that say how a network is applied to an image; both in pixels of the input."""
    return {"policy": "tile", "tile": side, "tile_overlap": overlap}


def metrics(inputs: Inputs) -> Section:
    """The key `metrics` of `val`, by the paper's protocol for the task."""
    how = {"crop_border": inputs.task.border, "test_y_channel": inputs.task.row.scored_on == "y"}
    return {"metrics": {name: {"type": f"calculate_{name}", **how} for name in ("psnr", "ssim")}}
