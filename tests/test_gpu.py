"""A network on a GPU, and the benchmark of one, whose program is tried without."""

from __future__ import annotations

import json
import sys
import weakref
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rnan_plugin.archs import two_passes
from rnan_plugin.archs.rnan_arch import RELEASED, RNAN
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.room import _LIVE_MAPS
from rnan_plugin.inference.whole_images import restore

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import gpu
from train import model_of

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("policy", "softmax_over"),
    [(Policy("auto"), "queries"), (Policy("tile", 32, 8), "queries"), (Policy("tile", 32, 8, window=12), "keys")],
    ids=str,
)
def test_a_network_restores_as_on_the_cpu(device: str, policy: Policy, softmax_over: str) -> None:
    torch.manual_seed(0)
    net = RNAN(**{**RELEASED, "num_rab": 1, "num_rnab": 1, "softmax_over": softmax_over}).eval()
    for block in net.modules():
        if hasattr(block, "w"):
            torch.nn.init.normal_(block.w.weight, std=0.05)
    lq = torch.rand(1, 3, 48, 40)
    expected, _ = restore(net, lq, Policy("whole") if policy.name == "auto" else policy)
    out, used = restore(net.to(device), lq.to(device), policy)
    assert used.name == ("whole" if policy.name == "auto" and device == "cuda" else "tile")
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-3, atol=2e-3)  # cuDNN takes TF32


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("way", ["plain", "bfloat16"])
def test_a_step_trains(device: str, way: str) -> None:
    model = model_of("1+1", way, device)
    model.feed_data({name: torch.rand(2, 3, 16, 16) for name in ("lq", "gt")})
    before = [tensor.clone() for tensor in model.net_g.parameters()]
    model.optimize_parameters(1)
    assert all(tensor.isfinite().all() for tensor in model.net_g.parameters())
    assert any(not torch.equal(*pair) for pair in zip(before, model.net_g.parameters(), strict=True))


class LiveMemory(TorchDispatchMode):
    """Most bytes of results that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in torch.utils._pytree.tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and (storage := leaf.untyped_storage())._cdata not in self.alive:
                self.alive[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, storage._cdata)
        self.most = max(self.most, sum(self.alive.values()))
        return out


@pytest.mark.parametrize(
    ("dtype", "scatter"), [(torch.float32, two_passes.by_bias), (torch.bfloat16, two_passes.by_channels)]
)
def test_auto_counts_what_a_pass_holds_on_a_gpu(
    dtype: torch.dtype, scatter: two_passes.Scatter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the shapes of the kernels of CUDA, without one."""
    monkeypatch.setattr(two_passes, "scatter_for", lambda _: scatter)
    net = RNAN(**{**RELEASED, "num_rab": 1, "num_rnab": 2}).to("meta", dtype).eval()
    with torch.no_grad(), LiveMemory() as memory:
        net(torch.empty(1, 3, 128, 128, device="meta", dtype=dtype))
    maps = memory.most / (128**2 * 64 * dtype.itemsize)
    assert _LIVE_MAPS / 2 < maps <= _LIVE_MAPS


@pytest.fixture
def tests_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one test for a GPU, and one that is none."""
    root = tmp_path / "repository"
    (root / "tests").mkdir(parents=True)
    (root / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: x\naddopts = -q -ra --strict-markers\n")
    text = "import pytest\n\n@pytest.mark.gpu\ndef test_gpu():\n    assert {}\n\ndef test_cpu():\n    assert False\n"
    (root / "tests/test_one.py").write_text(text.format("True"))
    (root / "tests/test_two.py").write_text("def test_other():\n    assert False\n")
    monkeypatch.setattr(gpu, "ROOT", root)
    return root


@pytest.mark.usefixtures("tests_of_its_own")
def test_the_benchmark_runs_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    all_pairs = gpu.all_pairs_attention

    def short_of_memory(query, key, value, over):
        if query.shape[1] > 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return all_pairs(query, key, value, over)

    monkeypatch.setitem(gpu.WAYS, "release", short_of_memory)
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path / "new/out"), "--device", "cpu", "--quick"])
    assert gpu.main() == 0
    assert "release  forward out of memory" in capsys.readouterr().out
    results = json.loads((tmp_path / "new/out.json").read_text())
    assert results["quick"]
    assert results["tests"]["summary"].startswith("1 passed, 1 deselected")
    assert len(results["attention"]) == 2 * 2 * 3 * 2  # sides, axes, types, ways
    lacking = [row for row in results["attention"] if "failed" in row["forward"]]
    assert {(row["way"], row["side"], row["step"]["failed"]) for row in lacking} == {("release", 16, "out of memory")}
    errors = [row["error"] for row in results["attention"] if row["way"] == "ours" and row["dtype"] == "float32"]
    assert max(errors) < 2e-6
    assert all(row["seconds"] > 0 for row in results["training"].values())
    assert all(rate > 0 for rate in results["data"].values())
    assert (tmp_path / "new/out.png").stat().st_size > 0


def test_a_test_that_fails_is_named(tests_of_its_own: Path) -> None:
    file = tests_of_its_own / "tests/test_one.py"
    file.write_text(file.read_text().replace("assert True", "assert False"))
    told = gpu.gpu_tests()
    assert not told["passed"]
    assert [line.split()[1] for line in told["failed"]] == ["tests/test_one.py::test_gpu"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("more", [[], ["--quick"], ["--device", "cpu"]])
def test_the_benchmark_says_what_it_needs(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path / "out"), *more])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "--quick" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
