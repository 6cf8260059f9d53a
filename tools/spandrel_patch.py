"""The patch that brings RNAN into spandrel itself, from the package's own sources: `docs/spandrel_rnan.patch`.

    python tools/spandrel_patch.py

It is made against spandrel 0.4.2; `git apply docs/spandrel_rnan.patch` in a checkout of spandrel.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATCH = ROOT / "docs/spandrel_rnan.patch"
FOLDER = "libs/spandrel/spandrel"
ARCHS = ROOT / "rnan_plugin/archs"
# What of the released names is needed to read a file of the authors.
_RELEASED = {
    "_RGB_RANGE",
    "_BLOCK_NAMES",
    "infer_arguments",
    "_count",
    "_mean_shift",
    "rename",
    "_new_name",
    "_block_name",
}

LAYERS = '''"""Layers of RNAN in plain PyTorch."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SoftmaxOver = Literal["keys", "queries"]
_BLOCK_VALUES = 2**24  # of the matrix of all pairs at a time


def conv_relu(conv: nn.Module, x: Tensor) -> Tensor:
    return F.relu(conv(x))


def conv_sigmoid(conv: nn.Module, x: Tensor) -> Tensor:
    return torch.sigmoid(conv(x))


def conv_add(conv: nn.Module, x: Tensor, residual: Tensor) -> Tensor:
    return conv(x) + residual


class NonLocalBlock(nn.Module):
    """z = W_z attention(x) + x in memory linear in the positions; normalised over keys (paper) or queries (release)."""

    def __init__(self, num_feat: int, softmax_over: SoftmaxOver = "keys") -> None:
        super().__init__()
        self.softmax_over = softmax_over
        num_embed = max(1, num_feat // 2)
        self.theta = nn.Conv2d(num_feat, num_embed, 1)
        self.phi = nn.Conv2d(num_feat, num_embed, 1)
        self.g = nn.Conv2d(num_feat, num_embed, 1)
        self.w = nn.Conv2d(num_embed, num_feat, 1)

    def forward(self, x: Tensor) -> Tensor:
        embeddings = self.theta(x), self.phi(x), self.g(x)
        query, key, value = (part.flatten(2).transpose(1, 2).float() for part in embeddings)
        over_keys = self.softmax_over == "keys"
        row, col = (query, key) if over_keys else (key, query)
        step = max(1, _BLOCK_VALUES // (col.shape[0] * col.shape[1]))
        out = torch.zeros_like(value)
        for start in range(0, row.shape[1], step):
            rows = slice(start, start + step)
            weight = torch.softmax(row[:, rows] @ col.transpose(1, 2), dim=-1)
            if over_keys:
                out[:, rows] = weight @ value
            else:
                out += weight.transpose(1, 2) @ value[:, rows]
        return self.w(out.transpose(1, 2).reshape(embeddings[0].shape).to(x.dtype)) + x
'''


def patch() -> str:
    """The whole patch; needs spandrel installed, whose registry it changes by two lines."""
    new = {
        "architectures/RNAN/__init__.py": _architecture(),
        "architectures/RNAN/__arch/rnan.py": _vendored(ARCHS / "rnan_arch.py"),
        "architectures/RNAN/__arch/layers.py": LAYERS,
        "architectures/RNAN/__arch/arguments.py": _vendored(ARCHS / "inferred.py"),
        "architectures/RNAN/__arch/released.py": _released(),
        "architectures/RNAN/__arch/LICENSE": (ROOT / "LICENSE").read_text(encoding="utf-8"),
    }
    return "".join([_registry(), *(_difference(name, "", text) for name, text in new.items())])


def _vendored(file: Path) -> str:
    """A module with its neighbours beside it."""
    text = file.read_text(encoding="utf-8")
    text = text.replace("rnan_plugin.archs.attention import", "rnan_plugin.archs.layers import")
    for name, near in (("layers", "layers"), ("fused", "layers"), ("non_local", "layers"), ("rnan_arch", "rnan")):
        text = text.replace(f"from rnan_plugin.archs.{name} import", f"from .{near} import")
    return text


def _released() -> str:
    source = (ARCHS / "official_weights.py").read_text(encoding="utf-8")
    parts = []
    for node in ast.parse(source).body:
        named = getattr(node, "name", None) or getattr(getattr(node, "targets", [None])[0], "id", None)
        if named in _RELEASED:
            parts.append(ast.get_source_segment(source, node) or "")
    head = '"""The names of the authors\' files."""\n\nfrom __future__ import annotations\n\nimport re\n'
    head += "from collections.abc import Mapping\nfrom typing import Any\n\nimport torch\nfrom torch import Tensor\n\n"
    head += "from .arguments import arguments_of\nfrom .rnan import RELEASED\n\n"
    return head + "\n\n\n".join(parts) + "\n"


def _architecture() -> str:
    """Our `rnan_plugin.spandrel` as one of spandrel's own architectures."""
    source = (ROOT / "rnan_plugin/spandrel.py").read_text(encoding="utf-8")
    body = source[source.index("_DESCRIBED =") :]
    install = body[body.index("def install()") : body.index("class RNANArch")]
    body = body.replace(install, "")
    body = body.replace('described(state[BUFFER], "this file")', "json.loads(bytes(state[BUFFER].tolist()))")
    body = body.replace("            UserError: The file's description of its network is damaged.\n", "")
    head = '"""RNAN: Residual Non-local Attention Networks for Image Restoration (ICLR 2019)."""\n\n'
    head += "from __future__ import annotations\n\nimport json\nfrom typing import Any\n\n"
    head += "from spandrel.util import KeyCondition\n\n"
    head += "from ...__helpers.model_descriptor import Architecture, ImageModelDescriptor, ModelTiling\n"
    head += "from .__arch.arguments import arguments_of\nfrom .__arch.released import infer_arguments, rename\n"
    head += 'from .__arch.rnan import RNAN\n\nBUFFER = "network_g_json"\n'
    return head + body + '\n\n__all__ = ["RNAN", "RNANArch"]\n'


def _registry() -> str:
    name = "__helpers/main_registry.py"
    spec = importlib.util.find_spec("spandrel")
    assert spec is not None
    assert spec.origin is not None
    old = (Path(spec.origin).parent / name).read_text(encoding="utf-8")
    new = old.replace("    RGT,\n", "    RGT,\n    RNAN,\n")
    line = "    ArchSupport.from_architecture(RCAN.RCANArch()),\n"
    return _difference(name, old, new.replace(line, line + line.replace("RCAN", "RNAN")))


def _difference(name: str, old: str, new: str) -> str:
    before = f"a/{FOLDER}/{name}" if old else "/dev/null"
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), before, f"b/{FOLDER}/{name}")
    head = f"diff --git a/{FOLDER}/{name} b/{FOLDER}/{name}\n" + ("" if old else "new file mode 100644\n")
    return head + "".join(lines)


if __name__ == "__main__":
    PATCH.write_text(patch(), encoding="utf-8")
