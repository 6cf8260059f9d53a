"""Optimisers by name: torch's and the schedule-free ones, checked, trained with, killed, resumed to the same bits."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import test_model
import torch
from conftest import tiny_options, write_options
from legal_options import parse
from test_interruption import assert_same
from test_model import Images, batch, build_model
from torch.utils.data import DataLoader

from rnan_plugin.__main__ import main
from rnan_plugin.checkpoints import load_weights, read
from rnan_plugin.errors import UserError
from rnan_plugin.options.optimisers import KEYS_OF_OPTIMISERS, SCHEDULE_FREE
from rnan_plugin.options.schema import legal_arguments
from rnan_plugin.training.optimisers import check_optimiser

needs_schedulefree = pytest.mark.skipif(
    importlib.util.find_spec("schedulefree") is None, reason="the package schedulefree is not installed"
)
IN_TORCH = sorted(KEYS_OF_OPTIMISERS.keys() - SCHEDULE_FREE.keys())
UNFIT = {"LBFGS", "Muon", "SparseAdam"}


def class_of(name: str) -> type[torch.optim.Optimizer]:
    module = pytest.importorskip("schedulefree") if name in SCHEDULE_FREE else torch.optim
    return getattr(module, name)


def model(kind: str, mask_lr_mult: float = 1.0, **arguments: Any) -> Any:
    free: dict[str, Any] = {"scheduler": None} if kind in SCHEDULE_FREE else {}
    return build_model(optim_g={"type": kind, "lr": 1e-3, **arguments}, mask_lr_mult=mask_lr_mult, **free)


def step(trained: Any, iteration: int) -> None:
    trained.update_learning_rate(iteration)
    trained.feed_data(batch())
    trained.optimize_parameters(iteration)


def weights_of(trained: Any) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in trained.net_g.parameters()])


def test_the_table_for_editors_is_what_the_optimisers_say() -> None:
    there = {name for name, kind in vars(torch.optim).items() if inspect.isclass(kind)} - UNFIT - {"Optimizer"}
    assert set(IN_TORCH) >= there
    for name in sorted(there) + (sorted(SCHEDULE_FREE) if importlib.util.find_spec("schedulefree") else []):
        taken, _ = legal_arguments(class_of(name), ["params"])
        newer = {"decoupled_weight_decay"}  # than the oldest torch
        assert taken.keys() | newer == {*KEYS_OF_OPTIMISERS[name], *newer} - {"type"}, name


@pytest.mark.parametrize("name", IN_TORCH)
def test_a_step_is_that_of_torch(name: str) -> None:
    trained = model(name)
    twin = copy.deepcopy(trained.net_g)
    optimiser = class_of(name)(twin.parameters(), lr=1e-3)  # type: ignore[call-arg]
    for iteration in (1, 2):  # before the first milestone
        step(trained, iteration)
        data = batch()
        optimiser.zero_grad()
        (twin(data["lq"]) - data["gt"]).square().mean().backward()
        optimiser.step()
    expected = torch.cat([weight.detach().flatten() for weight in twin.parameters()])
    torch.testing.assert_close(weights_of(trained), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mask_lr_mult", [1.0, 0.1])
@pytest.mark.parametrize("name", KEYS_OF_OPTIMISERS)
def test_resumed_it_ends_with_the_same_bits(name: str, mask_lr_mult: float, tmp_path: Path) -> None:
    """And whoever saves or looks at it more often does too."""
    class_of(name)
    undisturbed, stopped = model(name, mask_lr_mult), model(name, mask_lr_mult)
    for iteration in range(1, 7):
        step(undisturbed, iteration)
    for iteration in range(1, 4):
        step(stopped, iteration)
        stopped.validation(DataLoader(Images(1)), iteration, None, save_img=False)
    stopped.opt["path"] |= {"models": str(tmp_path), "training_states": str(tmp_path)}
    stopped.opt["logger"] = {}
    stopped.save(0, 3)
    resumed = model(name, mask_lr_mult)
    load_weights(resumed.net_g, tmp_path / "net_g_3.pth", "params")
    resumed.resume_training(read(tmp_path / "3.state"))
    for iteration in range(4, 7):
        step(resumed, iteration)
    assert torch.equal(weights_of(resumed), weights_of(undisturbed))
    ends = [other.optimizer_g.state_dict() for other in (resumed, undisturbed)]
    assert_same(ends[0]["state"], ends[1]["state"])
    assert ends[0]["param_groups"] == ends[1]["param_groups"]


def masks_of(trained: Any) -> list[torch.Tensor]:
    return [weight for name, weight in trained.net_g.named_parameters() if ".mask." in name]


def test_masks_have_a_rate_of_their_own() -> None:
    """Adam's first step is as long as its rate; warm-up and milestones change both."""
    trained = model("Adam", 0.1)
    before = copy.deepcopy(trained.net_g)
    trained.update_learning_rate(1, warmup_iter=4)
    assert trained.get_current_learning_rate() == pytest.approx([1e-3 / 4, 1e-4 / 4])
    trained.feed_data(batch())
    trained.optimize_parameters(1)
    of_masks = {id(weight) for weight in masks_of(trained)}
    assert 0 < len(of_masks) < len(list(trained.net_g.parameters()))
    longest = {True: 0.0, False: 0.0}
    for weight, old in zip(trained.net_g.parameters(), before.parameters(), strict=True):
        is_of_a_mask = id(weight) in of_masks
        longest[is_of_a_mask] = max(longest[is_of_a_mask], (weight - old).abs().max().item())
    trained.update_learning_rate(2)
    assert trained.get_current_learning_rate() == pytest.approx([1e-3, 1e-4])
    assert longest == {True: pytest.approx(1e-4 / 4, rel=0.02), False: pytest.approx(1e-3 / 4, rel=0.02)}


