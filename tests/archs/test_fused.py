"""Fused convolutions: taken where nothing is lost by it, and equal to the plain ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.profiler import profile

from rnan_plugin.archs import fused
from rnan_plugin.archs.rnan_arch import RNAN, ResBlock

LAST = torch.channels_last


def fused_calls(run):
    """Names of the operators a call runs, those of oneDNN's fused convolutions only."""
    with profile() as trace:
        run()
    return [event.name for event in trace.events() if event.name.startswith("mkldnn::_convolution_pointwise")]


@pytest.mark.skipif(not fused._AVAILABLE, reason="this build of torch has no fused convolutions of oneDNN")
def test_a_residual_block_is_two_fused_convolutions():
    block, x = ResBlock(8).to(memory_format=LAST), torch.rand(1, 8, 6, 5).contiguous(memory_format=LAST)
    with torch.inference_mode():
        assert len(fused_calls(lambda: block(x))) == 2


@pytest.mark.parametrize("batch", [1, 3])
def test_equal_to_the_plain_operators(batch):
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 3, padding=1).to(memory_format=LAST)
    x, residual = torch.randn(2, batch, 16, 9, 7).unbind()
    x, residual = (tensor.contiguous(memory_format=LAST) for tensor in (x, residual))
    kept = residual.clone()
    plain = conv(x)
    with torch.no_grad():
        torch.testing.assert_close(fused.conv_relu(conv, x), plain.relu())
        torch.testing.assert_close(fused.conv_sigmoid(conv, x), plain.sigmoid())
        torch.testing.assert_close(fused.conv_add(conv, x, residual), plain + residual)
    assert residual.equal(kept)


def test_whole_network_is_the_same_with_and_without():
    torch.manual_seed(0)
    net = RNAN(num_feat=16, num_rab=1, num_rnab=1).to(memory_format=LAST).eval()
    x = torch.rand(2, 3, 13, 10)
    with torch.no_grad():
        torch.testing.assert_close(net(x), net.double()(x.double()).float(), rtol=1e-5, atol=1e-5)


def test_plain_where_the_fused_operators_know_too_little():
    block, x = ResBlock(8).to(memory_format=LAST), torch.rand(1, 8, 6, 5).contiguous(memory_format=LAST)
    assert not fused_calls(lambda: block(x))  # gradients are recorded
    with torch.no_grad():
        assert not fused_calls(lambda: block(x.contiguous()))
        heard = []
        with block.conv1.register_forward_hook(lambda *_: heard.append(1)):
            assert len(fused_calls(lambda: block(x))) == 1  # conv2 alone
        assert heard
        assert not fused_calls(lambda: block.double()(x.double()))
        with torch.autocast("cpu", torch.bfloat16):
            assert not fused_calls(lambda: block.float()(x))
            assert block(x).dtype == torch.bfloat16
