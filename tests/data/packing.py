"""What the tests of `rnan prepare` share: folders of noise images, the command, what an LMDB holds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from conftest import REPOSITORY

from rnan_plugin.__main__ import main

CODECS = ["png", "raw"]


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(folder: Path, names: list[str], side: int = 24, ending: str = ".png") -> dict[str, np.ndarray]:
    """Save noise images, and return them as RGB by name."""
    images = {name: noise((side, side + 3, 3), seed) for seed, name in enumerate(names)}
    for name, img in images.items():
        path = folder / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(ending, img[..., ::-1])[1].tobytes())
    return images


def content(root: Path) -> dict[bytes, bytes]:
    """All keys and values of an LMDB, and its index."""
    with lmdb.open(str(root), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {**dict(transaction.cursor()), b"meta": (root / "meta_info.txt").read_bytes()}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "rnan_plugin", *map(str, arguments)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_PROXY": "*"}


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line
