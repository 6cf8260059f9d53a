"""Attention over the queries as GPUs compute it: its steps with the CPU's kernel, its shapes on the meta device."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rnan_plugin.archs import attention, onednn_attention, plain, two_passes
from rnan_plugin.archs.attention import _cpu_attend, fused_backward, non_local_attention

NARROW = {torch.bfloat16: 2**-7, torch.float16: 2**-9}


def direct(row: Tensor, col: Tensor, x: Tensor) -> Tensor:
    """Wᵀ x in float64 with the N×N matrix."""
    weights = torch.softmax(row.double() @ col.double().transpose(1, 2), dim=2)
    return weights.transpose(1, 2) @ x.double()


def inputs(positions: int, width: int, dtype: torch.dtype, scale: float = 0.5, device: str = "cpu") -> list[Tensor]:
    torch.manual_seed(0)
    return [(scale * torch.randn(2, positions, width)).to(device, dtype) for _ in range(3)]


def as_flash(query: Tensor, key: Tensor, value: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    """Torch's kernel for narrow types on CUDA: no bias, one width; logits and their sums in float32."""
    assert shift is None
    logits = query.float() @ key.float().transpose(2, 3)
    out = torch.softmax(logits, dim=3) @ value.float()
    return out.to(query.dtype), logits.logsumexp(3).squeeze(1)


class LargestMemory(TorchDispatchMode):
    """Most bytes behind any result: a view of N×N in the memory of N counts as N."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in torch.utils._pytree.tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.largest = max(self.largest, leaf.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("positions", [1, 7, 300])
@pytest.mark.parametrize("width", [5, 32])
def test_a_bias_gives_the_direct_formula(positions: int, width: int) -> None:
    args = inputs(positions, width, torch.float64, scale=2)
    torch.testing.assert_close(two_passes.by_bias(*args, _cpu_attend), direct(*args), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("scale", [0.5, 4, 20])
def test_channels_do_too(dtype: torch.dtype, scale: float) -> None:
    """Logits of some units, of hundreds and of thousands."""
    args = inputs(200, 8, dtype, scale)
    out, expected = two_passes.by_channels(*args, as_flash), direct(*args)
    assert out.dtype == dtype
    assert (out - expected).norm() / expected.norm() < NARROW[dtype]


def test_one_part_would_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_passes, "_PARTS", 1)
    args = inputs(200, 8, torch.bfloat16, 20)
    out, expected = two_passes.by_channels(*args, as_flash), direct(*args)
    assert (out - expected).norm() / expected.norm() > 0.1


def test_logits_beyond_float16_are_finite_in_it() -> None:
    args = [tensor.abs() for tensor in inputs(50, 8, torch.float16, 200)]
    assert (args[0].float() @ args[1].float().transpose(1, 2)).max() > torch.finfo(torch.float16).max
    out, expected = two_passes.by_channels(*args, as_flash), direct(*args)
    kept = expected.abs() < torch.finfo(torch.float16).max  # a sum over the queries can be larger
    assert out[kept].isfinite().all()


@pytest.mark.parametrize("positions", [1, 30, 1000])
@pytest.mark.parametrize("width", [4, 32])
@pytest.mark.parametrize(
    ("scatter", "dtype"),
    [
        (two_passes.by_bias, torch.float32),
        (two_passes.by_channels, torch.bfloat16),
        (two_passes.by_channels, torch.float16),
    ],
)
def test_kernels_of_cuda_take_these_shapes(
    scatter: two_passes.Scatter, dtype: torch.dtype, positions: int, width: int
) -> None:
    """Torch's own description of the operators, which pads the log-sum-exp as they do."""
    args = inputs(positions, width, dtype, device="meta")
    with LargestMemory() as memory:
        out = scatter(*args)
    assert (out.shape, out.dtype) == (args[2].shape, dtype)
    assert memory.largest <= 2 * max(positions, 32) * 40 * 4  # at most: 35 channels to 40, in float32


@pytest.mark.parametrize("keys", [1, 7, 1000])
def test_a_bias_is_aligned_and_not_copied_for_each_row(keys: int) -> None:
    shift = torch.randn(3, keys)
    bias = two_passes._as_bias(shift, 50)
    assert bias.shape == (3, 1, 50, keys)
    assert torch.equal(bias[:, 0, 17], shift)
    assert bias.stride(2) == 0
    assert bias.stride(0) * bias.element_size() % 16 == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_backward_is_the_gradient_of_public_attention(dtype: torch.dtype) -> None:
    row, col, x = inputs(150, 8, dtype)
    y = torch.randn_like(x)
    with LargestMemory() as memory:
        results = fused_backward(row, col, x, y)
    assert results is not None
    wide = [tensor.double().requires_grad_() for tensor in (row, col, y, x)]
    product = (wide[3] * (torch.softmax(wide[0] @ wide[1].transpose(1, 2), dim=2) @ wide[2])).sum()
    for result, expected in zip(results, torch.autograd.grad(product, wide), strict=True):
        tolerance = 1e-10 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(result.double(), expected, rtol=tolerance, atol=tolerance)
    assert memory.largest < 150**2 * row.element_size()


