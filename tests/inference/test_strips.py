"""Images from 8 bits to 8 bits, strip by strip: the same as tensors of the whole image, in a fraction of the memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.device import PeakMemory
from rnan_plugin.errors import UserError
from rnan_plugin.images.tensors import to_image, to_tensor
from rnan_plugin.inference import whole_images as inference
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.tiling import STRIP_ROWS
from rnan_plugin.inference.whole_images import restore, restore_image

CPU = torch.device("cpu")


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def net_of(scale: int) -> RNAN:
    torch.manual_seed(0)
    return RNAN(3, 3, num_feat=4, num_rab=1, num_rnab=1, upscale=scale).eval()


def brighter(img: torch.Tensor) -> torch.Tensor:
    return img * 1.01


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("tile_batch", [1, 3])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("size", [(33, 70), (90, 41), (64, 20), (9, 8), (16, 101)])
def test_strips_are_what_the_whole_tensor_gives(
    size: tuple[int, int], scale: int, tile_batch: int, ensemble: bool
) -> None:
    img, net = noise(*size, 3), net_of(scale)
    policy = Policy("tile", 16, 5, tile_batch, ensemble)
    out, used = restore_image(net, img, policy, CPU)
    expected = to_image(restore(net, to_tensor(img)[None], policy)[0])
    assert used == policy
    assert out.shape == (size[0] * scale, size[1] * scale, 3)
    assert np.abs(out.astype(int) - expected).max() <= 1
    assert (out != expected).mean() < 1e-3  # rounding of sums in another order


@pytest.mark.parametrize("policy", [Policy("whole"), Policy("release"), Policy("auto")], ids=str)
def test_other_policies_too(policy: Policy) -> None:
    img, net = noise(40, 31, 3), net_of(2)
    expected = to_image(restore(net, to_tensor(img)[None], policy)[0])
    assert np.abs(restore_image(net, img, policy, CPU)[0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("ensemble", "turns"), [(False, 1), (True, 8)])
def test_passes_are_told(ensemble: bool, turns: int) -> None:
    told: list[tuple[int, int]] = []
    policy = Policy("tile", 16, 5, 2, ensemble)
    restore_image(net_of(1), noise(50, 40, 3), policy, CPU, lambda *numbers: told.append(numbers))
    assert told == [(done, len(told)) for done in range(1, len(told) + 1)]
    assert len(told) == turns * 10  # 5 × 4 tiles, two of them a pass


@pytest.mark.parametrize(
    ("ensemble", "turns"), [(False, 1), (True, 8)]
)  # 4 and 32 bytes a pixel and more without strips
def test_memory_is_the_result_and_a_few_rows_of_tiles(ensemble: bool, turns: int) -> None:
    side, tile = 4000, 64
    img = np.zeros((side, side, 3), np.uint8)
    policy = Policy("tile", tile, 8, self_ensemble=ensemble)
    restore_image(brighter, img[:100, :100], policy, CPU)
    with PeakMemory(CPU) as memory:
        restore_image(brighter, img, policy, CPU)
    if memory.bytes is None:
        pytest.skip("this system does not tell its peak")
    # For each turn: sums of three colours and of weights over a row of tiles; and of strips of three colours the one
    # that is done, the rest of those before it, both joined, and the one that is averaged.
    rows = turns * side * 4 * (4 * tile + 4 * 3 * STRIP_ROWS)
    assert memory.bytes < img.size + 2 * rows + 2**24  # twice, for what the allocator leaves between


def test_what_memory_certainly_cannot_hold_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def untouched(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    monkeypatch.setattr(inference, "available_bytes", lambda _: 10**6)
    for policy in (Policy("whole"), Policy("release"), Policy("tile", 64, 8), Policy("auto")):
        with pytest.raises(UserError, match=r"^600×600 pixels with policy .* GiB are free"):
            restore_image(untouched, noise(600, 600, 3), policy, CPU)
