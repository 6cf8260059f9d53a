"""Exact attention against the direct formula, its gradient, and the memory it may not take."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rnan_plugin.archs import non_local
from rnan_plugin.archs.non_local import NonLocalBlock, non_local_attention


def direct(query, key, value, softmax_over):
    """Eq. 3–5 with the N×N matrix."""
    logits = query @ key.transpose(1, 2)  # (B, i, j)
    return torch.softmax(logits, dim=2 if softmax_over == "keys" else 1) @ value


def embeddings(batch, positions, dim, dtype=torch.float64, scale=1.0):
    torch.manual_seed(0)
    return [(scale * torch.randn(batch, positions, dim, dtype=dtype)).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
@pytest.mark.parametrize("positions", [1, 7, 300])
def test_equals_the_direct_formula(softmax_over, positions, monkeypatch):
    monkeypatch.setattr(non_local, "_BLOCK_VALUES", 1000)  # several blocks also for small sizes
    query, key, value = embeddings(2, positions, 5)
    out = non_local_attention(query, key, value, softmax_over)
    expected = direct(query, key, value, softmax_over)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    weight = torch.randn_like(out)
    grads = torch.autograd.grad((out * weight).sum(), (query, key, value))
    expected_grads = torch.autograd.grad((expected * weight).sum(), (query, key, value))
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
def test_gradcheck(softmax_over, monkeypatch):
    monkeypatch.setattr(non_local, "_BLOCK_VALUES", 20)
    assert torch.autograd.gradcheck(lambda *args: non_local_attention(*args, softmax_over), embeddings(2, 6, 3))


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
def test_large_logits_stay_finite(softmax_over):
    query, key, value = embeddings(1, 64, 8, torch.float32, scale=20.0)
    assert (query @ key.transpose(1, 2)).abs().max() > 500
    out = non_local_attention(query, key, value, softmax_over)
    out.sum().backward()
    assert out.isfinite().all()
    assert all(tensor.grad.isfinite().all() for tensor in (query, key, value))


class LargestTensor(TorchDispatchMode):
    """Records the largest result of any operation below it, backward included."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_no_matrix_of_all_pairs_is_made(softmax_over, memory_format):
    block = NonLocalBlock(8, softmax_over)
    x = torch.rand(1, 8, 40, 40).contiguous(memory_format=memory_format).requires_grad_()
    with LargestTensor() as mode:
        block(x).sum().backward()
    positions = 40 * 40
    assert mode.largest < positions**2 / 8
    with LargestTensor() as mode:  # the check itself sees the matrix where there is one
        direct(*embeddings(1, positions, 4), softmax_over)
    assert mode.largest == positions**2


def test_block_starts_as_the_identity_and_learns():
    block = NonLocalBlock(8)
    x = torch.rand(2, 8, 5, 4)
    torch.testing.assert_close(block(x), x)
    (block(x) * torch.rand_like(x)).sum().backward()
    assert block.w.weight.grad.abs().max() > 0
