"""Attention within windows against dense attention in float64 from which all other pairs are cut."""

import threading

import pytest
import torch

from rnan_plugin.archs import attention, plain
from rnan_plugin.archs.attention import non_local_attention
from rnan_plugin.archs.non_local import NonLocalBlock
from rnan_plugin.archs.windows import attention_in_windows, attention_windows, window_side, windowed, windows

SIZES = [(1, 1), (5, 5), (6, 20), (23, 17), (48, 31)]


def maps_of(size, batch=2, channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, channels, *size, generator=generator, dtype=dtype) for _ in range(3)]


def pairs_of(size, side):
    """(H*W, H*W), whether the position of a row has that of a column in the window around its core."""
    seen = torch.zeros(*size, *size, dtype=torch.bool)
    for core, around in windows(size, side):
        seen[(*core, *around)] = True
    return seen.flatten(2).flatten(0, 1)


def dense(maps, side):
    query, key, value = (part.double().flatten(2).transpose(1, 2) for part in maps)
    logit = (query @ key.transpose(1, 2)).masked_fill(~pairs_of(maps[0].shape[2:], side), -torch.inf)
    return (logit.softmax(2) @ value).transpose(1, 2).reshape(maps[0].shape)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("side", [1, 2, 6, 16, 48])
@pytest.mark.parametrize("private", [True, False])
def test_only_pairs_of_the_windows_count(size, side, private):
    maps = maps_of(size)
    with torch.no_grad():
        if private:
            out = attention_in_windows(maps[0], maps[1], maps[2], side)
        else:
            with plain():
                out = attention_in_windows(maps[0], maps[1], maps[2], side)
    torch.testing.assert_close(out.double(), dense(maps, side), rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_dense_attention():
    maps = [part.requires_grad_() for part in maps_of((13, 9), dtype=torch.float64)]
    gradients = [
        torch.autograd.grad(out.square().sum(), maps)
        for out in (attention_in_windows(maps[0], maps[1], maps[2], 6), dense(maps, 6))
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("size", [*SIZES, (128, 118)], ids=str)
@pytest.mark.parametrize("side", [1, 2, 3, 16, 48, 64])
def test_each_position_is_in_one_core_and_sees_a_whole_window(size, side):
    seen = torch.zeros(size, dtype=torch.int)
    for core, around in windows(size, side):
        seen[core] += 1
        for inner, outer, length in zip(core, around, size, strict=True):
            assert 0 <= outer.start <= inner.start < inner.stop <= outer.stop <= length
            assert outer.stop - outer.start == min(side, length)
            # Around the core, as far as the map goes.
            margins = inner.start - outer.start, outer.stop - inner.stop
            assert abs(margins[0] - margins[1]) <= 1 or outer.start == 0 or outer.stop == length
    assert (seen == 1).all()


def test_a_map_no_larger_than_a_window_is_attended_as_a_whole():
    maps = maps_of((9, 12))
    query, key, value = (part.flatten(2).transpose(1, 2) for part in maps)
    whole = non_local_attention(query, key, value, "keys")
    assert torch.equal(attention_in_windows(maps[0], maps[1], maps[2], 12), whole.transpose(1, 2).reshape(2, 3, 9, 12))


def block(softmax_over="keys"):
    torch.manual_seed(0)
    made = NonLocalBlock(4, softmax_over)
    torch.nn.init.normal_(made.w.weight)
    return made.eval()


@torch.no_grad()
def test_blocks_attend_within_windows_where_they_are_asked_to():
    net, img = block(), torch.rand(1, 4, 20, 20)
    everywhere, within = net(img), windowed(net, 6)(img)
    assert not torch.allclose(everywhere, within, atol=1e-4)
    assert torch.equal(windowed(net, None)(img), everywhere)
    far = img.clone()
    far[..., 15:, 15:] = 0  # out of all windows that the first corner sees
    assert torch.equal(windowed(net, 6)(far)[..., :4, :4], within[..., :4, :4])
    assert torch.equal(net(img), everywhere)


@torch.no_grad()
def test_windows_leave_attention_over_the_queries_as_it_is():
    net, img = block("queries"), torch.rand(1, 4, 20, 20)
    assert torch.equal(windowed(net, 6)(img), net(img))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_types_are_rounded_once(monkeypatch, dtype):
    """But on matrix tiles, where weights are narrow too."""
    monkeypatch.setattr(attention, "has_matrix_tiles", lambda: False)
    maps = [part.to(dtype) for part in maps_of((23, 17))]
    out, exact = attention_in_windows(maps[0], maps[1], maps[2], 6), dense(maps, 6)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-4)


def test_windows_end_with_their_block_and_stay_in_their_thread():
    seen = []

    def look_and_fail():
        thread = threading.Thread(target=lambda: seen.append(window_side()))
        thread.start()
        thread.join()
        with attention_windows(None):
            seen.append(window_side())
        seen.append(window_side())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), attention_windows(6):
        look_and_fail()
    assert [*seen, window_side()] == [None, None, 6, None]