def test_a_state_of_one_rate_is_not_taken_for_two(tmp_path: Path) -> None:
    stopped, other = model("Adam"), model("Adam", 0.1)
    step(stopped, 1)
    stopped.opt["path"] |= {"training_states": str(tmp_path)}
    stopped.save_training_state(0, 1)
    with pytest.raises(UserError, match=r"or train\.optim_g or mask_lr_mult has changed; resume from another state"):
        other.resume_training(read(tmp_path / "1.state"))


@pytest.mark.parametrize(
    "network",
    [
        {**test_model.NETWORK, "mask_branch": False},
        {"type": "MSRResNetX1", "num_in_ch": 1, "num_out_ch": 1, "num_feat": 4, "num_block": 1},
    ],
    ids=lambda network: network["type"],
)
def test_a_network_without_masks_can_have_none(network: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_model, "NETWORK", network)
    with pytest.raises(UserError, match=rf"mask_lr_mult: this {network['type']} has no mask branches; take it out"):
        model("Adam", 0.1)


@needs_schedulefree
@pytest.mark.parametrize("name", SCHEDULE_FREE)
def test_what_is_validated_and_restored_with_is_the_average(name: str, tmp_path: Path) -> None:
    """The weights that `eval()` of the package gives, which training itself does not go on with."""
    trained = model(name, lr=0.01)
    for iteration in range(1, 8):  # RAdam leaves the weights alone at first
        step(trained, iteration)
    training = weights_of(trained)
    trained.opt["path"] |= {"models": str(tmp_path), "training_states": str(tmp_path)}
    trained.opt["logger"] = {}
    trained.save(0, 3)
    trained.feed_data(batch(1))
    trained.test()
    output = trained.output
    assert torch.equal(weights_of(trained), training)

    trained.optimizer_g.eval()
    expected = weights_of(trained)
    assert not torch.equal(expected, training)
    for key, wanted in ((None, expected), ("params", training)):  # without a key: as every command reads it
        load_weights(trained.net_g, tmp_path / "net_g_3.pth", key)
        assert torch.equal(weights_of(trained), wanted)
    load_weights(trained.net_g, tmp_path / "net_g_3.pth")
    del trained.net_g_ema
    trained.test()
    assert torch.equal(trained.output, output)


def test_a_state_of_another_optimiser_is_one_line() -> None:
    saved = model("SGD", momentum=0.9)
    step(saved, 1)
    state = {"iter": 1, "optimizers": [saved.optimizer_g.state_dict()], "schedulers": []}
    for other, arguments in (("Adam", {}), ("SGD", {}), ("AdamWScheduleFree", {})):
        class_of(other)
        with pytest.raises(UserError, match=r"train\.optim_g or mask_lr_mult has changed"):
            model(other, **arguments).resume_training(copy.deepcopy(state))
    step(adam := model("Adam"), 1)
    state["optimizers"] = [adam.optimizer_g.state_dict()]
    model("AdamW").resume_training(copy.deepcopy(state))
    with pytest.raises(UserError, match=r"train\.optim_g or mask_lr_mult has changed"):
        model("Adam", amsgrad=True).resume_training(state)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown name": (
        {"type": "Adamw"},
        "optim_g.type: no 'Adamw' in torch.optim or schedulefree (did you mean 'AdamW' or 'Adam' or ",
    ),
    "near schedule-free": (
        {"type": "AdamScheduleFree"},
        "'AdamWScheduleFree'",
    ),
    "no name": ({"type": 3}, "optim_g.type: 3 is no name of an optimiser, such as Adam"),
    "not an optimiser": ({"type": "lr_scheduler"}, "optim_g.type: no 'lr_scheduler' in torch.optim"),
    "base class": ({"type": "Optimizer"}, "optim_g.type: no 'Optimizer' in torch.optim"),
    "closure": ({"type": "LBFGS"}, "optim_g: LBFGS can't train a network so ("),
    "sparse": (
        {"type": "SparseAdam"},
        "optim_g: SparseAdam can't train a network so (SparseAdam does not support dense",
    ),
    "unknown argument": (
        {"type": "SGD", "momentun": 0.9},
        "optim_g: unknown key 'momentun' (did you mean 'momentum'?)",
    ),
    "of another": ({"type": "Adam", "momentum": 0.9}, "optim_g: unknown key 'momentum'"),
    "a text": (
        {"type": "SGD", "momentum": "much"},
        "optim_g.momentum: 'much' is not a finite number from 0 to below 1",
    ),
    "a number": ({"type": "SGD", "nesterov": 1}, "optim_g.nesterov: 1 is not true or false"),
    "one of two": ({"type": "Rprop", "etas": [0.5]}, "optim_g.etas: [0.5] is not a list of 2"),
    "together": (
        {"type": "SGD", "nesterov": True},
        "optim_g: SGD can't train a network so (Nesterov momentum requires",
    ),
    "eps of another": ({"type": "Adam", "eps": [None, 1e-3]}, "optim_g: Adam can't train a network so ("),
}
if hasattr(torch.optim, "Muon"):
    WRONG["matrices"] = ({"type": "Muon"}, "optim_g: Muon can't train a network so (Muon only supports 2D parameters")


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(name: str) -> None:
    section, told = WRONG[name]
    with pytest.raises(UserError) as caught:
        check_optimiser({"optim_g": section}, "x.yml, train.optim_g")
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).startswith("x.yml, train.optim_g")
    assert told in str(caught.value)


