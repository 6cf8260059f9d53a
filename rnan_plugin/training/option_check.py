"""Check a whole option file that uses the plugin, before anything is created or started."""

from __future__ import annotations

import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from rnan_plugin import device as devices
from rnan_plugin.data.dataset_options import OUR_SET, AnySet, normalise_shared
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.errors import UserError, collect, nearest, shown
from rnan_plugin.inference.policy import policy_of
from rnan_plugin.options.optimisers import SCHEDULE_FREE
from rnan_plugin.options.schema import check_arguments, check_call, normalise
from rnan_plugin.options.sections import NEEDED, SCHEDULERS, Metric
from rnan_plugin.perceptual import lpips_network
from rnan_plugin.targets import why_no_file
from rnan_plugin.toolbox.api import DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from rnan_plugin.training.data_workers import check_shared_memory
from rnan_plugin.training.loss_check import check_losses, loss_weights
from rnan_plugin.training.metrics import BETTER
from rnan_plugin.training.network_check import check_asked, check_fit, check_network, check_pretrained
from rnan_plugin.training.optimisers import check_optimiser
from rnan_plugin.training.option_doubts import doubts
from rnan_plugin.training.section_check import OUR_MODEL, check_type, missing_keys, raise_lines
from rnan_plugin.training.step import step_options

_PHASE = re.compile(r"train|(val|test)(_.*)?", re.DOTALL)  # BasicSR takes what stands before "_"
_METRIC_EXTRA = frozenset({"type", "better"})  # read by BasicSR beside the metric's own arguments


def check_option_file(opt: Mapping[str, Any], path: str, problems: Sequence[str] = ()) -> None:
    """Check networks, losses, metrics and data sets, and what sections have to do with each other.

    Values are brought into the form to compute with, in place. Option files without the plugin's model pass. What is
    legal but hardly meant is printed as a warning.

    Args:
        opt: As BasicSR parsed it, its sections' values checked (`rnan_plugin.training.section_check`).
        path: The file, for messages.
        problems: Lines on what is wrong already.

    Raises:
        UserError: A line for each problem, with file, key and remedy.
    """
    ours = opt.get("model_type") == OUR_MODEL
    checks: list[Callable[[], object]] = [partial(raise_lines, problems)]
    if ours:
        checks.append(partial(_check_training if opt.get("is_train") else _check_testing, opt, path))
        val, train = opt.get("val") or {}, opt.get("train") or {}
        checks += [
            partial(check_optimiser, train, f"{path}, train.optim_g"),
            partial(_check_schedule, train, f"{path}, train.scheduler"),
            partial(check_network, opt["network_g"], f"{path}, network_g"),
            partial(check_losses, train, opt["datasets"], f"{path}, train"),
            partial(_check_metrics, val, f"{path}, val.metrics"),
            partial(_check_policy, val, f"{path}, val"),
            partial(_check_weights, opt["path"], path),
            partial(_check_best, opt, path),
            partial(_check_step, opt, path),
            partial(_check_names, opt["datasets"], path),
        ]
    for phase, dataset in opt["datasets"].items():
        if _PHASE.fullmatch(phase) or not ours:
            checks.append(partial(_check_dataset, opt, dataset, path, f"{path}, datasets.{phase}"))
    collect(checks)
    if ours:
        collect(partial(check, opt, path) for check in (check_asked, check_fit, check_pretrained))
        if opt.get("rank", 0) == 0:
            for line in doubts(opt):
                print(f"warning: {path}, {line}", file=sys.stderr)


def _check_names(datasets: Mapping[str, Any], path: str) -> None:
    """Which entries of `datasets` there may be; those that are validated on have names of their own."""
    lines = [
        f"{path}, datasets.{phase[:80]}: is not train, val, val_…, test or test_…; several training sets are one "
        "entry with dataroot_gt: [A, B]"
        for phase in datasets
        if not _PHASE.fullmatch(phase)
    ]
    sets = [entry for phase, entry in datasets.items() if phase != "train"]
    names = Counter(entry["name"] for entry in sets if isinstance(entry.get("name"), str))
    lines += [
        f"{path}, datasets: {count} validation sets are called {shown(name)}; give each a name of its own"
        for name, count in names.items()
        if count > 1
    ]
    raise_lines(lines)


