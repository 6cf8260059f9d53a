"""Exact attention against the direct formula, its gradient, and the memory it may not take."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rnan_plugin.archs import attention, onednn_attention, plain
from rnan_plugin.archs.attention import non_local_attention
from rnan_plugin.archs.non_local import NonLocalBlock


def direct(query, key, value, softmax_over):
    """Eq. 3–5 with the N×N matrix."""
    logits = query @ key.transpose(1, 2)  # (B, i, j)
    return torch.softmax(logits, dim=2 if softmax_over == "keys" else 1) @ value


def embeddings(batch, positions, dim, dtype=torch.float64, scale=1.0):
    torch.manual_seed(0)
    return [(scale * torch.randn(batch, positions, dim, dtype=dtype)).requires_grad_() for _ in range(3)]


def no_kernel(*_args, **_kwargs):
    raise RuntimeError("No available kernel")


def set_matrix_tiles(monkeypatch, there):
    """Let the processor have matrix tiles, or none, whatever it has: the ways are right on all, if not as fast."""
    for module in (attention, onednn_attention):
        monkeypatch.setattr(module, "has_matrix_tiles", lambda: there)


@pytest.fixture(params=["fused", "tiles", "long", "kernel", "blocks"])
def path(request, monkeypatch):
    """All ways: oneDNN's products, with matrix tiles, for long rows, torch's kernel alone, blocks where none serves."""
    set_matrix_tiles(monkeypatch, request.param == "tiles")
    if request.param == "long":
        monkeypatch.setattr(onednn_attention, "_LONGEST", 0)
        monkeypatch.setattr(onednn_attention, "_COLUMNS", 30)
    elif request.param in {"kernel", "blocks"}:
        monkeypatch.setattr(onednn_attention, "_LINEAR", None)
    if request.param == "kernel":
        monkeypatch.setattr(attention, "_NARROW", {torch.float16})  # so that a kernel sees one narrow type
    if request.param == "blocks":
        monkeypatch.setattr(attention, "_CPU_FORWARD", None)
        monkeypatch.setattr(attention.F, "scaled_dot_product_attention", no_kernel)
        monkeypatch.setattr(attention, "_NARROW", set())  # as elsewhere than on a CPU
    monkeypatch.setitem(attention._BLOCK_VALUES, "cpu", 4000)  # several blocks also for small sizes
    monkeypatch.setattr(onednn_attention, "_BLOCK_VALUES", 4000)
    monkeypatch.setattr(onednn_attention, "_BACKWARD_ROWS", 30)
    return request.param


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
@pytest.mark.parametrize("positions", [1, 7, 300])
@pytest.mark.usefixtures("path")
def test_equals_the_direct_formula(softmax_over, positions):
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
@pytest.mark.usefixtures("path")
def test_gradcheck(softmax_over):
    assert torch.autograd.gradcheck(lambda *args: non_local_attention(*args, softmax_over), embeddings(2, 6, 3))


# Relative error of the whole result: a few units in the last place of the type that comes out.
BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 2**-7, torch.float16: 2**-9}


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("positions", [1, 400])
@pytest.mark.usefixtures("path")
def test_each_type_is_as_exact_as_it_can_be(softmax_over, positions, dtype):
    query, key, value = embeddings(2, positions, 32, dtype, scale=0.5)
    out = non_local_attention(query, key, value, softmax_over)
    with torch.inference_mode():
        inferred = non_local_attention(query, key, value, softmax_over)
    expected = direct(*(tensor.double() for tensor in (query, key, value)), softmax_over)
    for result in (out, inferred):
        assert result.dtype == dtype
        assert (result - expected).norm() / expected.norm() < BOUNDS[dtype]
    out.sum().backward()
    assert query.grad.dtype == dtype


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("sizes", [(400, 400), (1300, 70), (70, 1300)], ids=str)
@pytest.mark.parametrize("scale", [0.5, 2.0])  # of 2 the logits are not small: they reach hundreds
@pytest.mark.usefixtures("path")
def test_gradients_of_each_type_are_as_exact_as_they_can_be(softmax_over, dtype, sizes, scale):
    """Also of more queries than keys, and of more keys than queries, as in windows."""
    query, key, value = (embeddings(2, count, 32, dtype, scale)[0] for count in (sizes[0], sizes[1], sizes[1]))
    key, value = (tensor.detach().roll(turn, 2).requires_grad_() for turn, tensor in ((5, key), (9, value)))
    weight = torch.randn(2, sizes[0], 32, dtype=dtype)
    wide = [part.detach().double().requires_grad_() for part in (query, key, value)]
    results = []
    for function, inputs in ((non_local_attention, (query, key, value)), (direct, wide)):
        out = function(*inputs, softmax_over)
        results.append(torch.autograd.grad((out * weight.to(out.dtype)).sum(), inputs))
    for ours, exact in zip(*results, strict=True):
        assert ours.dtype == dtype
        assert (ours - exact).norm() / exact.norm() < BOUNDS[dtype] * (3 if scale < 1 else 100)


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("path")
def test_large_logits_stay_finite(softmax_over, dtype):
    query, key, value = embeddings(1, 64, 8, dtype, scale=20.0)
    assert (query.float() @ key.float().transpose(1, 2)).abs().max() > 500
    out = non_local_attention(query, key, value, softmax_over)
    out.float().sum().backward()
    expected = direct(*(tensor.double() for tensor in (query, key, value)), softmax_over)
    with torch.inference_mode():
        inferred = non_local_attention(query, key, value, softmax_over)
    for result in (out, inferred):
        assert (result - expected).norm() / expected.norm() < max(BOUNDS[dtype], 1e-4)
    assert all(tensor.grad.isfinite().all() for tensor in (query, key, value))


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
@pytest.mark.usefixtures("path")
def test_gradients_of_what_is_not_a_number_are_none(softmax_over):
    for place in range(3):
        inputs = embeddings(1, 100, 8, torch.float32)
        with torch.no_grad():
            inputs[place][0, 50, 3] = torch.nan
        results = [
            torch.autograd.grad(function(*inputs, softmax_over).sum(), inputs)
            for function in (non_local_attention, direct)
        ]
        for ours, expected in zip(*results, strict=True):
            assert torch.equal(ours.isnan(), expected.isnan())


def test_many_threads_train_by_the_fused_kernel(monkeypatch):
    """Which shares positions among them; see `onednn_attention.differentiates`."""
    set_matrix_tiles(monkeypatch, there=False)
    inputs, taken = embeddings(2, 70, 8, torch.float32), []

    def backward(*args, **_):
        taken.append(1)
        return args[:3]

    monkeypatch.setattr(onednn_attention, "backward", backward)
    for threads in (2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for softmax_over in ("keys", "queries"):
            non_local_attention(*inputs, softmax_over).sum().backward()
    assert len(taken) == 2


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_matrix_tiles_are_for_torchs_kernel(monkeypatch, dtype, gradient):
    """Where nothing is trained, in the layers' type but float16; without the lock that other threads wait for."""
    inputs, seen = [tensor.requires_grad_(gradient) for tensor in embeddings(2, 70, 8, dtype)], []
    attend = attention._cpu_attend

    def kernel(query, *args):
        seen.append(query.dtype)
        return attend(query, *args)

    monkeypatch.setattr(attention, "_cpu_attend", kernel)
    for there in (False, True):
        set_matrix_tiles(monkeypatch, there)
        non_local_attention(*inputs, "keys")
        computed_in = torch.float32 if dtype == torch.float16 else dtype
        assert seen == ([computed_in] if there and not gradient else [])
        with plain():
            non_local_attention(*inputs, "keys")
        assert len(seen) <= 1


