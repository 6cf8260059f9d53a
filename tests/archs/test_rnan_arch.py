"""The network: parameter counts, sizes, ablations, and equations checked against direct formulas."""

from __future__ import annotations

import copy

import pytest
import torch

from rnan_plugin.archs.rnan_arch import DIV2K_MEAN, RELEASED, RNAN, AttentionBlock, MaskBranch, non_local_positions


def count(**arguments):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in RNAN(**arguments).parameters())


def tiny(**arguments):
    return RNAN(**{"num_feat": 8, "num_rab": 1, "num_rnab": 1, **arguments}).eval()


GREY = {"num_in_ch": 1, "num_out_ch": 1}
MEAN_SHIFT = 24  # the release holds its constant mean shift in two 1×1 convolutions of 12 values


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 8_185_987),  # the text's settings: 8.19 M
        (RELEASED, 8_959_555),
        ({**RELEASED, **GREY}, 8_957_249),
        ({**RELEASED, "upscale": 2, "img_mean": DIV2K_MEAN}, 9_107_291 - MEAN_SHIFT),
        ({**RELEASED, "upscale": 3, "img_mean": DIV2K_MEAN}, 9_291_931 - MEAN_SHIFT),
        ({**RELEASED, "upscale": 4, "img_mean": DIV2K_MEAN}, 9_255_003 - MEAN_SHIFT),
        ({**RELEASED, "num_rab": 0}, 1_837_635),  # the release's smallest: two non-local blocks
    ],
)
def test_parameter_counts_equal_the_release_and_the_text(arguments, expected):
    assert count(**arguments) == expected


def test_residual_blocks_of_the_text_explain_table_7():
    """Table 7 counts the residual blocks alone: 738,560 parameters in each attention block."""
    block = RNAN(num_rab=1, num_rnab=0).body[0]
    res_blocks = [module for module in block.modules() if type(module).__name__ == "ResBlock"]
    assert sum(parameter.numel() for module in res_blocks for parameter in module.parameters()) == 738_560
    assert len(res_blocks) == 2 + 2 + 2 + 4


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 5), (7, 4), (8, 8)])
@pytest.mark.parametrize("upscale", [1, 2, 3, 4])
def test_any_size(released, size, upscale):
    net = tiny(**(RELEASED if released else {}), upscale=upscale)
    out = net(torch.rand(2, 3, *size))
    assert out.shape == (2, 3, size[0] * upscale, size[1] * upscale)
    assert out.isfinite().all()


def test_odd_sizes_use_every_pixel():
    net = tiny()
    x = torch.rand(1, 3, 7, 5, requires_grad=True)
    net(x).sum().backward()
    assert (x.grad != 0).all()


def test_global_residual_is_in_pixel_space():
    net = tiny()
    torch.nn.init.zeros_(net.tail[-1].weight)
    torch.nn.init.zeros_(net.tail[-1].bias)
    x = torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(net(x), x)


def test_super_resolution_has_no_pixel_skip_but_the_mean():
    net = tiny(upscale=2, img_mean=DIV2K_MEAN)
    torch.nn.init.zeros_(net.tail[-1].weight)
    torch.nn.init.zeros_(net.tail[-1].bias)
    out = net(torch.rand(1, 3, 4, 4))
    torch.testing.assert_close(out, torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1).expand_as(out))


@pytest.mark.parametrize("attention_residual", ["input", "identity"])
def test_attention_residual_is_eq_8_or_eq_7(attention_residual):
    block = tiny(num_rnab=0, attention_residual=attention_residual).body[0]
    x = torch.rand(1, 8, 6, 6)
    x_in = block.head(x)
    trunk, mask = block.trunk(x_in), block.mask(x_in)
    expected = trunk * mask + x_in if attention_residual == "input" else trunk * (mask + 1)
    torch.testing.assert_close(block(x), block.tail(expected))
    assert ((mask > 0) & (mask < 1)).all()


