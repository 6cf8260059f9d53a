"""Check a whole option file that uses the plugin, before anything is created or started."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import torch

from rnan_plugin import device as devices
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.errors import UserError, collect, nearest
from rnan_plugin.inference.policy import policy_of
from rnan_plugin.options.schema import check_call, check_sections, check_types
from rnan_plugin.paper.tasks import trained_task
from rnan_plugin.toolbox.api import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    basicsr,
)
from rnan_plugin.training.step import STEP_KEYS, StepOptions, step_options

_METRIC_EXTRA = frozenset({"better"})  # read by the toolbox beside the metric's own arguments
# What the toolbox's training loop reads without a default.
_TRAINING_NEEDS = {
    "train": ("optim_g", "scheduler", "total_iter"),
    "logger": ("print_freq", "save_checkpoint_freq"),
    "datasets.train": ("batch_size_per_gpu", "num_worker_per_gpu"),
    "val": ("val_freq", "save_img"),
}
_SCHEDULERS = {
    "MultiStepLR": "MultiStepRestartLR",
    "MultiStepRestartLR": "MultiStepRestartLR",
    "CosineAnnealingRestartLR": "CosineAnnealingRestartLR",
}


def check_option_file(opt: Mapping[str, Any], path: str) -> None:
    """Check sections, networks, losses, metrics and data sets; option files without the plugin's model pass.

    What is legal but hardly meant is printed as a warning.

    Args:
        opt: As the toolbox parsed it.
        path: The file, for messages.

    Raises:
        UserError: A line for each problem, with file, key and remedy.
    """
    ours = opt.get("model_type") == "RestorationModel"
    checks: list[Callable[[], object]] = []
    if ours:
        checks.append(partial(check_sections, opt, path))
        if opt.get("is_train"):
            checks.append(partial(_check_training, opt, path))
        checks += [
            partial(_check_network, opt["network_g"], f"{path}, network_g"),
            partial(_check_losses, opt.get("train") or {}, f"{path}, train"),
            partial(_check_metrics, opt.get("val") or {}, f"{path}, val.metrics"),
            partial(_check_policy, opt.get("val") or {}, f"{path}, val"),
            partial(_check_weights, opt["path"], path),
            partial(_check_logger, opt, path),
            partial(_check_step, opt, path),
        ]
    for phase, dataset in opt["datasets"].items():
        checks.append(partial(_check_dataset, opt, dataset, path, f"{path}, datasets.{phase}"))
    collect(checks)
    if ours and opt.get("rank", 0) == 0:
        for line in (*_unreached(opt), *_unlike_the_paper(opt)):
            print(f"warning: {path}, {line}", file=sys.stderr)


def _check_dataset(opt: Mapping[str, Any], dataset: Mapping[str, Any], path: str, where: str) -> None:
    if opt.get("model_type") == "RestorationModel":
        _check_type(dataset, "type", DATASET_REGISTRY, where)
    if dataset.get("type") == "RestorationDataset":
        _check_type(opt, "model_type", MODEL_REGISTRY, path)
        collect(
            [partial(RestorationDataset, dataset), partial(_check_channels, opt.get("network_g") or {}, dataset, where)]
        )


def _unreached(opt: Mapping[str, Any]) -> Iterator[str]:
    """What of a schedule lies beyond the run."""
    train = opt.get("train") or {}
    scheduler, last = train.get("scheduler") or {}, train.get("total_iter", 0)
    late = [milestone for milestone in scheduler.get("milestones", []) if milestone > last]
    if late:
        yield f"train.scheduler.milestones: {late} lie beyond total_iter {last} and are never reached"
    if sum(scheduler.get("periods", [])) > last:
        yield f"train.scheduler.periods: {scheduler['periods']} end beyond total_iter {last}, before the rate is down"


def _unlike_the_paper(opt: Mapping[str, Any]) -> Iterator[str]:
    """Metrics that are not the task's: Y and a border of the scale, or all channels without a border."""
    scale = opt.get("scale", 1)
    on_y = _scored_on_y(opt)
    wanted = {"test_y_channel": on_y, "crop_border": scale if on_y else 0}
    for name, metric in ((opt.get("val") or {}).get("metrics") or {}).items():
        for key, value in wanted.items():
            if key in metric and metric[key] != value:
                yield f"val.metrics.{name}.{key}: {metric[key]}, the paper's protocol for this task has {value}"


def _scored_on_y(opt: Mapping[str, Any]) -> bool:
    """As the task's row has it; what is no task is taken for super-resolution if it enlarges."""
    for dataset in opt["datasets"].values():
        found = trained_task(dataset.get("degradation"), dataset.get("channels", "rgb"))
        if found is not None:
            return found[0].scored_on == "y"
    return bool(opt.get("scale", 1) > 1)


def _check_type(section: Mapping[str, Any], key: str, registry: Any, where: str) -> None:
    if not isinstance(section, Mapping):
        raise UserError(f"{where}: {section!r} is no section of keys; it needs a '{key}'")
    if section.get(key) not in registry:
        known = nearest(str(section.get(key)), registry.keys())
        raise UserError(f"{where}.{key}: no '{section.get(key)}' in the toolbox{known}")