def test_matrix_tiles_train_by_the_fused_kernel(monkeypatch):
    monkeypatch.setattr(onednn_attention, "backward", no_kernel)
    set_matrix_tiles(monkeypatch, there=True)
    for softmax_over in ("keys", "queries"):
        non_local_attention(*embeddings(2, 70, 8, torch.float32), softmax_over).sum().backward()


@pytest.mark.usefixtures("path")
def test_gradient_of_a_function():
    """By `torch.func.grad`, as by `backward`."""
    inputs = embeddings(1, 40, 8, torch.float32)
    found = torch.func.grad(lambda query: non_local_attention(query, *inputs[1:], "keys").square().sum())(inputs[0])
    (expected,) = torch.autograd.grad(direct(*inputs, "keys").square().sum(), inputs[:1])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.usefixtures("path")
def test_what_is_not_a_number_stays_so(softmax_over, gradient):
    """A network that has diverged must not look sound."""
    query, key, value = (tensor.detach() for tensor in embeddings(1, 100, 8, torch.float32))
    key[0, 50, 3] = torch.nan
    out = non_local_attention(query.requires_grad_(gradient), key, value, softmax_over)
    assert torch.equal(out.isnan(), direct(query, key, value, softmax_over).isnan())


def test_torch_has_a_kernel_for_training_over_keys(monkeypatch):
    monkeypatch.setattr(onednn_attention, "_LINEAR", None)
    monkeypatch.setattr(attention, "_OverKeys", None)  # what is taken where it has none
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.rand(1, 8, 6, 7, dtype=dtype).contiguous(memory_format=torch.channels_last)
        NonLocalBlock(8).to(dtype)(x).sum().backward()


