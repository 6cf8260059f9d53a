"""The section `train.optim_g`: what the values of its keys may be, and which key which optimiser takes.

Whether an optimiser is there, and takes a key, is judged by itself (`rnan_plugin.training.optimisers`); the table here
is for editors, whose schema may not depend on the versions installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rnan_plugin.options.schema import place_keys
from rnan_plugin.options.values import CountOrNone, NotNegative, Positive, Share


@dataclass(frozen=True)
class Optimiser:
    """The section `train.optim_g`: an optimiser of `torch.optim`, or of the package schedulefree, and its arguments.

    Defaults are the optimiser's own, keys those that it takes; arguments that are not here are judged by it alone.

    Args:
        type: Its name, such as Adam, AdamW or AdamWScheduleFree.
        lr: The learning rate.
        weight_decay: How strongly weights are drawn to 0.
        betas: Of the averages of the gradient and of its square.
        eps: Added to a denominator; of Adafactor two numbers.
        amsgrad: Whether the largest average of squares so far is kept.
        momentum: Share of the last step in the next.
        foreach: Compute all tensors together.
        fused: Compute a step in one kernel.
        capturable: For CUDA graphs, which no loop here records.
        differentiable: For gradients of the step itself.
        warmup_steps: Of schedule-free optimisers: iterations in which the rate rises.
    """

    type: str = "Adam"
    lr: NotNegative = 1e-3
    weight_decay: NotNegative = 0
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: NotNegative | tuple[NotNegative | None, NotNegative] = 1e-8
    amsgrad: bool = False
    decoupled_weight_decay: bool = False
    momentum: Share = 0.0
    momentum_decay: NotNegative = 0.004
    dampening: float = 0.0
    nesterov: bool = False
    centered: bool = False
    alpha: Share = 0.99
    rho: Share = 0.9
    lambd: NotNegative = 1e-4
    t0: NotNegative = 1e6
    lr_decay: NotNegative = 0
    initial_accumulator_value: NotNegative = 0
    etas: tuple[Positive, Positive] = (0.5, 1.2)
    step_sizes: tuple[Positive, Positive] = (1e-6, 50)
    beta2_decay: float = -0.8
    d: Positive = 1.0
    foreach: bool | None = None
    fused: bool | None = None
    maximize: bool = False
    capturable: Literal[False] = False
    differentiable: Literal[False] = False
    warmup_steps: CountOrNone = 0
    r: NotNegative = 0.0
    weight_lr_power: NotNegative = 2.0
    silent_sgd_phase: bool = True


place_keys(("lr", "weight_decay", "betas", "warmup_steps"), "in train.optim_g")

_EACH = ("type", "lr", "weight_decay", "foreach")
_IN_TORCH = (*_EACH, "maximize", "capturable", "differentiable")
_ADAM = (*_IN_TORCH, "betas", "eps")
_SCHEDULE_FREE = (*_EACH, "warmup_steps", "r", "weight_lr_power")

# Their average takes the place of a schedule; their names are all that is known where the package is not installed.
SCHEDULE_FREE: dict[str, tuple[str, ...]] = {
    "AdamWScheduleFree": (*_SCHEDULE_FREE, "betas", "eps"),
    "RAdamScheduleFree": (
        *(key for key in _SCHEDULE_FREE if key != "warmup_steps"),
        "betas",
        "eps",
        "silent_sgd_phase",
    ),
    "SGDScheduleFree": (*_SCHEDULE_FREE, "momentum"),
}
KEYS_OF_OPTIMISERS: dict[str, tuple[str, ...]] = {
    "ASGD": (*_IN_TORCH, "lambd", "alpha", "t0"),
    "Adadelta": (*_IN_TORCH, "rho", "eps"),
    "Adafactor": (*_EACH, "maximize", "beta2_decay", "eps", "d"),
    "Adagrad": (
        *(key for key in _IN_TORCH if key != "capturable"),
        "lr_decay",
        "initial_accumulator_value",
        "eps",
        "fused",
    ),
    "Adam": (*_ADAM, "amsgrad", "fused", "decoupled_weight_decay"),
    "AdamW": (*_ADAM, "amsgrad", "fused"),
    "Adamax": _ADAM,
    "NAdam": (*_ADAM, "momentum_decay", "decoupled_weight_decay"),
    "RAdam": (*_ADAM, "decoupled_weight_decay"),
    "RMSprop": (*_IN_TORCH, "alpha", "eps", "momentum", "centered"),
    "Rprop": (*(key for key in _IN_TORCH if key != "weight_decay"), "etas", "step_sizes"),
    "SGD": (*(key for key in _IN_TORCH if key != "capturable"), "momentum", "dampening", "nesterov", "fused"),
    **SCHEDULE_FREE,
}