@needs_schedulefree
def test_what_does_not_go_with_schedule_free_is_told(legal: dict[str, Any], monkeypatch, capfd) -> None:
    legal["train"] |= {"optim_g": {"type": "AdamWScheduleFree", "lr": "1e-3"}, "warmup_iter": 5, "ema_decay": 0.9}
    with pytest.raises(SystemExit):
        parse(legal, monkeypatch)
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        f"small.yml, train.{key}" for key in ("scheduler", "warmup_iter", "ema_decay")
    ]
    assert "by small.yml, train.optim_g.warmup_steps" in lines[1]
    legal["train"] |= {"scheduler": None, "warmup_iter": -1, "ema_decay": 0}
    assert parse(legal, monkeypatch)[0]["train"]["optim_g"]["lr"] == 1e-3
    del legal["train"]["scheduler"]
    parse(legal, monkeypatch)
    legal["train"]["optim_g"]["betas"] = [0, 0.999]  # by which it divides
    with pytest.raises(SystemExit):
        parse(legal, monkeypatch)
    (line,) = capfd.readouterr().err.splitlines()
    assert "AdamWScheduleFree can't train a network so (" in line
    legal["train"]["optim_g"] = {"type": "AdamW"}
    with pytest.raises(SystemExit):
        parse(legal, monkeypatch)
    assert capfd.readouterr().err == "error: small.yml, train: key 'scheduler' is missing\n"


def test_without_the_package_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "schedulefree" else found(name))
    with pytest.raises(UserError, match=r"^x.type: SGDScheduleFree needs the package schedulefree; pip install"):
        check_optimiser({"optim_g": {"type": "SGDScheduleFree"}}, "x")


@needs_schedulefree
def test_schedule_free_killed_again_and_again_ends_with_the_same_bits(data: Path, tmp_path: Path, monkeypatch) -> None:
    """Real processes; what was killed also validates and saves at other iterations."""
    ends = []
    for folder, every in (("undisturbed", 12), ("killed", 1)):
        (tmp_path / folder).mkdir()
        opt = tiny_options(data, total_iter=12, ema_decay=0)
        opt["train"] |= {"optim_g": {"type": "AdamWScheduleFree", "lr": 1e-3, "warmup_steps": 4}, "warmup_iter": -1}
        del opt["train"]["scheduler"]
        opt["val"] |= {"save_img": False, "val_freq": 3 * every}
        opt["logger"] |= {"save_checkpoint_freq": every, "use_tb_logger": False}
        write_options(tmp_path / folder, opt)
        monkeypatch.chdir(tmp_path / folder)
        if folder == "killed":
            script = Path(__file__).with_name("kill_and_resume.py")
            command = [sys.executable, str(script), "tiny.yml", "12", "2", "1"]
            result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
            assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
            assert result.stdout.count("killed, ") == 2
        else:
            assert main(["train", "-opt", "tiny.yml"]) == 0
        run = tmp_path / folder / "experiments/tiny"
        weights = read(run / "models/net_g_12.pth")
        ends.append([weights["params"], weights["params_ema"], read(run / "training_states/12.state")["optimizers"]])
    assert_same(*ends)
    assert any(not torch.equal(ends[0][0][name], ends[0][1][name]) for name in ends[0][0])