def test_mask_branch_order_and_skip():
    torch.manual_seed(0)
    for skip in (False, True):
        mask = MaskBranch(8, 1, None, upscale_kernel=6, skip=skip)
        x = torch.rand(1, 8, 6, 6)
        feat = mask.head(x)
        up = mask.up(mask.bottleneck(mask.down(feat)))
        torch.testing.assert_close(mask(x), torch.sigmoid(mask.conv(mask.tail(up + feat if skip else up))))


@pytest.mark.parametrize("weights", [torch.float16, torch.float32], ids=["weights too", "autocast"])
def test_mask_beyond_float16_is_not_lost(weights):
    """Its features pass 65504, where float16 ends; the attention and its gradient are float32's."""
    torch.manual_seed(0)
    branch = MaskBranch(4, 1, None, upscale_kernel=3, skip=False)
    with torch.no_grad():
        branch.down.weight.mul_(2e5)
        branch.conv.weight.mul_(1e-5)
        for parameter in branch.parameters():
            parameter.copy_(parameter.half())
    x = torch.rand(1, 4, 6, 5).half()
    expected = branch(x.float())
    assert expected.std() > 0.01
    assert branch.down(x.float()).abs().max() > 65504
    narrow = copy.deepcopy(branch).to(weights)
    with torch.autocast("cpu", torch.float16, enabled=weights == torch.float32):
        found = narrow(x)
    assert found.dtype == torch.float16
    assert torch.allclose(found.float(), expected, atol=1e-3)
    (grad,) = torch.autograd.grad(found.float().sum(), narrow.head[0].conv1.bias)
    (expected_grad,) = torch.autograd.grad(expected.sum(), branch.head[0].conv1.bias)
    assert torch.allclose(grad.float(), expected_grad, rtol=0.01, atol=1e-3)
    assert {parameter.dtype for parameter in narrow.parameters()} == {weights}


@pytest.mark.parametrize(
    ("num_block", "num_rnab", "positions"), [(10, 2, {0, 9}), (2, 1, {0}), (6, 1, {0}), (5, 3, {0, 2, 4})]
)
def test_non_local_blocks_are_at_low_and_high_level(num_block, num_rnab, positions):
    assert non_local_positions(num_block, num_rnab) == positions


# Table 1: mask branch, non-local block, RABs, RNABs.
CASES = {
    1: {"mask_branch": False, "non_local": False, "num_rab": 7, "num_rnab": 0},
    2: {"non_local": False, "num_rab": 7, "num_rnab": 0},
    3: {"mask_branch": False, "num_rab": 5, "num_rnab": 2},
    4: {"num_rab": 5, "num_rnab": 2},
    5: {"num_rab": 1, "num_rnab": 1},
    6: {"num_rab": 2, "num_rnab": 2},
    7: {"num_rab": 5, "num_rnab": 1},
    8: {"num_rab": 8, "num_rnab": 2},
}


@pytest.mark.parametrize("case", CASES)
def test_ablations_of_table_1(case):
    arguments = CASES[case]
    net = RNAN(num_feat=8, **arguments)
    blocks = [module for module in net.modules() if isinstance(module, AttentionBlock)]
    non_local = [module for module in net.modules() if type(module).__name__ == "NonLocalBlock"]
    masks = [module for module in net.modules() if isinstance(module, MaskBranch)]
    assert len(blocks) == arguments["num_rab"] + arguments["num_rnab"]
    assert len(masks) == (len(blocks) if arguments.get("mask_branch", True) else 0)
    assert len(non_local) == arguments["num_rnab"]
    net(torch.rand(1, 3, 6, 6)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize(
    "arguments",
    [
        {"upscale": 5},
        {"num_out_ch": 1},
        {"upscale_kernel": 1},
        {"attention_residual": "x"},
        {"softmax_over": "rows"},
        {"img_mean": [0.5]},
        {"num_rab": -1},
        {"num_rab": 0, "num_rnab": 0},
    ],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RNAN(**{"num_feat": 8, **arguments})
