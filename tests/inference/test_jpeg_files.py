"""JPEG files restored by themselves: what contradicts the file is not believed, unless the file tells too little."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import skimage
from jpeg_images import Image8, letters, saved
from PIL import Image

import rnan_plugin
from rnan_plugin.__main__ import main


def opened(code: bytes) -> Image8:
    return np.asarray(Image.open(io.BytesIO(code)))


def error(img: Image8, clean: Image8) -> float:
    return float(np.square(img.astype(float) - clean).mean())


@pytest.fixture(scope="module")
def photo() -> Image8:
    return np.asarray(skimage.data.astronaut()[0:128, 140:268])


@pytest.fixture(scope="module")
def page() -> Image8:
    return letters((128, 160), 0.4, 17, "Quick brown foxes jump", (3, 14)).repeat(3, axis=2)


def restored(code: bytes, folder: Path, *flags: str) -> Image8:
    (folder / "a.jpg").write_bytes(code)
    assert main(["restore", str(folder / "a.jpg"), str(folder / "a.png"), "--overwrite", *flags]) == 0
    return np.asarray(Image.open(folder / "a.png"))


@pytest.mark.parametrize(("quality", "grey"), [(75, False), (90, False), (90, True), (95, False)])
def test_letters_are_not_made_worse(
    quality: int, grey: bool, page: Image8, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = page[..., 0] if grey else page
    code = saved(clean, quality)
    result = restored(code, tmp_path)
    told = capsys.readouterr().out
    (entry,) = map(json.loads, (tmp_path / "restore.jsonl").read_text().splitlines())
    by_network = restored(code, tmp_path, "--task", "car", "--level", str(quality))
    assert error(result, clean) < 1.02 * error(opened(code), clean)
    if quality > 75:
        assert error(by_network, clean) > 2 * error(opened(code), clean)
        assert "% of it left as it was, where" in told
        assert entry["left_as_it_was"] > 0.5


@pytest.mark.parametrize("quality", [10, 60, 90])
def test_a_photograph_is_restored_all_the_same(
    quality: int, photo: Image8, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = saved(photo, quality)
    result = restored(code, tmp_path)
    assert "as it was" not in capsys.readouterr().out
    assert error(result, photo) < 0.9 * error(opened(code), photo)
    (entry,) = map(json.loads, (tmp_path / "restore.jsonl").read_text().splitlines())
    assert entry["left_as_it_was"] < 0.01
    (tmp_path / "a.jpg").write_bytes(code)
    assert (rnan_plugin.restore(tmp_path / "a.jpg") == result).all()
    assert (np.asarray(rnan_plugin.restore(Image.open(io.BytesIO(code)))) == result).all()


def saved_as_png(img: Image8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(img).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("again", ["PNG", "JPEG"])
def test_a_file_that_was_saved_again_is_restored(
    again: str, grey: bool, photo: Image8, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = photo[..., 1] if grey else photo
    decoded = opened(saved(clean, 20))
    code = saved_as_png(decoded) if again == "PNG" else saved(decoded, 97)
    result = restored(code, tmp_path)
    assert "was a JPEG of quality 20" in (told := capsys.readouterr().out) or "quality 97, of 20 before" in told
    assert error(result, clean) < 0.85 * error(opened(code), clean)
    with_the_file = restored(saved(clean, 20), tmp_path)
    assert error(result, with_the_file) < 0.02 * error(opened(code), with_the_file)
    if again == "PNG":  # a JPEG file tells more than its pixels
        assert (rnan_plugin.restore(opened(code)) == result).all()


def test_a_crop_that_was_saved_again_is_restored(photo: Image8, tmp_path: Path) -> None:
    code, clean = saved_as_png(opened(saved(photo, 30))[3:, 6:]), photo[3:, 6:]
    assert error(restored(code, tmp_path), clean) < 0.85 * error(opened(code), clean)


def test_what_alpha_hides_hardly_changes_what_is_seen(photo: Image8, tmp_path: Path) -> None:
    decoded = opened(saved(photo, 40))
    alpha = np.full((*decoded.shape[:2], 1), 255, np.uint8)
    alpha[:, 64:] = 0
    seen = restored(saved_as_png(decoded), tmp_path)[:, :64]
    hidden = np.where(alpha == 0, 7, decoded)
    result = restored(saved_as_png(np.concatenate([hidden, alpha], axis=2)), tmp_path)
    assert (result[:, 64:, :3] == 7).all()
    clean = photo[:, :64]
    assert error(result[:, :64, :3], clean) < 1.05 * error(seen, clean)


def test_letters_that_were_saved_again_are_not_made_worse(photo: Image8, page: Image8, tmp_path: Path) -> None:
    clean = np.concatenate([photo[:, :96], np.clip(page[:, :96], 20, 235)], axis=1)
    code = saved(opened(saved(clean, 85)), 97)
    result, by_network = restored(code, tmp_path), restored(code, tmp_path, "--task", "car", "--level", "85")
    assert error(result[:, 104:], clean[:, 104:]) < 1.02 * error(opened(code)[:, 104:], clean[:, 104:])
    assert error(by_network[:, 104:], clean[:, 104:]) > 1.08 * error(opened(code)[:, 104:], clean[:, 104:])
    assert error(result[:, :88], clean[:, :88]) < 0.95 * error(opened(code)[:, :88], clean[:, :88])


def test_a_level_that_is_named_is_obeyed(page: Image8, tmp_path: Path) -> None:
    """The file may have been enlarged or edited since, and its own steps say nothing."""
    code = saved(page, 90)
    named, found = restored(code, tmp_path, "--task", "car", "--level", "20"), restored(code, tmp_path)
    assert (named != found).any()
    assert error(named, opened(code)) > 10 * error(found, opened(code))
    assert (restored(code, tmp_path, "--task", "car") == found).all()


def test_files_without_luma_are_restored_by_the_network_alone(page: Image8, tmp_path: Path) -> None:
    code = saved(page, 90, keep_rgb=True)
    assert (restored(code, tmp_path) == restored(code, tmp_path, "--task", "car", "--level", "90")).all()
