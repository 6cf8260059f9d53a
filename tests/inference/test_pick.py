"""Restoring a folder without a word: each file by itself, and a record of what was done to it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import rnan_plugin
from rnan_plugin import device as devices
from rnan_plugin.__main__ import main
from rnan_plugin.inference.pick import PackagePick
from rnan_plugin.inference.restorer import RestoreSettings
from rnan_plugin.inference.shipped import FOLDER


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
    assert entries["q20.png"]["channels"] == "rgb"
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


def test_grey_files_are_restored_in_the_range_of_luma(tmp_path: Path) -> None:
    """A network for Y has never seen black below 16 or white above 235: there it invents errors."""
    coarse = np.random.default_rng(0).integers(0, 2, (8, 8, 1), dtype=np.uint8) * 255
    clean = cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(tmp_path / "a.jpg"), clean, [cv2.IMWRITE_JPEG_QUALITY, 80])
    named = ["--task", "car", "--level", "80"]  # by the network alone
    assert main(["restore", str(tmp_path / "a.jpg"), str(tmp_path / "out.png"), *named]) == 0
    grey = np.asarray(cv2.imread(str(tmp_path / "a.jpg"), cv2.IMREAD_GRAYSCALE), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "colour.png"), cv2.merge([grey * 257] * 3))  # of 16 bits, so that luma is not rounded
    weights = str(FOLDER / "car_5-95.pth")
    arguments = ["--weights", weights, "--channels", "y"]
    assert main(["restore", str(tmp_path / "colour.png"), str(tmp_path / "by_y.png"), *arguments]) == 0
    restored = np.asarray(cv2.imread(str(tmp_path / "out.png"))).astype(int)
    by_y = np.asarray(cv2.imread(str(tmp_path / "by_y.png"), cv2.IMREAD_UNCHANGED)) / 257
    assert np.abs(restored - by_y).max() <= 1  # as the same image in colour
    assert np.asarray(cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)).ndim == 2


def policies_of(out: Path) -> set[str]:
    return {json.loads(line)["policy"] for line in (out / "restore.jsonl").read_text().splitlines()}


def test_tiles_and_windows_are_those_asked_for_or_the_fastest(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    level = ["--task", "colordn", "--level", "50"]
    for folder, flags, expected in (
        ("auto", [], "tile 192, overlap 8, blended, attention in windows of 48"),
        ("named", ["--tile", "64", "--window", "24"], "tile 64, overlap 16, blended, attention in windows of 24"),
        ("tiles", ["--tile", "64"], "tile 64, overlap 16, blended"),
    ):
        assert main(["restore", str(tmp_path / "a.png"), str(tmp_path / folder), *level, *flags]) == 0
        assert policies_of(tmp_path / folder) == {expected}
    results = [np.asarray(cv2.imread(str(tmp_path / folder / "a.png"))) for folder in ("auto", "named", "tiles")]
    assert (results[1] != results[2]).any()
    by_python = rnan_plugin.restore(image[..., ::-1], "colordn", 50, tile=64, window=24)
    assert (by_python[..., ::-1] == results[1]).all()


@pytest.mark.parametrize(("device", "name"), [("cpu", "auto"), ("cuda", "tile")])
def test_other_devices_take_the_tiles_that_a_cpu_is_fastest_with(
    device: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "choose", lambda *_: torch.device(device))
    assert PackagePick(RestoreSettings())._settings.policy.name == name
    assert PackagePick(RestoreSettings(), is_policy_named=True)._settings.policy.name == "auto"
