"""Options of a training step: each gives what plain float32 gives, within what its arithmetic allows."""

from __future__ import annotations

import copy
import logging
import shutil

import pytest
import test_model
import torch
from test_model import NETWORK, batch, build_model

from rnan_plugin import device as devices
from rnan_plugin.device import choose
from rnan_plugin.errors import UserError
from rnan_plugin.training.step import StepOptions


def gradients(**train):
    """Loss and gradients of the first step taken on a batch of five, from the same weights."""
    model = build_model(**train)
    model.feed_data(batch(5, (16, 16)))
    for iteration in range(1, 9):
        model.optimize_parameters(iteration)
        if model.skipped_steps < iteration:  # float16: the loss is scaled down until the gradient is finite
            break
    return model.get_current_log()["l_pix"], torch.cat([p.grad.flatten() for p in model.net_g.parameters()])


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        # Another order of the sums: some units in the last place of float32.
        ({"accumulate": 2}, 1e-5),
        ({"accumulate": 9}, 1e-5),
        # The same operations once more.
        ({"checkpoint_blocks": True}, 1e-6),
        # 8 and 11 bits of each factor and activation, through some 30 layers.
        ({"precision": "bfloat16"}, 0.06),
        ({"precision": "float16"}, 0.01),
        ({"precision": "bfloat16", "accumulate": 2, "checkpoint_blocks": True}, 0.06),
    ],
)
def test_gradient_is_that_of_plain_float32(options, bound):
    plain_loss, plain = gradients()
    loss, gradient = gradients(**options)
    assert gradient.dtype == torch.float32
    assert loss == pytest.approx(plain_loss, rel=bound)
    assert (gradient - plain).norm() / plain.norm() < bound
    if options.get("precision", "float32") != "float32":
        assert not torch.equal(gradient, plain)  # it was narrow indeed


@pytest.mark.parametrize(("ratio", "taken"), [(0.5, "bfloat16"), (0.9, "float32"), (18.0, "float32")])
def test_automatic_precision_is_what_is_faster_here_and_told(ratio, taken, caplog, monkeypatch):
    monkeypatch.setattr(devices, "_time_ratio", lambda _: ratio)
    logging.getLogger("basicsr").propagate = True
    caplog.set_level("INFO", "basicsr")
    loss, gradient = gradients(precision="auto")
    told = {record.message for record in caplog.records if "precision" in record.message}
    assert told == {f"train.precision: auto is {taken} here"}
    expected_loss, expected = gradients(precision=taken)
    assert loss == expected_loss
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize(("precision", "told"), [("bfloat16", True), ("float16", True), ("float32", False)])
def test_precision_that_is_slow_here_is_told(precision, told, caplog, monkeypatch):
    monkeypatch.setattr(devices, "_time_ratio", lambda _: 18.0)
    logging.getLogger("basicsr").propagate = True
    build_model(precision=precision)
    warnings = {record.message for record in caplog.records if record.levelname == "WARNING"}
    assert [f"18 times as long in {precision} as in float32" in text for text in warnings] == [True] * told


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
def test_compiled_network_trains_the_same(softmax_over, monkeypatch):
    monkeypatch.setitem(NETWORK, "softmax_over", softmax_over)
    plain_loss, plain = gradients()
    loss, gradient = gradients(compile=True)
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    assert (gradient - plain).norm() / plain.norm() < 1e-4


