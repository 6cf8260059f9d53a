"""Passes side by side on a CPU: what one thread gives, in order, in the caller's modes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.inference.parallel import in_order
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.whole_images import restore


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_outputs_come_in_the_order_of_their_inputs_and_threads_are_as_before() -> None:
    barrier, seen = threading.Barrier(3, timeout=60), set()

    def net(x: Tensor) -> Tensor:
        if int(x) < 3:
            barrier.wait()  # three are worked on at a time
        seen.add((threading.get_ident(), torch.get_num_threads(), torch.is_inference_mode_enabled()))
        return x * 2

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert [int(out) for out in in_order(net, (torch.tensor(n) for n in range(20)))] == list(range(0, 40, 2))
    assert {rest for _, *rest in map(tuple, seen) for rest in [tuple(rest)]} == {(1, True)}
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("threads")
def test_autocast_is_that_of_the_caller() -> None:
    layer = torch.nn.Linear(4, 4)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            kinds = {out.dtype for out in in_order(layer, [torch.ones(4)] * 5)}
        assert kinds == {torch.bfloat16}
        assert {out.dtype for out in in_order(layer, [torch.ones(4)] * 5)} == {torch.float32}


@pytest.mark.usefixtures("threads")
def test_no_more_inputs_are_taken_than_are_worked_on() -> None:
    taken = []

    def inputs() -> Iterator[Tensor]:
        for number in range(50):
            taken.append(number)
            yield torch.tensor(number)

    with torch.no_grad():
        outputs = in_order(lambda x: x, inputs())
        next(outputs)
        assert len(taken) <= 5
        del outputs


@pytest.mark.usefixtures("threads")
def test_an_error_of_one_pass_is_the_callers() -> None:
    def net(x: Tensor) -> Tensor:
        if int(x) == 4:
            raise ValueError("four")
        return x

    with torch.no_grad(), pytest.raises(ValueError, match="four"):
        list(in_order(net, [torch.tensor(n) for n in range(9)]))
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("ensemble", [False, True])
def test_tiles_are_those_of_one_thread(ensemble: bool) -> None:
    torch.manual_seed(0)
    net, lq = RNAN(1, 1, num_feat=4, num_rab=1, num_rnab=1).eval(), torch.rand(1, 1, 60, 50)
    outputs, before = [], torch.get_num_threads()
    for count in (1, 4):
        torch.set_num_threads(count)
        outputs.append(restore(net, lq, Policy("tile", 16, 4, tile_batch=2, self_ensemble=ensemble))[0])
    torch.set_num_threads(before)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-6)
