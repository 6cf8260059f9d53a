"""Check that a network can be built, and that it maps the data sets' images to the size of their ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from rnan_plugin.archs.official_weights import pretrained_weights
from rnan_plugin.checkpoints import fitting
from rnan_plugin.data.dataset_options import channels_of
from rnan_plugin.errors import UserError, said_by
from rnan_plugin.images.color import NUM_CHANNEL
from rnan_plugin.inference.network_facts import size_multiple_of
from rnan_plugin.options.networks import check_size
from rnan_plugin.options.schema import check_arguments, check_call
from rnan_plugin.toolbox.api import ARCH_REGISTRY
from rnan_plugin.training.other_sets import first_channels
from rnan_plugin.training.section_check import check_type, raise_lines

_SIDE = 16  # pixels of the patch, where training's own is no better


def check_network(network: dict[str, Any], where: str) -> None:
    """Check `network_g`: its type, its keys, their values, and that it can be built; normalise it in place.

    Raises:
        UserError: A line for each problem.
    """
    if not network:
        raise UserError(f"{where}: the section is empty; it needs a 'type', such as RNAN")
    check_type(network, "type", ARCH_REGISTRY, where)
    architecture = ARCH_REGISTRY.get(network["type"])
    check_call(architecture, network, where)
    raise_lines(list(check_arguments(architecture, network, where)))
    check_size(network, where)
    _build(network, where)


def _build(network: Mapping[str, Any], where: str) -> nn.Module:
    """The network of a section, on the meta device where that is possible: neither time nor memory for weights.

    Whatever its constructor says of wrong arguments is told.
    """
    try:
        return _build_on(network, "meta")
    except Exception:  # of any network, which may also compute while it is built
        try:
            return _build_on(network, "cpu")
        except Exception as error:
            raise UserError(f"{where}: {said_by(error)}") from None


def _build_on(network: Mapping[str, Any], device: str) -> nn.Module:
    arguments = {key: value for key, value in network.items() if key != "type"}
    with torch.random.fork_rng(devices=[]), torch.device(device):  # the training's weights are drawn as without checks
        net: nn.Module = ARCH_REGISTRY.get(network["type"])(**arguments)
    return net.eval()


# By key of `train`: what a network has that it can be asked of.
_ASKED = {"checkpoint_blocks": "checkpoint_blocks", "identity_start": "start_as_identity"}


def check_asked(opt: Mapping[str, Any], path: str) -> None:
    """Check that the network has what the section `train` asks of it: not every network has blocks or masks.

    Raises:
        UserError: A line for each key that it can't follow.
    """
    train, net = opt.get("train") or {}, _build(opt["network_g"], f"{path}, network_g")
    name = type(net).__name__
    lines = [
        f"{path}, train.{key}: {name} has no such option; take it out"
        for key, attribute in _ASKED.items()
        if train.get(key) and not hasattr(net, attribute)
    ]
    masks = net.mask_parameters() if hasattr(net, "mask_parameters") else []  # type: ignore[operator]
    if opt.get("is_train") and train.get("mask_lr_mult", 1) != 1 and not masks:
        lines.append(f"{path}, train.mask_lr_mult: this {name} has no mask branches; take it out")
    raise_lines(lines)


def check_fit(opt: Mapping[str, Any], path: str) -> None:
    """Compare the size of the network's output with the ground truth's, for a patch of each kind of data set.

    Raises:
        UserError: A line that names the keys to look at.
    """
    net, scale, seen = _build(opt["network_g"], f"{path}, network_g"), opt.get("scale", 1), set()
    for phase, dataset in opt["datasets"].items():
        where = f"{path}, datasets.{phase}"
        channels, of_gt = _channels(dataset, where)
        if (channels, of_gt) in seen:
            continue
        seen.add((channels, of_gt))
        side = _side(net, dataset.get("gt_size"), scale)
        found = _output_shape(net, opt["network_g"], (1, channels, side, side), where)
        wanted = (1, found[1] if of_gt is None else of_gt, side * scale, side * scale)
        if found != wanted:
            raise UserError(
                f"{where}: network_g makes {_size(found)} of an input of {channels} channel(s) of "
                f"{side}×{side}, the ground truth has {_size(wanted)}; look at scale: {scale}, channels: "
                f"{_named(channels)}, and the channels and scale of network_g (num_in_ch, num_out_ch, upscale)"
            )


def _channels(dataset: Mapping[str, Any], where: str) -> tuple[int, int | None]:
    """Channels of a set's inputs and ground truth, if it has any."""
    if (named := channels_of(dataset, where)) is None:
        return first_channels(dataset, where)
    return NUM_CHANNEL[named], NUM_CHANNEL[named]


def check_pretrained(opt: Mapping[str, Any], path: str) -> None:
    """Compare the weights to begin with, `path.pretrain_network_g`, with the network.

    Raises:
        UserError: They are damaged, or of another network; with `strict_load_g: false`, not a single one fits.
    """
    paths = opt["path"]
    if (file := paths.get("pretrain_network_g")) is not None:
        net = _build(opt["network_g"], f"{path}, network_g")
        weights, _ = pretrained_weights(file, paths.get("param_key_g"))
        fitting(net, weights, f"{path}, path.pretrain_network_g: {file}", strict=paths.get("strict_load_g", True))


def _side(net: nn.Module, gt_size: Any, scale: int) -> int:
    """Side of the patch, in LQ pixels: small, but a multiple of the network's windows where training's is one."""
    window = size_multiple_of(net)
    small = max(_SIDE // window, 1) * window
    own = gt_size // scale if isinstance(gt_size, int) and gt_size >= scale else small
    return own if own % window else min(own, small)


def _output_shape(net: nn.Module, network: Mapping[str, Any], given: tuple[int, ...], where: str) -> tuple[int, ...]:
    """Shape of a network's output, without computing it where its operators allow."""
    if any(weight.is_meta for weight in net.parameters()):
        try:
            with torch.no_grad(), torch.device("meta"):
                return tuple(net(torch.empty(given)).shape)
        except Exception:  # an operator, or a constant of the network, that can't be on the meta device: compute it
            net = _build_on(network, "cpu")
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return tuple(net(torch.zeros(given)).shape)
    except Exception as error:
        raise UserError(
            f"{where}: network_g can't take an input of {_size(given)} ({said_by(error)}); look at channels: "
            f"{_named(given[1])} here, and at the channels and scale of network_g (num_in_ch, num_out_ch, upscale)"
        ) from None


def _named(num_channel: int) -> str:
    return " or ".join(name for name, count in NUM_CHANNEL.items() if count == num_channel)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} channel(s) of {shape[2]}×{shape[3]}" if len(shape) == 4 else f"shape {shape}"
