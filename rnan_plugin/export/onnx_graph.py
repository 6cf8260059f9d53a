"""RNAN as an ONNX graph: one image of any height and width in and out, compared with PyTorch before it is written."""

from __future__ import annotations

import copy
import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from rnan_plugin.choices import OnnxRuntime
from rnan_plugin.errors import UserError

SIZES = ((1, 1), (2, 3), (17, 5), (24, 32), (33, 48))  # heights and widths, odd and even, that each graph is tried at
# Of the output, in 0..1: a tenth of a level of 8 bits, or one.
_TOLERANCE = {torch.float32: 0.1 / 255, torch.float16: 1 / 255}
# Without an attention operator, for programs of every kind; with it, to be replaced.
_OPSETS: dict[OnnxRuntime, int] = {"any": 20, "onnxruntime": 23}
_AXIS = "rnan_heads_axis"


def onnx_graph(net: nn.Module, network: Mapping[str, Any], runtime: OnnxRuntime, *, half: bool) -> bytes:
    """Make the graph, and compare onnxruntime's output with PyTorch's at five sizes.

    Args:
        net: RNAN in eval mode, float32, on the CPU.
        network: Its whole `network_g` section, which goes into the graph's metadata.
        runtime: "any" takes standard operators, which hold all pairs of positions; "onnxruntime" its own attention
            operator, in memory linear in the pixels.
        half: Weights, input and output in float16; attention stays float32.

    Returns:
        The file's content: `input` (1, C, H, W) to `output` (1, C, H*upscale, W*upscale), both in [0, 1], not clipped.

    Raises:
        UserError: A package is missing, the network has no attention that could be replaced, or the graph's output is
            not PyTorch's.
    """
    onnx, onnxruntime = _library("onnx"), _library("onnxruntime")
    _library("onnxscript")
    channels = int(network["num_in_ch"])
    dtype = torch.float16 if half else torch.float32
    model = _made(net, torch.rand(1, channels, 24, 20, dtype=dtype), _OPSETS[runtime])
    if runtime == "onnxruntime":
        _replace_attention(model, onnx)
    _strip(model)
    onnx.helper.set_model_props(model, {"network_g": json.dumps(dict(network), sort_keys=True)})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    _verify(_session(content, onnxruntime), net, channels, dtype)
    return content


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{name} is not installed: pip install 'rnan-plugin[export]'") from None


def _made(net: nn.Module, example: torch.Tensor, opset: int) -> Any:
    """The graph as torch makes it of an example of its input, an `onnx.ModelProto`."""
    dynamic = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with _quiet(), torch.no_grad():
        program = torch.export.export(copy.deepcopy(net).to(example.dtype), (example,), dynamic_shapes=(dynamic,))
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=["input"],
            output_names=["output"],
            verbose=False,
        )
    assert made is not None
    return made.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says of its own making of graphs."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _replace_attention(model: Any, onnx: Any) -> None:
    """Put onnxruntime's own operator, which has no head axis, in the place of every standard attention."""
    nodes, replaced = [], 0
    for node in model.graph.node:
        if node.op_type != "Attention":
            nodes.append(node)
            continue
        make = onnx.helper.make_node
        flat = [f"{name}_{part}_{replaced}" for name, part in zip(node.input[:3], "qkv", strict=True)]
        nodes += [make("Squeeze", [name, _AXIS], [new]) for name, new in zip(node.input[:3], flat, strict=True)]
        out = f"{node.output[0]}_flat"
        nodes.append(make("MultiHeadAttention", flat, [out], domain="com.microsoft", num_heads=1, scale=1.0))
        nodes.append(make("Unsqueeze", [out, _AXIS], [node.output[0]]))
        replaced += 1
    if not replaced:
        raise UserError(
            "--runtime onnxruntime: this network has no attention normalised over the keys, which that operator "
            "computes; leave the flag out, and restore by tiles of 64 to 96"
        )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(onnx.numpy_helper.from_array(torch.tensor([1]).numpy(), _AXIS))
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))


def _strip(model: Any) -> None:
    """Without what torch noted of the program that made it, paths of its files among it."""
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")


def _session(content: bytes, onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _verify(session: Any, net: nn.Module, channels: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    for size in SIZES:
        image = torch.rand(1, channels, *size, generator=generator).to(dtype)
        (found,) = session.run(None, {"input": image.numpy()})
        with torch.inference_mode():
            ours = net(image.float())
        difference = (torch.from_numpy(found).float() - ours).abs().max().item()
        if not difference <= _TOLERANCE[dtype]:  # also where it is NaN
            narrow = " in half precision; leave --half out" if dtype == torch.float16 else ""
            told = f"onnx: at {size[0]}x{size[1]} its output differs from PyTorch's by {255 * difference:.2g} levels"
            raise UserError(told + narrow)