def _check_dataset(opt: Mapping[str, Any], dataset: dict[str, Any], path: str, where: str) -> None:
    if opt.get("model_type") == OUR_MODEL:
        check_type(dataset, "type", DATASET_REGISTRY, where)
        _check_metrics_have_gt(opt, dataset, where)
    if dataset.get("type") == OUR_SET:
        check_type(opt, "model_type", MODEL_REGISTRY, path, joint=", ")
        options = RestorationDataset(dataset).options
        dataset |= {key: getattr(options, key) for key in dataset}
        _check_prefetching(options, where)
        if options.phase == "train":
            check_shared_memory(options, where)
    elif opt.get("model_type") == OUR_MODEL:
        _check_prefetching(normalise_shared(dataset, where), where)


def _check_prefetching(options: AnySet, where: str) -> None:
    if options.prefetch_mode == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{where}.prefetch_mode: cuda, but there is no CUDA GPU here; take cpu, or leave it out")


def _check_metrics_have_gt(opt: Mapping[str, Any], dataset: Mapping[str, Any], where: str) -> None:
    """BasicSR's sets of inputs alone can't be scored by what compares."""
    if dataset.get("dataroot_gt") is not None or dataset["phase"] == "train":
        return
    for name, metric in ((opt.get("val") or {}).get("metrics") or {}).items():
        kind = metric.get("type") if isinstance(metric, Mapping) else None
        known = isinstance(kind, str) and kind in METRIC_REGISTRY
        if known and "img2" in inspect.signature(METRIC_REGISTRY.get(kind)).parameters:
            raise UserError(
                f"{where}: has no dataroot_gt, which val.metrics.{name} compares with; take one of them out"
            )


def _check_testing(opt: Mapping[str, Any], path: str) -> None:
    """Check what only a test reads."""
    lines = []
    if not opt["datasets"]:
        lines.append(f"{path}, datasets: no set to test on; add datasets.test")
    if (opt.get("val") or {}).get("save_img") is None:
        lines.append(f"{path}, val: key 'save_img' is missing")
    if opt["path"].get("pretrain_network_g") is None:
        lines.append(f"{path}, path.pretrain_network_g: is empty; name the weights to test")
    raise_lines(lines)


def _check_training(opt: Mapping[str, Any], path: str) -> None:
    """Check what only training reads."""
    sections = {**opt, "datasets.train": opt["datasets"].get("train")}
    missing = [
        line
        for name, keys in NEEDED.items()
        if (section := sections.get(name)) is not None  # training without validation is fine
        for line in missing_keys(section, keys, f"{path}, {name}")
    ]
    train = opt["train"]
    if train.get("scheduler") is None and (train.get("optim_g") or {}).get("type") not in SCHEDULE_FREE:
        missing.append(f"{path}, train: key 'scheduler' is missing")
    if not train.get("pixel_opt") and not train.get("perceptual_opt"):
        missing.append(f"{path}, train: needs a loss, 'pixel_opt' or 'perceptual_opt'")
    elif not train.get("pixel_opt") and not any(loss_weights(train).values()):
        missing.append(f"{path}, train.perceptual_opt: has no weight but 0, and there is no pixel_opt; give it one")
    raise_lines(missing)


