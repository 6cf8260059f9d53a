"""Networks with trained, released or shipped weights: whatever a command or an option file names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rnan_plugin import checkpoints
from rnan_plugin.archs.official_weights import infer_arguments, load_released, pretrained_weights
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.choices import Channels
from rnan_plugin.data.dataset_options import channels_of
from rnan_plugin.errors import UserError, nearest, said_by, shown
from rnan_plugin.inference.network_facts import channels_in
from rnan_plugin.inference.shipped import named_file, named_network, shipped_file, shipped_names
from rnan_plugin.options.networks import check_size
from rnan_plugin.options.schema import check_arguments, check_call, normalise, read_option_file
from rnan_plugin.options.sections import Paths
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.targets import expanded

# Of BasicSR's classes those that restore images; others read or fetch other files when they are built.
_OF_IMAGES = frozenset({"EDSR", "ECBSR", "MSRResNet", "RCAN", "RIDNet", "RRDBNet", "SRVGGNetCompact", "SwinIR"})


@dataclass(frozen=True)
class Loaded:
    """A network in eval mode, and what is known of it.

    Args:
        net: On the CPU.
        channels: What its data sets have; None if unknown.
        weights: The file of its weights.
        network: Its `network_g` section, all arguments of RNAN named in it.
        is_released: Whether they are the authors'.
    """

    net: nn.Module
    channels: Channels | None
    weights: str
    network: Mapping[str, Any]
    is_released: bool = False


def load_network(option_file: str | None, weights: str | None, task: TaskAtLevel | None = None) -> Loaded:
    """Build the network of an option file, of a checkpoint, or of the weights in the package.

    Args:
        option_file: Its `network_g`, any network of BasicSR, and `path.pretrain_network_g`.
        weights: A checkpoint: with `option_file`, instead of the file's own; alone, a released one, one that says what
            its network is (the plugin's trainings and the package's weights do), one in its training's folder, or the
            name of one in the package (`shipped.named_network`).
        task: The task and level to take the package's weights for, where neither of the others is given.

    Raises:
        UserError: Nothing is named, a file is missing, damaged or of another kind, or it is of another task.
    """
    network = named_network(weights) if weights else None
    if network and task and network.task != task.name:
        raise UserError(f"{weights}: is for {network.task}, not for {task}; name other weights or another task")
    weights = str(network.file) if network else weights and expanded(weights)
    if option_file is not None:
        loaded = _load_described(option_file, weights)
    elif weights is not None:
        loaded = _load_alone(weights)
        loaded = replace(loaded, channels=network.channels) if network else loaded
        loaded = loaded if task is None else replace(loaded, channels=task.row.channels)
    elif task is not None:
        loaded = replace(_load_alone(str(shipped_file(task))), channels=task.row.channels)
    else:
        raise UserError(
            f"name what to restore from with --task and --level (weights in the package: {shipped_names()}), "
            "or weights with -opt FILE (option file) or --weights FILE (a checkpoint)"
        )
    if task is not None:
        _check_scale(loaded, task)
    return loaded


def _check_scale(loaded: Loaded, task: TaskAtLevel) -> None:
    """Whether a network enlarges as its task does, where its arguments tell."""
    scale = next((loaded.network[key] for key in ("upscale", "scale") if key in loaded.network), task.scale)
    if scale != task.scale:
        told = f"enlarges ×{scale}" if scale != 1 else "keeps the size of its input"
        raise UserError(f"{loaded.weights}: {told}, {task} needs ×{task.scale}; name other weights or another task")


def _load_alone(weights: str) -> Loaded:
    """The network of a checkpoint that nothing else describes."""
    checkpoint = checkpoints.read(weights)
    described = checkpoint.get("network_g")
    if isinstance(described, Mapping):
        net = _build_described(described, checkpoints.weights_in(checkpoint, weights), weights)
        return Loaded(net.eval(), _channels_of(net), weights, _whole(described))
    if "params" in checkpoint or "params_ema" in checkpoint:
        return _load_described(_option_file_of(weights), weights)
    net = load_released(weights)
    arguments = infer_arguments(checkpoints.weights_in(checkpoint, weights))
    return Loaded(net, _channels_of(net), weights, _whole(arguments), is_released=True)


def _channels_of(net: nn.Module) -> Channels | None:
    """What tells of itself: three channels are RGB, one is grey or luma."""
    return "rgb" if channels_in(net) == 3 else None


def _option_file_of(weights: str) -> str:
    """The option file that a training keeps beside its `models` folder."""
    kept = sorted(Path(weights).absolute().parent.parent.glob("*.yml"))
    if len(kept) == 1:
        return str(kept[0])
    raise UserError(f"{weights}: does not say what its network is; name the option file it was trained with: -opt FILE")


def _load_described(option_file: str, weights: str | None) -> Loaded:
    """The network that an option file describes."""
    config = read_option_file(option_file)
    paths, network = dict(config["path"]), dict(config.get("network_g") or {})
    if problems := list(normalise(paths, [Paths], f"{option_file}, path", others=True)):
        raise UserError(*problems)
    if (named := weights or paths.get("pretrain_network_g")) is None:
        raise UserError(f"{option_file}: path.pretrain_network_g is empty; name a checkpoint there or with --weights")
    file = named_file(named, option_file)
    net = _build(network, f"{option_file}, network_g")
    checkpoints.fill(net, pretrained_weights(file, paths.get("param_key_g"))[0], file)
    phase, dataset = next(iter(config["datasets"].items()), ("", {}))
    channels = channels_of(dataset, f"{option_file}, datasets.{phase}")
    return Loaded(net.eval(), channels or _channels_of(net), file, _whole(network))


def _build(network: dict[str, Any], where: str) -> nn.Module:
    """A network from a `network_g` section, whose values are brought into the form that its class takes."""
    architecture = _checked(network, where)
    try:
        return architecture(**_arguments(network))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{where}: {said_by(error, 300)}") from None


def _checked(network: dict[str, Any], where: str) -> type[nn.Module]:
    """The class of a section, whose keys and values are checked as before a training."""
    architecture = _architecture(network, where)
    check_call(architecture, network, where)
    if problems := list(check_arguments(architecture, network, where)):
        raise UserError(*problems)
    check_size(network, where)
    return architecture


def _arguments(network: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in network.items() if key != "type"}


def _build_described(network: Mapping[str, Any], weights: Mapping[str, Tensor], file: str) -> nn.Module:
    """The network that a file says its weights are of, with them; files are strangers, and build nothing else.

    No memory is taken but for weights that fit.
    """
    where, network = f"{file}, network_g", dict(network)
    architecture = _checked(network, where)
    if architecture.__module__.startswith("basicsr.") and architecture.__name__ not in _OF_IMAGES:
        legal = ", ".join(sorted({"RNAN", *_OF_IMAGES}))
        raise UserError(f"{where}.type: {architecture.__name__} restores no image (legal: {legal}); take another file")
    sketch = None
    with suppress(Exception), torch.device("meta"):  # some compute while they are built
        sketch = architecture(**_arguments(network))
    if sketch is not None:
        checkpoints.fitting(sketch, weights, file, strict=True)
    net = _build(network, where)
    checkpoints.fill(net, weights, file)
    return net


def _whole(network: Mapping[str, Any]) -> dict[str, Any]:
    """A section with its type first and, of RNAN, every argument: a file stays right when a default changes."""
    kind = network.get("type", "RNAN")
    arguments = _arguments(network)
    if kind != "RNAN":
        return {"type": kind, **arguments}
    bound = inspect.signature(RNAN).bind(**arguments)
    bound.apply_defaults()
    mean = bound.arguments["img_mean"]
    return {"type": kind, **bound.arguments, "img_mean": mean if mean is None else [*map(float, mean)]}


def _architecture(network: Mapping[str, Any], where: str) -> type[nn.Module]:
    """The class of a section; without a type it is RNAN."""
    kind = network.get("type", "RNAN")
    return RNAN if kind == "RNAN" else _basicsr_architecture(kind, where)


def _basicsr_architecture(kind: Any, where: str) -> type[nn.Module]:
    import rnan_plugin.toolbox.networks  # noqa: F401 - takes seconds; RNAN needs none of it
    from rnan_plugin.toolbox.api import ARCH_REGISTRY

    if not isinstance(kind, str) or kind not in ARCH_REGISTRY:
        close = nearest(shown(kind), {*ARCH_REGISTRY.keys(), "RNAN"})
        raise UserError(f"{where}.type: no {shown(kind)} in BasicSR{close}")
    architecture: type[nn.Module] = ARCH_REGISTRY.get(kind)
    return architecture
