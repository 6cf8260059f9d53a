"""The options of the `train` section that the plugin adds: how one step is computed, and what the first starts from."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any

import torch

from rnan_plugin import device as devices
from rnan_plugin.choices import AskedPrecision
from rnan_plugin.errors import UserError
from rnan_plugin.options.schema import place_keys
from rnan_plugin.options.values import Count, CountOrNone, Positive
from rnan_plugin.toolbox.api import get_root_logger

_TOLD_SLOWDOWN = 1.5  # below it, other work beside a start's few milliseconds may be what is measured


@dataclass(frozen=True)
class StepOptions:
    """Keys of the `train` section.

    Args:
        precision: Of the network's forward and backward pass; weights, loss and optimiser stay float32. auto is
            bfloat16 where the device is faster in it, else float32; a CPU is timed at each start. float16 scales the
            loss so that small gradients survive.
        accumulate: Parts a batch is computed in, one after the other: the same gradient for less memory.
        clip_grad_norm: Largest 2-norm of all gradients together; None leaves them as they are.
        compile: Compile the network (`torch.compile`).
        checkpoint_blocks: Compute each block again in the backward pass instead of keeping its activations.
        identity_start: Begin with a network whose output is its input (`RNAN.start_as_identity`); weights that are
            loaded override it.
        mask_lr_mult: Learning rate that the mask branches (`RNAN.mask_parameters`) begin with, as a multiple of the
            others'; a schedule's lowest rate is the same for all. At the rates of short trainings their sigmoids
            saturate; below 1 they last longer.
        skip_limit: Steps in a row that may be skipped because loss or gradient is not finite.

    Raises:
        UserError: A value outside its legal interval.
    """

    precision: AskedPrecision = "float32"
    accumulate: Count = 1
    clip_grad_norm: Positive | None = None
    compile: bool = False
    checkpoint_blocks: bool = False
    identity_start: bool = False
    mask_lr_mult: Positive = 1.0
    skip_limit: CountOrNone = 20

    def __post_init__(self) -> None:
        devices.check_precision(self.precision)
        if self.accumulate < 1 or self.skip_limit < 0:
            raise UserError(f"accumulate {self.accumulate} must be 1 or more, skip_limit {self.skip_limit} 0 or more")
        if self.mask_lr_mult <= 0:
            raise UserError(f"mask_lr_mult is {self.mask_lr_mult}, must be above 0; leave it out for one rate")
        if self.clip_grad_norm is not None and self.clip_grad_norm <= 0:
            raise UserError(f"clip_grad_norm is {self.clip_grad_norm}, must be above 0; leave it out for no clipping")

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """What the forward pass runs in."""
        return devices.autocast(device, devices.precision_on(device, self.precision))

    def tell_precision(self, device: torch.device) -> None:
        """Log what "auto" is on a device, and that a precision named by the user is slow there."""
        taken = devices.precision_on(device, self.precision)
        if self.precision == "auto":
            get_root_logger().info(f"train.precision: auto is {taken} here")
        times = devices.slowdown(device, taken)
        if times >= _TOLD_SLOWDOWN:
            get_root_logger().warning(
                f"train.precision: layers take about {times:.0f} times as long in {taken} as in float32 on this "
                "processor; auto takes what is faster"
            )

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Scaler of the loss; does nothing unless the precision is float16."""
        return torch.amp.GradScaler(device.type, enabled=self.precision == "float16")


STEP_KEYS = frozenset(item.name for item in fields(StepOptions))
place_keys(STEP_KEYS, "in train")


def step_options(train: Mapping[str, Any]) -> StepOptions:
    """The step's options of a `train` section; keys left out have their defaults.

    Raises:
        UserError: A value outside its legal interval.
    """
    return StepOptions(**{key: value for key, value in train.items() if key in STEP_KEYS})