def _check_schedule(train: dict[str, Any], where: str) -> None:
    if train.get("scheduler") is None:
        return  # whether one is needed is told elsewhere
    scheduler = train["scheduler"] = dict(train["scheduler"])
    check_type(scheduler, "type", SCHEDULERS, where)
    kind, needed, first, second = SCHEDULERS[scheduler["type"]]
    if needed not in scheduler:
        raise UserError(f"{where}: key '{needed}' is missing")
    raise_lines(list(normalise(scheduler, [kind], where)))
    lengths = [len(scheduler.get(key, [0])) for key in (first, second)]
    if lengths[0] != lengths[1]:
        raise UserError(f"{where}.{second}: {lengths[1]} value(s) for {lengths[0]} of {first}; each needs one")
    periods = scheduler.get("periods")
    if periods is not None and sum(periods) < train.get("total_iter", 0):
        raise UserError(
            f"{where}.periods: {shown(periods)} end before total_iter {train['total_iter']}; let their sum reach it"
        )


def _check_weights(paths: Mapping[str, Any], path: str) -> None:
    weights = paths.get("pretrain_network_g")
    if weights is None:
        return
    if reason := why_no_file(weights):
        raise UserError(
            f"{path}, path.pretrain_network_g: {weights}: {reason}; train it first, or for released "
            "weights run: rnan convert RELEASED.pt OUT.pth"
        )


def _check_metrics(val: dict[str, Any], where: str) -> None:
    if not val.get("metrics"):
        return
    metrics = val["metrics"] = dict(val["metrics"])
    collect(partial(_check_metric, metrics, name, f"{where}.{name}") for name in list(metrics))


def _check_metric(metrics: dict[Any, Any], name: Any, where: str) -> None:
    if not isinstance(name, str):
        raise UserError(f"{where}: a metric's name is a text; call it '{name}'")
    check_type(metrics[name], "type", METRIC_REGISTRY, where)
    metric = metrics[name] = dict(metrics[name])
    function = METRIC_REGISTRY.get(metric["type"])
    arguments = {key: value for key, value in metric.items() if key not in _METRIC_EXTRA}
    check_call(function, arguments, where, supplied=["img", "img2"])
    raise_lines(list(check_arguments(function, metric, where, Metric)))
    right, name = BETTER.get(metric["type"]), metric["type"].removeprefix("calculate_").upper()
    if right is not None and metric.get("better", right) != right:
        raise UserError(f"{where}.better: {metric['better']}, but of {name} {right} is better; take the key out")
    if right == "lower":  # BasicSR takes the opposite where nothing is said
        metric["better"] = right
    if name == "LPIPS":
        _check_lpips(metric, where)


def _check_lpips(metric: dict[str, Any], where: str) -> None:
    try:
        lpips_network(metric["weights"], metric["linear"])
    except UserError as error:
        raise error.within(f"{where}: ") from None


def _check_best(opt: Mapping[str, Any], path: str) -> None:
    best = (opt.get("logger") or {}).get("save_best")
    metrics = (opt.get("val") or {}).get("metrics") or {}
    if best is not None and not metrics:
        lacking = "val.metrics is empty" if opt.get("val") else "there is no section val"
        raise UserError(f"{path}, logger.save_best: {best}, but {lacking}; add the metric there, or take save_best out")
    if best is not None and best not in metrics:
        raise UserError(
            f"{path}, logger.save_best: no metric {shown(best)} in val.metrics{nearest(str(best), metrics)}"
        )
    if best is not None and opt.get("is_train") and not opt["datasets"].keys() - {"train"}:
        raise UserError(f"{path}, logger.save_best: {best}, but there is no set to validate on; add datasets.val")


def _check_step(opt: Mapping[str, Any], path: str) -> None:
    """The options of a step, and the device."""
    try:
        step_options(opt.get("train") or {})
    except UserError as error:
        raise error.within(f"{path}, train: ") from None
    try:
        devices.choose(opt.get("device") or "auto", gpu=opt["num_gpu"] != 0)
    except UserError as error:
        raise error.within(f"{path}, ") from None


def _check_policy(val: Mapping[str, Any], where: str) -> None:
    try:
        policy_of(val)
    except UserError as error:
        raise error.within(f"{where}: ") from None
