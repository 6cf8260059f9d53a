"""The compiler stays out of what is marked, whether it is imported before or after."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
{before}
import torch
from rnan_plugin.archs.non_local import NonLocalBlock
was = "torch._dynamo" in sys.modules
block = NonLocalBlock(4)
torch.nn.init.normal_(block.w.weight)
x = torch.randn(1, 4, 5, 6)
graphs = []
def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward
with torch.no_grad():
    same = torch.equal(torch.compile(block, backend=backend)(x), block(x))
import torch._dynamo
names = [str(node.target) for graph in graphs for node in graph.graph.nodes]
print(was, same, len(graphs), any("attention" in name or "softmax" in name for name in names))
"""


@pytest.mark.parametrize(("before", "was"), [("", False), ("import torch._dynamo", True)])
def test_attention_is_called_as_it_is(before: str, was: bool) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODE.format(before=before)], check=False, capture_output=True, text=True
    )
    assert result.stdout == f"{was} True 2 False\n", result.stdout + result.stderr
