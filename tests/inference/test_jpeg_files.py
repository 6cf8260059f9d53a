"""JPEG files restored by themselves: what contradicts the file is not believed, unless the file tells too little."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage
from numpy.typing import NDArray
from PIL import Image

import rnan_plugin
from rnan_plugin.__main__ import main

Image8 = NDArray[np.uint8]


def saved(img: Image8, quality: int, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(img).save(file, "JPEG", quality=quality, **how)
    return file.getvalue()


def opened(code: bytes) -> Image8:
    return np.asarray(Image.open(io.BytesIO(code)))


def error(img: Image8, clean: Image8) -> float:
    return float(np.square(img.astype(float) - clean).mean())


@pytest.fixture(scope="module")
def photo() -> Image8:
    return np.asarray(skimage.data.astronaut()[0:128, 140:268])


@pytest.fixture(scope="module")
def letters() -> Image8:
    page = np.full((128, 160, 3), 255, np.uint8)
    for row in range(14, 128, 17):
        cv2.putText(page, "Quick brown foxes jump", (3, row), 0, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return page


def restored(code: bytes, folder: Path, *flags: str) -> Image8:
    (folder / "a.jpg").write_bytes(code)
    assert main(["restore", str(folder / "a.jpg"), str(folder / "a.png"), "--overwrite", *flags]) == 0
    return np.asarray(Image.open(folder / "a.png"))


@pytest.mark.parametrize(("quality", "grey"), [(75, False), (90, False), (90, True), (95, False)])
def test_letters_are_not_made_worse(
    quality: int, grey: bool, letters: Image8, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = letters[..., 0] if grey else letters
    code = saved(clean, quality)
    result = restored(code, tmp_path)
    told = capsys.readouterr().out
    by_network = restored(code, tmp_path, "--task", "car", "--level", str(quality))
    assert error(result, clean) < 1.02 * error(opened(code), clean)
    if quality > 75:
        assert error(by_network, clean) > 2 * error(opened(code), clean)
        assert "% of it left as it was, where" in told
        (entry,) = map(json.loads, (tmp_path / "restore.jsonl").read_text().splitlines())
        assert entry["image"] == "a.png"


@pytest.mark.parametrize("quality", [10, 60, 90])
def test_a_photograph_is_restored_all_the_same(
    quality: int, photo: Image8, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = saved(photo, quality)
    result = restored(code, tmp_path)
    assert "as it was" not in capsys.readouterr().out
    assert error(result, photo) < 0.9 * error(opened(code), photo)
    (tmp_path / "a.jpg").write_bytes(code)
    assert (rnan_plugin.restore(tmp_path / "a.jpg") == result).all()
    assert (np.asarray(rnan_plugin.restore(Image.open(io.BytesIO(code)))) == result).all()


def test_a_file_that_was_saved_again_is_restored_as_the_network_would(photo: Image8, tmp_path: Path) -> None:
    code = saved(opened(saved(photo, 20)), 90)
    result = restored(code, tmp_path)
    assert error(result, photo) < 0.9 * error(opened(code), photo)
    assert (result == restored(code, tmp_path, "--task", "car", "--level", "90")).all()


def test_a_level_that_is_named_is_obeyed(letters: Image8, tmp_path: Path) -> None:
    """The file may have been enlarged or edited since, and its own steps say nothing."""
    code = saved(letters, 90)
    named, found = restored(code, tmp_path, "--task", "car", "--level", "20"), restored(code, tmp_path)
    assert (named != found).any()
    assert error(named, opened(code)) > 10 * error(found, opened(code))
    assert (restored(code, tmp_path, "--task", "car") == found).all()


def test_files_without_luma_are_restored_by_the_network_alone(letters: Image8, tmp_path: Path) -> None:
    code = saved(letters, 90, keep_rgb=True)
    assert (restored(code, tmp_path) == restored(code, tmp_path, "--task", "car", "--level", "90")).all()