@pytest.mark.parametrize("kind", [{"fused": True}, {"foreach": True}])
def test_kinds_of_adam_agree(kind):
    weights = []
    for extra in ({}, kind):
        model = build_model(optim_g={"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.999], **extra})
        for iteration in range(1, 4):
            model.feed_data(batch())
            model.optimize_parameters(iteration)
        weights.append(torch.cat([p.detach().flatten() for p in model.net_g.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-5, atol=1e-6)


def test_checkpointed_blocks_are_computed_again():
    model = build_model(checkpoint_blocks=True)
    calls = []
    model.net_g.body[0].register_forward_pre_hook(lambda *_: calls.append(1))
    model.feed_data(batch())
    model.optimize_parameters(1)
    assert len(calls) == 2


def test_clipping_bounds_the_gradient():
    plain = gradients()[1].norm()
    assert gradients(clip_grad_norm=plain.item() / 10)[1].norm() == pytest.approx(plain.item() / 10, rel=1e-4)
    model = build_model(clip_grad_norm=1e-3)
    model.feed_data(batch(5, (16, 16)))
    model.optimize_parameters(1)
    assert model.get_current_log()["grad_norm"] == pytest.approx(plain.item(), rel=1e-4)  # before clipping


def first_loss(**train):
    model = build_model(**train)
    model.feed_data(batch(5, (16, 16)))
    model.optimize_parameters(1)
    return model, model.get_current_log()["l_pix"]


def test_identity_start_gives_the_input_and_still_learns():
    model, loss = first_loss(identity_start=True)
    untouched = (model.lq - model.gt).square().mean().item()
    assert loss == pytest.approx(untouched, rel=0.05)
    assert first_loss()[1] > 1.5 * untouched  # the ordinary start is far from it
    for iteration in range(2, 30):
        model.optimize_parameters(iteration)
    assert model.get_current_log()["l_pix"] < 0.9 * untouched
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.net_g.parameters())


@pytest.mark.parametrize("key", ["identity_start", "checkpoint_blocks"])
def test_network_without_an_option_s_part_is_told(key, monkeypatch):
    other = {"type": "MSRResNetX1", "num_in_ch": 1, "num_out_ch": 1, "num_feat": 4, "num_block": 1}
    monkeypatch.setattr(test_model, "NETWORK", other)
    with pytest.raises(UserError, match=rf"train\.{key}: MSRResNetX1 has no such option; take it out"):
        build_model(**{key: True})


def not_finite(names):
    data = batch()
    data["lq"][0, 0, 0, 0] = float("nan")
    return {**data, "gt_path": names}


def test_step_that_is_not_finite_is_skipped_and_names_its_images(caplog):
    model = build_model(skip_limit=2, ema_decay=0.5)
    before = copy.deepcopy(model.net_g.state_dict())
    logging.getLogger("basicsr").propagate = True
    for _ in range(2):
        model.feed_data(not_finite(["first.png", "second.png"]))
        model.optimize_parameters(7)
    assert model.get_current_log()["skipped_steps"] == 2
    assert all(torch.equal(value, before[name]) for name, value in model.net_g.state_dict().items())
    assert all(value.isfinite().all() for value in model.net_g_ema.state_dict().values())
    assert "iter 7: step skipped" in caplog.text
    assert "first.png, second.png" in caplog.text

    model.feed_data(batch())  # a good one in between starts the count anew
    model.optimize_parameters(8)
    assert not torch.equal(model.net_g.head.weight, before["head.weight"])
    for _ in range(2):
        model.feed_data(not_finite(["third.png"]))
        model.optimize_parameters(9)
    with pytest.raises(UserError, match=r"not finite for 3 steps in a row .* lower train\.optim_g\.lr"):
        model.optimize_parameters(10)


def test_warm_up_leaves_no_trace_in_the_schedule():
    """The toolbox's own goes on from the warm-up's last rate."""
    model = build_model()
    rates = []
    for iteration in range(1, 7):
        model.update_learning_rate(iteration, warmup_iter=2)
        rates.append(model.get_current_learning_rate()[0])
        model.optimizer_g.step()
    assert rates == pytest.approx([5e-4, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4])


def test_average_takes_the_buffers_too():
    model = build_model(ema_decay=0.5)
    for net, value in ((model.net_g, 3.0), (model.net_g_ema, 0.0)):
        net.register_buffer("statistic", torch.tensor(value))
    model.model_ema(0.5)
    assert model.net_g_ema.statistic == 3


@pytest.mark.parametrize(
    "options", [{"precision": "float8"}, {"accumulate": 0}, {"clip_grad_norm": 0.0}, {"mask_lr_mult": 0.0}]
)
def test_options_outside_their_interval(options):
    with pytest.raises(UserError, match=next(iter(options))):
        StepOptions(**options)


def test_device_is_one_setting():
    assert choose("cpu").type == "cpu"
    assert choose("auto", gpu=False).type != "cuda"
    with pytest.raises(UserError, match="'tpu' is not one of auto, cpu, cuda, mps"):
        choose("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="cuda is not usable here"):
            choose("cuda")
