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
        with torch.autocast("cpu", torch.float16):
            assert not fused_calls(lambda: block.float()(x))
            assert block(x).dtype == torch.float16
        with torch.autocast("cpu", torch.bfloat16):
            assert not fused_calls(lambda: block.double()(x.double()))
        with pytest.raises(RuntimeError, match="type"):  # as by the plain ones
            block.bfloat16()(x)


@pytest.mark.skipif(not fused._NARROW, reason="this processor, or build of torch, has no convolutions in bfloat16")
@pytest.mark.parametrize("narrow_network", [False, True])
def test_in_bfloat16_with_one_rounding_instead_of_two(narrow_network):
    """Of a network in that type, and of one in float32 under autocast, whose inputs are of either type."""
    torch.manual_seed(0)
    block = ResBlock(16).to(memory_format=LAST)
    x = torch.randn(2, 16, 9, 7).contiguous(memory_format=LAST).bfloat16()
    expected = block.double()(x.double())
    block = block.to(torch.bfloat16 if narrow_network else torch.float32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=not narrow_network):
        for lq in (x,) if narrow_network else (x, x.float()):
            assert len(fused_calls(lambda lq=lq: block(lq))) == 2
            out = block(lq)
            assert out.dtype == torch.bfloat16
            assert (out - expected).norm() / expected.norm() < 2**-8
