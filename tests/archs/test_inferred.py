"""Arguments from names and shapes: the network that they build has the same layers, and the same output."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rnan_plugin.archs.inferred import arguments_of
from rnan_plugin.archs.rnan_arch import DIV2K_MEAN, RELEASED, RNAN
from rnan_plugin.inference.networks import load_network
from rnan_plugin.inference.shipped import shipped_networks

SMALL = {"num_feat": 4, "num_rab": 2, "num_rnab": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "text": {},
    "released": RELEASED,
    "grey": {"num_in_ch": 1, "num_out_ch": 1},
    "res blocks": {"num_head_res": 1, "num_tail_res": 3, "num_trunk_res": 4, "num_mask_res": 2},
    "local": {"non_local": False},
    "local, convolutions": {"non_local": False, "conv_after_block": True},
    "no masks": {"mask_branch": False},
    "no masks, local": {"mask_branch": False, "non_local": False},
    "one non-local": {"num_rnab": 1, "conv_after_block": True},
    "all non-local": {"num_rab": 0, "num_rnab": 3},
    "kernel": {"upscale_kernel": 4},
    **{f"x{scale}": {"upscale": scale, "img_mean": list(DIV2K_MEAN)} for scale in (2, 3, 4)},
    "x4, grey, released": {"upscale": 4, "num_in_ch": 1, "num_out_ch": 1, **RELEASED},
}


@pytest.mark.parametrize("arguments", NETWORKS.values(), ids=NETWORKS)
def test_found_arguments_build_the_network(arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net = RNAN(**(SMALL | arguments))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    found = RNAN(**arguments_of(net.state_dict()))
    found.load_state_dict(net.state_dict(), strict=True)
    image = torch.rand(1, net.head.in_channels, 9, 7)
    with torch.no_grad():
        assert torch.equal(found(image), net(image))


@pytest.mark.parametrize("network", shipped_networks(), ids=str)
def test_the_packages_networks_need_no_description(network) -> None:
    loaded = load_network(None, str(network.file))
    found = arguments_of(loaded.net.state_dict())
    assert {**loaded.network, **found} == dict(loaded.network)


def test_what_leaves_no_trace_is_not_found() -> None:
    """The reason why exported files say their arguments."""
    net = RNAN(**SMALL, attention_residual="identity", softmax_over="queries", mask_skip=True, img_range=255.0)
    assert not {"attention_residual", "softmax_over", "mask_skip", "img_range"} & arguments_of(net.state_dict()).keys()