def test_lack_of_memory_is_not_a_lack_of_kernels(monkeypatch):
    def out_of_memory(*_args, **_kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        non_local_attention(*embeddings(1, 20, 4), "keys")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler (g++) on the CPU")
@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
def test_compiled_for_any_size(softmax_over):
    block = NonLocalBlock(8, softmax_over)
    torch.nn.init.normal_(block.w.weight)
    compiled = torch.compile(block, dynamic=True)
    for shape in ((2, 8, 9, 11), (1, 8, 6, 7)):
        x = torch.rand(shape, requires_grad=True)
        results = []
        for run in (block, compiled):
            out = run(x)
            results.append((out, *torch.autograd.grad(out.square().sum(), x)))
        torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
@pytest.mark.parametrize("largest", [40, 80, 300])
@pytest.mark.usefixtures("path")
@torch.inference_mode()
def test_one_logit_may_be_far_larger_than_all_others(softmax_over, largest):
    query, key, value = (tensor.detach() for tensor in embeddings(1, 200, 8, torch.float32, scale=0.3))
    for tensor in (query, key):
        tensor[:, :, 0] = 1
        tensor[:, 77, 0] = largest
    out = non_local_attention(query, key, value, softmax_over)
    expected = direct(*(tensor.double() for tensor in (query, key, value)), softmax_over)
    assert (out - expected).norm() / expected.norm() < 1e-6 * largest


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
@pytest.mark.usefixtures("path")
def test_autocast_leaves_the_type_to_the_caller(softmax_over):
    query, key, value = embeddings(1, 20, 4, torch.float32)
    expected = non_local_attention(query, key, value, softmax_over)
    grads = torch.autograd.grad(expected.square().sum(), (query, key, value))
    with torch.autocast("cpu", torch.bfloat16):
        out = non_local_attention(query, key, value, softmax_over)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(torch.autograd.grad(out.square().sum(), (query, key, value)), grads)


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
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("path")
def test_no_matrix_of_all_pairs_is_made(softmax_over, memory_format, dtype):
    side, dim = 32, 64
    block = NonLocalBlock(dim, softmax_over).to(dtype)
    x = torch.rand(1, dim, side, side, dtype=dtype).contiguous(memory_format=memory_format).requires_grad_()
    with LargestTensor() as mode:
        block(x).sum().backward()
        with torch.no_grad():
            block(x)
    assert mode.largest <= dim * side**2  # the features themselves, or a block of 64 rows


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
def test_nor_on_a_device_that_has_no_fused_kernel(softmax_over, monkeypatch):
    """Any device but a few: torch would take the N×N way there without a word."""
    monkeypatch.setattr(attention, "_BLOCK_VALUES_ELSEWHERE", 2000)
    query, key, value = (torch.empty(1, 300, 4, device="meta", requires_grad=True) for _ in range(3))
    with LargestTensor() as mode:
        non_local_attention(query, key, value, softmax_over).sum().backward()
    assert mode.largest < 300**2 / 10


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
@pytest.mark.parametrize(("batch", "positions", "device"), [(1, 1500, "cpu"), (3, 2000, "cpu"), (2, 9000, "meta")])
def test_what_blocks_are_said_to_take_is_what_they_take(monkeypatch, softmax_over, batch, positions, device):
    """At most: the logits and their softmax are blocks of one size, on a CPU one of them; torch's kernel takes less."""
    set_matrix_tiles(monkeypatch, there=False)
    query, key, value = (torch.empty(batch, positions, 4, device=device).fill_(0.1) for _ in range(3))
    with torch.inference_mode(), LargestTensor() as mode:
        non_local_attention(query, key, value, softmax_over)
    said = attention.block_bytes(positions, device, batch)
    assert 4 * mode.largest <= said <= 3 * 4 * mode.largest


def test_threads_leave_torch_as_it_was(monkeypatch):
    """Replicas of a network attend in threads; the switch for kernels is one for the whole process."""
    inside, most = [], []

    def kernel(query, *_args, **_kwargs):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0)  # lets other threads in, if they may
        inside.pop()
        return query

    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", kernel)
    args = embeddings(1, 200, 8)  # of float64, which torch's kernel alone serves

    def attend(_):
        for _ in range(100):
            non_local_attention(*args, "keys")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(attend, range(4)))
    assert (len(most), max(most)) == (400, 1)
    assert torch.backends.cuda.math_sdp_enabled()


def test_the_checks_above_see_a_matrix_of_all_pairs():
    with LargestTensor() as mode:
        direct(*embeddings(1, 300, 4), "keys").sum().backward()
    assert mode.largest == 300**2


def test_block_starts_as_the_identity_and_learns():
    block = NonLocalBlock(8)
    x = torch.rand(2, 8, 5, 4)
    torch.testing.assert_close(block(x), x)
    (block(x) * torch.rand_like(x)).sum().backward()
    assert block.w.weight.grad.abs().max() > 0
