"""What of an option file is legal but hardly meant: told as warnings, since someone may mean it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rnan_plugin.data.dataset_options import OUR_SET, channels_of, drawn_range
from rnan_plugin.errors import shown
from rnan_plugin.options.inputs import trained_task
from rnan_plugin.training.loss_check import loss_weights


def doubts(opt: Mapping[str, Any]) -> Iterator[str]:
    """Lines on an option file that `option_check` has passed; each begins with the key."""
    yield from _unlooked_at(opt)
    yield from _unreached(opt)
    yield from _without_effect(opt)
    yield from _unlike_the_training_set(opt)
    yield from _off_the_scale(opt)
    yield from _too_fast(opt)
    yield from _unlike_the_paper(opt)


def _unlooked_at(opt: Mapping[str, Any]) -> Iterator[str]:
    """What a training looks at otherwise, or not at all."""
    if not opt.get("train"):
        return
    if "debug" in opt["name"] and not opt["name"].startswith("debug"):  # as --debug has it, which asks for it
        yield "name: as 'debug' is in it, BasicSR saves and validates at every eighth step, without a TensorBoard log"
    if len(opt["datasets"]) > 1 and not opt.get("val"):
        yield "datasets: the sets to validate on are never looked at without a section val"


def _unreached(opt: Mapping[str, Any]) -> Iterator[str]:
    """What of a schedule lies beyond the run."""
    train = opt.get("train") or {}
    scheduler, last = train.get("scheduler") or {}, train.get("total_iter")
    if last is None:
        return
    if train.get("warmup_iter", -1) >= last:
        yield f"train.warmup_iter: {train['warmup_iter']} is no less than total_iter {last}: all of it is warm-up"
    late = [milestone for milestone in scheduler.get("milestones", []) if milestone > last]
    if late:
        yield f"train.scheduler.milestones: {shown(late)} lie beyond total_iter {last} and are never reached"
    rate, lowest = (train.get("optim_g") or {}).get("lr", 0), scheduler.get("eta_min", 0)
    if lowest > rate > 0:
        yield f"train.scheduler.eta_min: {lowest} is above optim_g.lr {rate}: the rate rises"
    periods = scheduler.get("periods", [])
    if sum(periods) > last:
        yield f"train.scheduler.periods: {shown(periods)} end beyond total_iter {last}, before the rate is down"


def _without_effect(opt: Mapping[str, Any]) -> Iterator[str]:
    """What leaves the weights, or a resume, as they would be without it."""
    train = opt.get("train") or {}
    if (train.get("optim_g") or {}).get("lr") == 0:
        yield "train.optim_g.lr: 0, with which nothing is learned"
    weights = loss_weights(train)
    if weights and not any(weights.values()):
        yield f"{', '.join(weights)}: 0, with which nothing is learned"
    if (opt["datasets"].get("train") or {}).get("use_shuffle") is False:
        yield "datasets.train.use_shuffle: false, but samples are drawn in random order all the same, as in BasicSR"
    for name in opt["path"].get("ignore_resume_networks") or ():
        if name not in opt:
            yield f"path.ignore_resume_networks: {shown(name)} is no network of this file, which has network_g"


def _unlike_the_training_set(opt: Mapping[str, Any]) -> Iterator[str]:
    """One network, of three channels or one, may be scored on another kind of image than it is trained on."""
    found = {phase: channels_of(dataset, f"datasets.{phase}") for phase, dataset in opt["datasets"].items()}
    wanted = found.get("train")
    for phase, channels in found.items():
        if None not in (wanted, channels) and channels != wanted:
            yield f"datasets.{phase}.channels: {channels}, but training's are {wanted}"


def _off_the_scale(opt: Mapping[str, Any]) -> Iterator[str]:
    """A sigma that was perhaps written for images in 0..1, or with a digit too many."""
    for phase, dataset in opt["datasets"].items():
        degradation = dataset.get("degradation") if dataset.get("type") == OUR_SET else None
        for entry in degradation if isinstance(degradation, list) else [degradation or {}]:
            sigma = entry.get("sigma", 0) if entry.get("type") == "awgn" else 0
            levels = drawn_range(sigma)
            highest = float(sigma if levels is None else levels.high)
            if 0 < highest < 1:
                yield f"datasets.{phase}.degradation.sigma: {shown(sigma)} is on the scale 0 to 255: hardly any noise"
            if highest > 255:
                yield f"datasets.{phase}.degradation.sigma: {shown(sigma)} is on the scale 0 to 255: nothing but noise"


def _too_fast(opt: Mapping[str, Any]) -> Iterator[str]:
    """A rate whose exponent has lost its minus."""
    rate = ((opt.get("train") or {}).get("optim_g") or {}).get("lr", 0)
    if rate > 1:
        yield f"train.optim_g.lr: {rate:g} is above 1, with which hardly any network learns; the paper's is 0.0001"


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
    for phase, dataset in opt["datasets"].items():
        found = trained_task(dataset.get("degradation"), channels_of(dataset, f"datasets.{phase}"))
        if found is not None:
            return found[0].scored_on == "y"
    return bool(opt.get("scale", 1) > 1)