def _check_training(opt: Mapping[str, Any], path: str) -> None:
    """Check what only training reads."""
    sections = {**opt, "datasets.train": opt["datasets"].get("train")}
    for name, keys in _TRAINING_NEEDS.items():
        section = sections.get(name)
        if section is None and name == "val":  # training without validation is fine
            continue
        if section is None:
            raise UserError(f"{path}: section '{name}' is missing; start from one of options/train_*.yml")
        if missing := [key for key in keys if section.get(key) is None]:
            raise UserError(f"{path}, {name}: key '{missing[0]}' is missing")
    train = opt["train"]
    if not train.get("pixel_opt") and not train.get("perceptual_opt"):
        raise UserError(f"{path}, train: needs a loss, 'pixel_opt' or 'perceptual_opt'")
    optimizer, scheduler = train["optim_g"], train["scheduler"]
    _check_type(optimizer, "type", {"Adam": torch.optim.Adam}, f"{path}, train.optim_g")
    check_call(torch.optim.Adam, optimizer, f"{path}, train.optim_g", supplied=["params"])
    _check_type(scheduler, "type", _SCHEDULERS, f"{path}, train.scheduler")
    if scheduler["type"] == "CosineAnnealingRestartLR" and sum(scheduler.get("periods", [])) < train["total_iter"]:
        raise UserError(
            f"{path}, train.scheduler.periods: {scheduler.get('periods')} end before total_iter {train['total_iter']}; "
            "let their sum reach it"
        )
    schedule = getattr(basicsr.models.lr_scheduler, _SCHEDULERS[scheduler["type"]])
    check_call(schedule, scheduler, f"{path}, train.scheduler", supplied=["optimizer"])


def _check_network(network: Mapping[str, Any] | None, where: str) -> None:
    if network is None:
        raise UserError(f"{where}: the section is empty; it needs a 'type', such as RNAN")
    _check_type(network, "type", ARCH_REGISTRY, where)
    architecture = ARCH_REGISTRY.get(network["type"])
    check_call(architecture, network, where)
    if network["type"] == "RNAN":
        check_types(network, get_type_hints(architecture.__init__), where)
        try:
            with torch.device("meta"):  # neither time nor memory for weights
                architecture(**{key: value for key, value in network.items() if key != "type"})
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None


def _check_weights(paths: Mapping[str, Any], path: str) -> None:
    weights = paths.get("pretrain_network_g")
    if weights is not None and not Path(weights).is_file():
        raise UserError(
            f"{path}, path.pretrain_network_g: {weights} not found; train it first, or for released weights run: "
            "rnan convert RELEASED.pt OUT.pth"
        )


def _check_losses(train: Mapping[str, Any], where: str) -> None:
    for key in ("pixel_opt", "perceptual_opt"):
        if loss := train.get(key):
            _check_type(loss, "type", LOSS_REGISTRY, f"{where}.{key}")
            check_call(LOSS_REGISTRY.get(loss["type"]), loss, f"{where}.{key}")


def _check_metrics(val: Mapping[str, Any], where: str) -> None:
    for name, metric in (val.get("metrics") or {}).items():
        _check_type(metric, "type", METRIC_REGISTRY, f"{where}.{name}")
        arguments = {key: value for key, value in metric.items() if key not in _METRIC_EXTRA}
        check_call(METRIC_REGISTRY.get(metric["type"]), arguments, f"{where}.{name}", supplied=["img", "img2"])


def _check_logger(opt: Mapping[str, Any], path: str) -> None:
    """The plugin's keys of the `logger` section."""
    logger = opt.get("logger") or {}
    keep, best = logger.get("keep_last"), logger.get("save_best")
    if keep is not None and (not isinstance(keep, int) or keep < 1):
        raise UserError(f"{path}, logger.keep_last: {keep!r} is not a number of 1 or more; leave it out to keep all")
    metrics = (opt.get("val") or {}).get("metrics") or {}
    if best is not None and best not in metrics:
        raise UserError(f"{path}, logger.save_best: no metric '{best}' in val.metrics{nearest(str(best), metrics)}")


def _check_step(opt: Mapping[str, Any], path: str) -> None:
    """The options of a step, and the device."""
    train = {key: value for key, value in (opt.get("train") or {}).items() if key in STEP_KEYS}
    check_types(train, get_type_hints(StepOptions), f"{path}, train")
    try:
        step_options(train)
    except UserError as error:
        raise UserError(f"{path}, train: {error}") from None
    try:
        devices.choose(opt.get("device") or "auto", gpu=opt["num_gpu"] != 0)
    except UserError as error:
        raise UserError(f"{path}, {error}") from None


def _check_policy(val: Mapping[str, Any], where: str) -> None:
    hints = {"tile": int, "tile_overlap": int, "tile_batch": int, "self_ensemble": bool, "num_panel": int}
    check_types(val, hints, where)
    try:
        policy_of(val)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _check_channels(network: Mapping[str, Any], dataset: Mapping[str, Any], where: str) -> None:
    given, needed = (3 if dataset.get("channels", "rgb") == "rgb" else 1), network.get("num_in_ch")
    if network.get("type") == "RNAN" and given != (needed or 3):
        raise UserError(
            f"{where}.channels: '{dataset.get('channels', 'rgb')}' gives {given} channel(s), network_g.num_in_ch is "
            f"{needed or 3}; for grey or Y use num_in_ch: 1 and num_out_ch: 1, for colour 3 and channels: rgb"
        )
