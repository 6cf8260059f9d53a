"""Learning rates of a resumed training: to the bit those of a training that stepped through all iterations."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import rnan_plugin.training.connect  # noqa: F401 - BasicSR has to know the plugin's classes
from rnan_plugin.errors import UserError
from rnan_plugin.training.model import RestorationModel

NETWORK = {"type": "RNAN", "num_in_ch": 1, "num_out_ch": 1, "num_feat": 4, "num_rab": 1, "num_rnab": 1}
SCHEDULES = {
    "milestones": {"type": "MultiStepLR", "milestones": [200, 400, 401, 1999, 5000], "gamma": 0.3},
    "restarts": {
        "type": "MultiStepRestartLR",
        "milestones": [100, 100, 900, 2500],
        "gamma": 0.7,
        "restarts": [0, 1000, 2500],
        "restart_weights": [1, 0.5, 0.1],
    },
    "cosine": {
        "type": "CosineAnnealingRestartLR",
        "periods": [700, 300, 3000],
        "restart_weights": [1, 0.5, 0.3],
        "eta_min": 1e-7,
    },
}


def model(schedule: dict[str, Any], warmup: int = -1) -> RestorationModel:
    train = {
        "optim_g": {"type": "Adam", "lr": 3e-4, "betas": [0.9, 0.999]},
        "scheduler": copy.deepcopy(schedule),
        "pixel_opt": {"type": "L1Loss"},
        "warmup_iter": warmup,
    }
    opt: dict[str, Any] = {"name": "x", "model_type": "RestorationModel", "num_gpu": 0, "dist": False, "rank": 0}
    opt |= {"world_size": 1, "is_train": True, "network_g": dict(NETWORK), "path": {}, "train": train, "val": {}}
    return RestorationModel(opt)


def state_at(iteration: int, of: RestorationModel) -> dict[str, Any]:
    optimizers = [optimizer.state_dict() for optimizer in of.optimizers]
    return {"epoch": 0, "iter": iteration, "optimizers": optimizers, "schedulers": []}


@pytest.mark.parametrize("warmup", [-1, 450])
@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.filterwarnings("ignore:Detected call of")
def test_rates_are_those_of_stepping_through(kind: str, warmup: int) -> None:
    stepping = model(SCHEDULES[kind], warmup)
    initial = stepping.optimizers[0].state_dict()
    marks = {1, 2, 3, 99, 100, 101, 200, 201, 402, 449, 450, 451, 701, 1000, 1001, 1002, 2000, 2501, 3000}
    for iteration in range(1, 3001):
        stepping.update_learning_rate(iteration, warmup)
        if iteration not in marks:
            continue
        resumed = model(SCHEDULES[kind], warmup)
        resumed.resume_training({**state_at(iteration, stepping), "optimizers": [initial]})
        assert resumed.get_current_learning_rate() == stepping.get_current_learning_rate(), iteration
        assert resumed.schedulers[0].state_dict() == stepping.schedulers[0].state_dict(), iteration
    resumed.update_learning_rate(3001, warmup)
    stepping.update_learning_rate(3001, warmup)
    assert resumed.get_current_learning_rate() == stepping.get_current_learning_rate()


def test_a_million_iterations_take_as_many_steps_as_the_schedule_has_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    resumed = model({"type": "MultiStepLR", "milestones": [200_000, 400_000, 600_000, 2_000_000], "gamma": 0.5})
    steps = []
    kind = type(resumed.schedulers[0])
    step = kind.step
    monkeypatch.setattr(kind, "step", lambda self: (steps.append(1), step(self)))
    resumed.resume_training(state_at(1_000_000, resumed))
    assert resumed.get_current_learning_rate() == [3e-4 * 0.5 * 0.5 * 0.5]
    assert len(steps) == 5


def test_cosine_that_has_ended_before_is_one_line() -> None:
    resumed = model({"type": "CosineAnnealingRestartLR", "periods": [10], "restart_weights": [1]})
    with pytest.raises(UserError, match=r"train\.scheduler\.periods end before iteration 1000000000, from which"):
        resumed.resume_training(state_at(10**9, resumed))


def test_optimizer_of_another_network_is_one_line() -> None:
    saved = model(SCHEDULES["milestones"])
    saved.feed_data({"lq": torch.rand(1, 1, 8, 8), "gt": torch.rand(1, 1, 8, 8)})
    saved.optimize_parameters(1)
    state = state_at(5, saved)
    model(SCHEDULES["milestones"]).resume_training(copy.deepcopy(state))
    (optimizer,) = state["optimizers"]
    moments = optimizer["state"]
    too_many = moments | {len(moments): moments[0]}
    swapped = moments | {0: moments[1]}
    for broken in ([{}], [{"state": 5}], [], [{"state": too_many}], [{"state": swapped}], [{"state": {0: {"x": "y"}}}]):
        with pytest.raises(UserError, match="does not fit the network"):
            model(SCHEDULES["milestones"]).resume_training({**state, "optimizers": broken})


@pytest.mark.parametrize("kind", ["milestones", "restarts"])
def test_going_on_at_a_million_steps_at_turns_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resumed, steps = model(SCHEDULES[kind]), 0
    step = resumed.schedulers[0].step

    def counted() -> None:
        nonlocal steps
        steps += 1
        step()

    monkeypatch.setattr(resumed.schedulers[0], "step", counted)
    resumed.resume_training(state_at(10**6, resumed))
    assert resumed.schedulers[0].last_epoch == 10**6 - 1
    assert steps <= 8  # five or six turns of the schedule, the iteration before, and its own
