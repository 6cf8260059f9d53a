"""ONNX files: onnxruntime's output is PyTorch's for every task and at sizes of which export tried none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import REPOSITORY, TINY
from package_networks import network_for

from rnan_plugin.__main__ import main
from rnan_plugin.archs import plain
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.errors import UserError
from rnan_plugin.export.onnx_graph import SIZES, onnx_graph
from rnan_plugin.inference.networks import load_network
from rnan_plugin.paper.tasks import TaskAtLevel

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
TASKS = [("car", 10), ("colordn", 50), ("demosaic", None), ("graydn", 50), ("sr", 2)]
GOLD = REPOSITORY / "tests/gold/SRx3.pt"  # normalises over the queries
OTHER_SIZES = [(3, 1), (21, 40), (50, 37)]


def session(file: Path):
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def agrees(file: Path, net: torch.nn.Module, levels: float) -> None:
    dtype = np.float16 if session(file).get_inputs()[0].type == "tensor(float16)" else np.float32
    for height, width in OTHER_SIZES:
        image = np.random.default_rng(height).random((1, net.head.in_channels, height, width)).astype(dtype)
        (found,) = session(file).run(["output"], {"input": image})
        with torch.inference_mode():
            ours = net(torch.from_numpy(image).float()).numpy()
        assert found.shape == ours.shape
        assert np.abs(found.astype(np.float32) - ours).max() * 255 < levels


@pytest.mark.parametrize(("task", "level"), TASKS)
def test_every_task(task: str, level: float | None, tmp_path: Path) -> None:
    flags = [] if level is None else ["--level", str(level)]
    assert main(["export", "--task", task, *flags, "--to", "onnx", str(tmp_path / "a.onnx")]) == 0
    agrees(tmp_path / "a.onnx", network_for(TaskAtLevel(task, level)), 0.01)
    model = onnx.load(tmp_path / "a.onnx")
    assert {item.domain for item in model.opset_import} <= {"", "ai.onnx"}
    assert "Attention" not in {node.op_type for node in model.graph.node}
    told = {item.key: item.value for item in model.metadata_props}
    assert json.loads(told["network_g"]) == load_network(None, None, TaskAtLevel(task, level)).network
    assert str(REPOSITORY).encode() not in (tmp_path / "a.onnx").read_bytes()


@pytest.mark.parametrize(("flags", "levels"), [([], 0.01), (["--half"], 1.0)], ids=["float32", "float16"])
def test_onnxruntimes_own_attention(flags: list[str], levels: float, tmp_path: Path) -> None:
    out = tmp_path / "a.onnx"
    command = ["export", "--task", "car", "--level", "10", "--to", "onnx", "--runtime", "onnxruntime", *flags]
    assert main([*command, str(out)]) == 0
    agrees(out, network_for(TaskAtLevel("car", 10)), levels)
    kinds = [node.op_type for node in onnx.load(out).graph.node]
    assert kinds.count("MultiHeadAttention") == 1
    assert not {"Attention", "Softmax"} & set(kinds)


def test_half_precision_is_half_the_file(tmp_path: Path) -> None:
    """Of the network whose mask branches reach 1e9, far beyond float16."""
    command = ["export", "--task", "sr", "--level", "2", "--to", "onnx", "--half"]
    assert main([*command, str(tmp_path / "a.onnx")]) == 0
    agrees(tmp_path / "a.onnx", network_for(TaskAtLevel("sr", 2)), 0.5)
    whole = sum(4 * weight.numel() for weight in network_for(TaskAtLevel("sr", 2)).parameters())
    assert (tmp_path / "a.onnx").stat().st_size < 0.6 * whole


def test_a_released_network_has_the_standard_form_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(REPOSITORY / "tests/gold/CAR.pt")
    command = ["export", "--weights", weights, "--to", "onnx", str(tmp_path / "a.onnx")]
    assert main([*command, "--runtime", "onnxruntime"]) == 2
    assert "no attention normalised over the keys" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(command) == 0
    agrees(tmp_path / "a.onnx", load_network(None, weights).net, 0.1)


def test_a_graph_that_differs_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attention of the graph, scaled as most others are, is what nobody would see in a picture."""
    from rnan_plugin.archs import non_local

    def scaled(query, key, value, _):
        heads = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        return torch.nn.functional.scaled_dot_product_attention(*heads).squeeze(1)

    arguments = {key: value for key, value in TINY.items() if key != "type"}
    torch.manual_seed(0)
    net = RNAN(**arguments).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    monkeypatch.setattr(non_local, "exported_attention", scaled)
    with pytest.raises(UserError, match=r"onnx: at 2x3 its output differs from PyTorch's by [\d.e+]+ levels"):
        onnx_graph(net, TINY, "any", half=False)


