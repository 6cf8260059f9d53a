"""Folders of small photographs through `restore` by a tiny network, and what lies there afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from rnan_plugin.__main__ import main
from rnan_plugin.archs.rnan_arch import RNAN


def tiny_weights(folder: Path) -> str:
    """Of a tiny network for colour, that says what it is."""
    torch.manual_seed(0)
    arguments = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_rab": 1, "num_rnab": 1}
    torch.save({"params": RNAN(**arguments).state_dict(), "network_g": arguments}, folder / "tiny.pth")
    return str(folder / "tiny.pth")


def photo(seed: int = 0, size: tuple[int, int] = (20, 24)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), photo(seed))
    return path


def run(*arguments: str | Path, status: int = 0) -> None:
    assert main(["restore", *map(str, arguments)]) == status


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "restore.jsonl").read_text("utf-8").splitlines()]
