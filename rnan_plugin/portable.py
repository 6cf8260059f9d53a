"""safetensors files that say what their network is: as metadata, and as a tensor for readers that drop metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnan_plugin.errors import UserError

ENDING = ".safetensors"
METADATA = "network_g"
BUFFER = "network_g_json"  # a tensor of bytes beside the weights; no network has it as its own
_LONGEST = 2**16  # bytes of a description
_DTYPES = {torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8}


def describing(network: Mapping[str, Any]) -> Tensor:
    """A network's section as a tensor, (N,) of bytes: it outlasts `.half()` and tools that keep tensors alone."""
    return torch.frombuffer(bytearray(_text(network).encode("ascii")), dtype=torch.uint8)


def described(buffer: Tensor, where: str | Path) -> dict[str, Any]:
    """The section that `describing` put into a tensor.

    Raises:
        UserError: It is no such tensor.
    """
    if buffer.dtype != torch.uint8 or buffer.ndim != 1 or buffer.numel() > _LONGEST:
        raise UserError(f"{where}: {BUFFER} is not the description of a network; export the file again")
    return _section(bytes(buffer.tolist()), where)


def packed(weights: Mapping[str, Tensor], network: Mapping[str, Any]) -> bytes:
    """The content of a safetensors file.

    Args:
        weights: Of any memory format and device.
        network: The whole `network_g` section.

    Raises:
        UserError: The package safetensors is not installed.
    """
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    if network["type"] == "RNAN":  # the loaders of others know their own networks, and no tensor more
        tensors[BUFFER] = describing(network)
    return _library().torch.save(tensors, {METADATA: _text(network), "format": "pt"})


def read_packed(path: Path) -> dict[str, Any]:
    """What a safetensors file holds, as a checkpoint: `{"params": …, "network_g": …}`.

    A file of others, which does not say its network, is a flat state dict.

    Raises:
        UserError: Damaged, of types that no network of ours has, with two descriptions that differ, or the package
            safetensors is not installed.
    """
    library = _library()
    try:
        with library.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
    except Exception:  # whatever a damaged file makes the reader raise
        raise UserError(f"{path}: damaged, or not a safetensors file; take another") from None
    wrong = next((name for name, value in weights.items() if value.dtype not in _DTYPES), None)
    if wrong is not None:
        raise UserError(f"{path}: {wrong} is of {weights[wrong].dtype}, which no network has here; take another")
    found = [_section(metadata[METADATA].encode(), path)] if METADATA in metadata else []
    if BUFFER in weights:
        found.append(described(weights.pop(BUFFER), path))
    if len(found) == 2 and found[0] != found[1]:
        raise UserError(f"{path}: its metadata and {BUFFER} describe two networks; export it again")
    return {"params": weights, "network_g": found[0]} if found else dict(weights)


def _text(network: Mapping[str, Any]) -> str:
    return json.dumps(dict(network), sort_keys=True)


def _section(text: bytes, where: str | Path) -> dict[str, Any]:
    try:
        section = json.loads(text) if len(text) <= _LONGEST else None
    except (ValueError, RecursionError):
        section = None
    if not isinstance(section, dict):
        raise UserError(f"{where}: its network_g is not the description of a network; export the file again")
    return section


def _library() -> Any:
    try:
        import safetensors.torch
    except ImportError:
        raise UserError("safetensors is not installed: pip install 'rnan-plugin[export]'") from None
    return safetensors