def exported(net: torch.nn.Module) -> torch.nn.Module:
    """The module of torch's own graph, without guards: they note that the example was even, and nothing needs it."""
    dynamic = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    example = torch.rand(1, net.head.in_channels, 24, 20)
    return torch.export.export(net, (example,), dynamic_shapes=(dynamic,)).module(check_guards=False)


def like(module: torch.nn.Module, net: torch.nn.Module, sizes: tuple[tuple[int, int], ...]) -> None:
    for size in sizes:
        image = torch.rand(1, net.head.in_channels, *size)
        with torch.no_grad():
            assert torch.allclose(module(image), net(image), atol=1e-4)


EXPORTED_SIZES = ((3, 3), *SIZES[2:])  # torch itself excludes 1 and 2 from what is dynamic


@pytest.mark.parametrize(("task", "level"), TASKS)
def test_torchs_own_graph(task: str, level: float | None) -> None:
    net = network_for(TaskAtLevel(task, level))
    like(exported(net), net, EXPORTED_SIZES)


def test_torchs_own_graph_over_queries() -> None:
    net = load_network(None, str(GOLD)).net
    like(exported(net), net, EXPORTED_SIZES)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscripts_state_is_as_the_guide_says(tmp_path: Path) -> None:
    net = network_for(TaskAtLevel("sr", 2))
    image = torch.rand(1, 3, 12, 10)
    with pytest.raises(ValueError, match="Unknown type annotation"):
        torch.jit.script(net)
    with torch.no_grad(), plain():
        traced = torch.jit.trace(net, image, check_trace=False)
        over_queries = torch.jit.trace(load_network(None, str(GOLD)).net, image, check_trace=False)
    traced.save(tmp_path / "a.pt")
    like(torch.jit.load(tmp_path / "a.pt"), net, ((12, 10), (33, 48), (70, 61)))
    with pytest.raises(RuntimeError, match="Could not export Python function"):
        over_queries.save(tmp_path / "b.pt")


def test_other_forms_take_no_flags_of_onnx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", "--task", "car", "--level", "10", "--to", "pth", str(tmp_path / "a.pth")]
    assert main([*command, "--half"]) == 2
    assert "are for --to onnx" in capsys.readouterr().err


def test_the_guides_ten_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They restore a picture by tiles; the same tiles by PyTorch give the same picture."""
    guide = (REPOSITORY / "docs/guides/export.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "onnxruntime" in block]
    monkeypatch.chdir(tmp_path)
    command = ["export", "--task", "colordn", "--level", "50", "--to", "onnx", "colordn_50.onnx"]
    assert main(command) == 0
    photo = np.random.default_rng(0).integers(0, 256, (83, 70, 3), dtype=np.uint8)
    cv2.imwrite("photo.png", photo)
    exec(compile(code, "export.md", "exec"), {})
    net, expected = network_for(TaskAtLevel("colordn", 50)), np.empty(photo.shape, np.float32)
    image = torch.from_numpy(photo[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    for y in (0, 64):
        for x in (0, 64):
            top, left = max(y - 8, 0), max(x - 8, 0)
            with torch.inference_mode():
                tile = net(image[..., top : y + 72, left : x + 72])[0].permute(1, 2, 0).numpy()
            expected[y : y + 64, x : x + 64] = tile[y - top :, x - left :][:64, :64]
    restored = cv2.imread("restored.png")[..., ::-1].astype(int)
    assert np.abs(restored - (expected.clip(0, 1) * 255).round()).max() <= 1