def test_one_place_says_which_kernel_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU of each kind would take, told by a tensor that says it is on one."""

    class OnCuda:
        device = torch.device("cuda")

        def __init__(self, dtype: torch.dtype) -> None:
            self.dtype = dtype

    def taken(dtype: torch.dtype, capability: tuple[int, int]) -> two_passes.Scatter | None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        return two_passes.scatter_for(OnCuda(dtype))

    assert taken(torch.float32, (7, 5)) is two_passes.by_bias
    assert taken(torch.bfloat16, (9, 0)) is taken(torch.float16, (8, 0)) is two_passes.by_channels
    assert taken(torch.float64, (9, 0)) is None
    monkeypatch.setattr(two_passes, "_efficient", _cpu_attend)
    args = inputs(40, 8, torch.float16)
    older = taken(torch.float16, (7, 5))
    assert older is not None
    out = older(*args)
    assert (out.dtype, torch.allclose(out.double(), direct(*args), rtol=2e-3, atol=1e-4)) == (torch.float16, True)
    with plain():
        assert taken(torch.float32, (9, 0)) is None
    assert two_passes.scatter_for(torch.empty(0)) is None


def test_what_a_kernel_refuses_goes_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = []

    def refuse(*_: Tensor) -> Tensor:
        refusals.append(1)
        raise RuntimeError("No available kernel")

    monkeypatch.setattr(onednn_attention, "_LINEAR", None)
    monkeypatch.setattr(attention, "_CPU_FORWARD", None)
    monkeypatch.setattr(two_passes, "scatter_for", lambda _: refuse)
    query, key, value = inputs(40, 8, torch.float32)
    torch.testing.assert_close(non_local_attention(query, key, value, "queries").double(), direct(key, query, value))
    assert refusals
    monkeypatch.setattr(two_passes, "scatter_for", lambda _: lambda *args: two_passes.by_bias(*args, out_of_memory))
    with pytest.raises(torch.OutOfMemoryError):
        non_local_attention(query, key, value, "queries")


def out_of_memory(*_: Tensor | None) -> tuple[Tensor, Tensor]:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.gpu
@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("positions", [1, 7, 1000, 4096])
@pytest.mark.parametrize(("width", "scale"), [(32, 0.5), (4, 0.5), (32, 4)])
def test_on_a_gpu(
    softmax_over: attention.SoftmaxOver, dtype: torch.dtype, positions: int, width: int, scale: float
) -> None:
    args = [tensor.requires_grad_() for tensor in inputs(positions, width, dtype, scale, "cuda")]
    query, key, value = (tensor.detach().double().requires_grad_() for tensor in args)
    dim = 2 if softmax_over == "keys" else 1
    expected = torch.softmax(query @ key.transpose(1, 2), dim) @ value
    out = non_local_attention(*args, softmax_over)
    weight = torch.randn_like(out)
    bound = {torch.float32: 1e-4, torch.bfloat16: 2**-6, torch.float16: 2**-8}[dtype]
    assert (out - expected).norm() / expected.norm() < bound
    grads = torch.autograd.grad((out * weight).sum(), args)
    expected_grads = torch.autograd.grad((expected * weight.double()).sum(), (query, key, value))
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        # The softmax of one position is constant: its gradients are rounding alone.
        assert (grad - expected_grad).norm() < 8 * bound * max(1, expected_grad.norm())


@pytest.mark.gpu
@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_on_a_gpu_is_linear(softmax_over: attention.SoftmaxOver, dtype: torch.dtype) -> None:
    args = [torch.randn(1, 2**14, 32, device="cuda", dtype=dtype).requires_grad_() for _ in range(3)]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    F.mse_loss(non_local_attention(*args, softmax_over), args[0]).backward()
    assert torch.cuda.max_memory_allocated() - before < 2**14 * 32 * 4 * 40


@pytest.mark.gpu
def test_a_kernel_serves_the_release_on_a_gpu() -> None:
    """Not the blocks: a version of torch that changed its private operators is noticed here."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        scatter = two_passes.scatter_for(torch.empty(0, device="cuda", dtype=dtype))
        assert scatter is not None
        scatter(*inputs(1000, 32, dtype, device="cuda"))
