"""Learning-rate schedules brought to an iteration without a step for each one before it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

from rnan_plugin.errors import UserError


def fast_forward(scheduler: Any, epoch: int) -> None:
    """Bring a new schedule to an epoch; rates and state are those of stepping there one by one, to the last bit.

    Args:
        scheduler: A `MultiStepRestartLR`, whose rates change at its milestones and restarts alone, or a
            `CosineAnnealingRestartLR`, whose rates follow from the epoch alone; at epoch 0.
        epoch: 0 or more; the schedule counts iterations by this name.
    """
    turns = {*getattr(scheduler, "milestones", ()), *getattr(scheduler, "restarts", ())}
    stops = {turn for turn in turns if 0 < turn < epoch and turn == int(turn)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the schedule steps without the optimiser here
        for stop in sorted(stops | {epoch} if epoch else stops):
            scheduler.last_epoch = int(stop) - 1
            scheduler.step()
    scheduler._step_count = epoch + 1


def resume_schedules(schedulers: Iterable[Any], iteration: int, set_rates: Callable[[], object]) -> None:
    """Bring new schedules to the iteration that a training goes on from.

    Args:
        schedulers: At epoch 0; see `fast_forward`.
        iteration: The last that was trained.
        set_rates: What the training does at the beginning of that iteration.

    Raises:
        UserError: A schedule has ended before.
    """
    try:
        for scheduler in schedulers:
            fast_forward(scheduler, max(0, iteration - 2))
        if iteration:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the schedule steps without the optimiser here
                set_rates()
    except TypeError:  # of a cosine beyond its last period
        raise UserError(
            f"train.scheduler.periods end before iteration {iteration}, from which the run goes on; add periods"
        ) from None
