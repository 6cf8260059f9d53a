"""Restoring a folder without a word: each file by itself, and a record of what was done to it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rnan_plugin.__main__ import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """JPEG files of two qualities, a noisy image and a clean one."""
    (tmp_path / "in").mkdir()
    coarse = np.random.default_rng(0).integers(40, 216, (5, 6, 3), dtype=np.uint8)
    clean = cv2.resize(coarse, (160, 128), interpolation=cv2.INTER_CUBIC)
    noise = 30 * np.random.default_rng(1).standard_normal(clean.shape)
    for quality in (20, 60):
        cv2.imwrite(str(tmp_path / f"in/q{quality}.jpg"), clean, [cv2.IMWRITE_JPEG_QUALITY, quality])
    cv2.imwrite(str(tmp_path / "in/noisy.png"), np.clip(clean + noise, 0, 255).astype(np.uint8))
    cv2.imwrite(str(tmp_path / "in/clean.png"), clean)
    return tmp_path


def test_each_file_is_recorded_with_its_own_level(folder: Path) -> None:
    assert main(["restore", str(folder / "in"), str(folder / "out")]) == 0
    lines = [json.loads(line) for line in (folder / "out/restore.jsonl").read_text().splitlines()]
    entries = {entry["image"]: entry for entry in lines}
    assert entries["q20.png"]["task"] == "car 20"
    assert entries["q60.png"]["task"] == "car 60"
    assert entries["q20.png"]["weights_sha256"] == entries["q60.png"]["weights_sha256"]
    assert entries["noisy.png"]["task"].startswith("colordn ")
    assert "left_as_it_is" in entries["clean.png"]
    assert (folder / "out/clean.png").read_bytes() == (folder / "in/clean.png").read_bytes()


def test_every_restored_file_is_closer_to_the_clean_one(folder: Path) -> None:
    main(["restore", str(folder / "in"), str(folder / "out")])
    clean = cv2.imread(str(folder / "in/clean.png"))
    assert clean is not None
    for before in ("q20.jpg", "q60.jpg", "noisy.png"):
        after = Path(before).with_suffix(".png")
        errors = [
            np.square(np.asarray(cv2.imread(str(folder / place)), float) - clean).mean()
            for place in (f"in/{before}", f"out/{after}")
        ]
        assert errors[1] < errors[0]
