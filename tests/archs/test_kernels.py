"""The switch for torch's private operators: the same results without them, and none of them called."""

from __future__ import annotations

import pytest
import torch

from rnan_plugin.archs import attention, fused, onednn_attention, plain
from rnan_plugin.archs.kernels import SWITCH, private_allowed
from rnan_plugin.archs.rnan_arch import RNAN


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
def test_plain_computes_the_same(softmax_over: str) -> None:
    torch.manual_seed(0)
    net = RNAN(3, 3, 8, 1, 1, softmax_over=softmax_over).eval()  # type: ignore[arg-type]
    net = net.to(memory_format=torch.channels_last)
    for block in net.modules():
        if hasattr(block, "w"):
            torch.nn.init.normal_(block.w.weight, std=0.1)
    img = torch.rand(1, 3, 24, 20).to(memory_format=torch.channels_last)
    with torch.no_grad():
        fast = net(img)
        with plain():
            slow = net(img)
    assert torch.allclose(fast, slow, atol=1e-5)


def test_no_private_operator_serves() -> None:
    conv, x = torch.nn.Conv2d(4, 4, 3), torch.rand(1, 4, 8, 8).to(memory_format=torch.channels_last)
    flat = torch.rand(1, 16, 4)
    with torch.no_grad(), plain(), plain():
        assert not fused.serves(conv, x)
        assert not onednn_attention.serves(flat)
        assert not attention._cpu_kernel_serves(flat)
    assert private_allowed()


def test_an_environment_variable_switches_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "1")
    assert not private_allowed()
    monkeypatch.setenv(SWITCH, "0")
    assert private_allowed()
