"""Optimisers by name, torch's and those of the package schedulefree: checked, built, resumed; the one place for it."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rnan_plugin.errors import UserError, nearest, said_by, shown
from rnan_plugin.options.optimisers import SCHEDULE_FREE, Optimiser
from rnan_plugin.options.schema import check_arguments, check_call
from rnan_plugin.training.section_check import raise_lines

# Of convolutions: what an optimiser is tried on.
_SHAPES = [torch.Size([2, 2, 3, 3]), torch.Size([2])]


def check_optimiser(train: dict[str, Any], where: str) -> None:
    """Check `optim_g` of a `train` section: its type, its keys, their values, and one step with it; normalise it.

    Raises:
        UserError: A line for each problem.
    """
    if train.get("optim_g") is None:  # where it is needed, that is told elsewhere
        return
    if not isinstance(train["optim_g"].get("type"), str):
        raise UserError(f"{where}.type: {shown(train['optim_g'].get('type'))} is no name of an optimiser, such as Adam")
    section = train["optim_g"] = dict(train["optim_g"])
    kind = _named(section["type"], f"{where}.type")
    check_call(kind, section, where, supplied=["params"])
    raise_lines(list(check_arguments(kind, section, where, Optimiser)))
    try:
        _tried(kind, {key: value for key, value in section.items() if key != "type"}, _SHAPES)
    except (ValueError, RuntimeError, TypeError, ArithmeticError) as error:  # keys that exclude each other; no step
        raise UserError(f"{where}: {section['type']} can't train a network so ({said_by(error)})") from None
    if section["type"] in SCHEDULE_FREE:
        raise_lines(list(_beside_schedule_free(train, where.rpartition(".")[0])))


def _beside_schedule_free(train: Mapping[str, Any], where: str) -> Iterable[str]:
    kind = train["optim_g"]["type"]
    warm_up = f"{where}.optim_g.warmup_steps" if "warmup_steps" in SCHEDULE_FREE[kind] else "no key of it"
    if train.get("scheduler") is not None:
        yield f"{where}.scheduler: {kind} takes the place of a schedule; take the section out"
    if train.get("warmup_iter", -1) > 0:
        yield f"{where}.warmup_iter: {kind} warms up by itself, by {warm_up}; take warmup_iter out, or set it to -1"
    if train.get("ema_decay", 0) > 0:
        yield f"{where}.ema_decay: {kind} averages the weights itself; take ema_decay out, or set it to 0"


def _named(name: str, where: str) -> type[Optimizer]:
    """The class of an optimiser."""
    if name in SCHEDULE_FREE:
        if importlib.util.find_spec("schedulefree") is None:
            raise UserError(f"{where}: {name} needs the package schedulefree; pip install 'rnan_plugin[schedulefree]'")
        import schedulefree

        found: type[Optimizer] = getattr(schedulefree, name)
        return found
    classes = {key: kind for key, kind in vars(torch.optim).items() if inspect.isclass(kind)}
    kinds = {key: kind for key, kind in classes.items() if issubclass(kind, Optimizer) and kind is not Optimizer}
    if name not in kinds:
        known = nearest(name, kinds.keys() | SCHEDULE_FREE.keys(), 3)
        raise UserError(f"{where}: no {shown(name)} in torch.optim or schedulefree{known}")
    return kinds[name]


def build_optimiser(
    name: str, parameters: Sequence[nn.Parameter], arguments: Mapping[str, Any], net: nn.Module, mask_lr_mult: float
) -> Optimizer:
    """An optimiser for a training, its section checked by `check_optimiser`.

    Args:
        name: Of its class.
        parameters: All that it trains.
        arguments: Of its class, without the parameters.
        net: Whose they are.
        mask_lr_mult: Rate of its mask branches, as a multiple of the others'; where it is not 1, they are a group.

    Raises:
        UserError: They are to have a rate of their own, and there are none.
    """
    kind = _named(name, "train.optim_g.type")
    groups: list[Any] = list(parameters)
    if mask_lr_mult != 1:
        masks = {id(parameter) for parameter in _mask_parameters(net)}
        rate = arguments.get("lr", inspect.signature(kind).parameters["lr"].default) * mask_lr_mult
        groups = [
            {"params": [parameter for parameter in parameters if id(parameter) not in masks]},
            {"params": [parameter for parameter in parameters if id(parameter) in masks], "lr": rate},
        ]
    optimiser = kind(groups, **arguments)
    if is_schedule_free(optimiser):
        optimiser.train()  # type: ignore[attr-defined]
    return optimiser


def _mask_parameters(net: nn.Module) -> list[nn.Parameter]:
    found: list[nn.Parameter] = net.mask_parameters() if hasattr(net, "mask_parameters") else []  # type: ignore[operator]
    if not found:
        raise UserError(f"train.mask_lr_mult: this {type(net).__name__} has no mask branches; take it out")
    return found


def _tried(kind: type[Optimizer], arguments: Mapping[str, Any], shapes: Sequence[torch.Size]) -> Optimizer:
    """An optimiser after one step on zeros of these shapes; raises whatever it does."""
    weights = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimiser = kind(weights, **arguments)
    if is_schedule_free(optimiser):
        optimiser.train()  # type: ignore[attr-defined]
    optimiser.step()
    if is_schedule_free(optimiser):
        optimiser.eval()  # type: ignore[attr-defined]
    return optimiser


def is_schedule_free(optimiser: Optimizer) -> bool:
    """Whether an optimiser keeps weights to train, and an average of them to use."""
    return type(optimiser).__name__ in SCHEDULE_FREE


@torch.no_grad()
def write_average(optimiser: Optimizer, net: nn.Module, average: nn.Module) -> None:
    """Write the weights to use of a schedule-free optimiser into a copy of the network.

    The weights to train come back to the last bit, which `eval()` and `train()` alone do not do: what is saved or
    validated when must not change a training.

    Args:
        optimiser: In training mode.
        net: Whose weights it trains.
        average: Of the same class as `net`.
    """
    trained = [weight.clone() for weight in net.parameters()]
    optimiser.eval()  # type: ignore[attr-defined]
    average.load_state_dict(net.state_dict())
    optimiser.train()  # type: ignore[attr-defined]
    for weight, value in zip(net.parameters(), trained, strict=True):
        weight.copy_(value)


def take_over(optimiser: Optimizer, saved: Mapping[str, Any]) -> None:
    """Load what a training state has of an optimiser; its settings stay, but for what it counts itself.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: The state is of another network or optimiser.
    """
    fresh = optimiser.state_dict()["param_groups"]
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    settings = inspect.signature(type(optimiser)).parameters
    arguments = {key: value for key, value in optimiser.param_groups[0].items() if key in settings and key != "params"}
    tried = _tried(type(optimiser), arguments | _on_any_device(arguments), [weight.shape for weight in weights])
    expected = tried.state_dict()["state"]
    for index, moments in saved["state"].items():
        found, wanted = _shapes(moments), _shapes(expected[index])
        if found != wanted:
            raise ValueError(f"parameter {index} has {found}, not {wanted}")
    groups = fresh
    if is_schedule_free(optimiser):
        groups = [
            group | {key: _number(old[key]) for key in group if key not in settings and key != "params"}
            for group, old in zip(fresh, saved["param_groups"], strict=True)
        ]
    optimiser.load_state_dict({**saved, "param_groups": groups})


def _on_any_device(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Kinds of computation that a CPU may not have are left out."""
    return {key: None for key in ("fused", "foreach") if key in arguments}


def _shapes(moments: Mapping[str, Any]) -> dict[str, torch.Size]:
    return {name: value.shape if isinstance(value, Tensor) else torch.Size() for name, value in moments.items()}


def _number(value: Any) -> int | float:
    if not isinstance(value, int | float):
        raise TypeError(f"{type(value).__name__} is no number")
    return value
