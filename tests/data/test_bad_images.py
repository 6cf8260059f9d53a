"""Images that a data set cannot use end in one line that names the file and a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_files import noise, one_line, save, truncate

import rnan_plugin.training.connect  # noqa: F401 - the toolbox has to know the plugin's classes
from rnan_plugin.data.lmdb_writer import pack_folder
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.errors import UserError

JPEG = {"type": "jpeg", "quality": 10}


def dataset(root: Path, **options: Any) -> RestorationDataset:
    return RestorationDataset({"name": "set", "type": "RestorationDataset", "dataroot_gt": str(root), **options})


VALIDATION: dict[str, Any] = {"phase": "val", "degradation": JPEG}
BAD_IMAGES = {
    # id: (makes a file in a folder, options, what the line contains beside the file's name)
    "not an image": (lambda f: (f / "a.png").write_bytes(b"text"), VALIDATION, ["unreadable", "replace it"]),
    "empty file": (lambda f: (f / "a.jpg").touch(), VALIDATION, ["unreadable", "replace it"]),
    "dangling link": (lambda f: (f / "a.png").symlink_to(f / "gone.png"), VALIDATION, ["can't be read"]),
    "truncated png": (lambda f: truncate(save(f / "a.png", noise(64, 64))), VALIDATION, ["truncated", "replace it"]),
    "truncated jpeg": (lambda f: truncate(save(f / "a.jpg", noise(64, 64))), VALIDATION, ["truncated", "replace it"]),
    "truncated bmp": (lambda f: truncate(save(f / "a.bmp", noise(64, 64))), VALIDATION, ["truncated", "replace it"]),
    "16 bit": (
        lambda f: save(f / "a.png", noise(8, 8, 3, np.uint16)),
        VALIDATION,
        ["16 bits per sample", "convert it to 8"],
    ),
    "16 bit tiff": (
        lambda f: save(f / "a.tif", noise(8, 8, 1, np.uint16)),
        VALIDATION,
        ["16 bits per sample", "convert it to 8"],
    ),
    "alpha": (lambda f: save(f / "a.png", noise(8, 8, 4)), VALIDATION, ["4 channels (alpha?)", "without alpha"]),
    "smaller than the patch": (
        lambda f: save(f / "a.png", noise(47, 60)),
        {"phase": "train", "gt_size": 48, "degradation": JPEG},
        ["47×60 pixels, smaller than the patch of 48", "lower gt_size"],
    ),
    "smaller than the scale": (
        lambda f: save(f / "a.png", noise(2, 9)),
        {"phase": "val", "scale": 3, "degradation": {"type": "bicubic", "scale": 3}},
        ["smaller than the scale 3", "take the image out"],
    ),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_image_in_a_folder_is_named(case: str, tmp_path: Path) -> None:
    make, options, fragments = BAD_IMAGES[case]
    make(tmp_path)
    with pytest.raises(UserError) as error:
        dataset(tmp_path, **options)[0]
    line = one_line(error)
    (file,) = tmp_path.iterdir()
    assert line.startswith(f"{file}: "), line
    assert all(fragment in line for fragment in fragments), line


def test_folder_named_like_an_image_is_not_one(tmp_path: Path) -> None:
    save(tmp_path / "v1.png" / "inner.png", noise(8, 8))
    assert dataset(tmp_path, **VALIDATION).gt_store.names == ["v1.png/inner"]


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError) as error:
        dataset(tmp_path, **VALIDATION)
    assert one_line(error).startswith(f"{tmp_path}: no images in it; known endings are .bmp")


def test_image_smaller_than_the_patch_in_an_lmdb_is_found_at_once(tmp_path: Path) -> None:
    save(tmp_path / "in" / "large.png", noise(64, 64))
    save(tmp_path / "in" / "small.png", noise(64, 47))
    root = tmp_path / "set.lmdb"
    pack_folder(tmp_path / "in", root)
    options = {"io_backend": {"type": "lmdb"}, "degradation": JPEG, "gt_size": 48}
    with pytest.raises(UserError) as error:
        dataset(root, **options)
    line = one_line(error)
    assert line.startswith(f"{root}/small.png: 64×47 pixels, smaller than the patch of 48")
    assert len(dataset(root, **options | {"gt_size": 47})) == 2


def test_missing_lmdb_key(tmp_path: Path) -> None:
    save(tmp_path / "in" / "one.png", noise(8, 8))
    root = tmp_path / "set.lmdb"
    pack_folder(tmp_path / "in", root)
    with (root / "meta_info.txt").open("a") as file:
        file.write("two.png (8,8,3) 1\n")
    images = dataset(root, io_backend={"type": "lmdb"}, **VALIDATION)
    assert images[0]["gt"].shape == (3, 8, 8)
    with pytest.raises(UserError) as error:
        images[1]
    line = one_line(error)
    assert str(root) in line
    assert "'two'" in line
    assert "pack it again" in line


@pytest.mark.parametrize(
    ("spoil", "fragments"),
    [
        (lambda root: (root / "meta_info.txt").unlink(), ["meta_info.txt is missing", "rnan prepare FOLDER"]),
        (lambda root: (root / "data.mdb").unlink(), ["data.mdb is missing", "rnan prepare FOLDER"]),
        (lambda root: (root / "meta_info.txt").write_text("one 8 8\n"), ["meta_info.txt:1", "'one 8 8'", "pack"]),
        (lambda root: (root / "meta_info.txt").write_text(""), ["no images listed", "pack the LMDB again"]),
        (lambda root: (root / "data.mdb").write_bytes(b"damaged"), ["damaged (cut short)", "pack the LMDB again"]),
    ],
    ids=["no meta_info.txt", "no data.mdb", "bad line", "empty", "damaged"],
)
def test_incomplete_lmdb(spoil: Any, fragments: list[str], tmp_path: Path) -> None:
    save(tmp_path / "in" / "one.png", noise(8, 8))
    root = tmp_path / "set.lmdb"
    pack_folder(tmp_path / "in", root)
    spoil(root)
    with pytest.raises(UserError) as error:
        dataset(root, io_backend={"type": "lmdb"}, **VALIDATION)[0]
    line = one_line(error)
    assert str(root) in line
    assert all(fragment in line for fragment in fragments), line


def test_pair_that_does_not_fit(tmp_path: Path) -> None:
    save(tmp_path / "gt" / "one.png", noise(16, 16))
    save(tmp_path / "lq" / "one.png", noise(8, 9))
    with pytest.raises(UserError) as error:
        dataset(tmp_path / "gt", dataroot_lq=str(tmp_path / "lq"), scale=2, phase="val")[0]
    line = one_line(error)
    assert line.startswith(f"{tmp_path / 'gt' / 'one.png'}: GT of 16×16 does not fit LQ of 8×9 at scale 2")
    assert "check scale and dataroot_lq" in line


def test_lq_image_missing(tmp_path: Path) -> None:
    save(tmp_path / "gt" / "one.png", noise(8, 8))
    save(tmp_path / "lq" / "other.png", noise(8, 8))
    with pytest.raises(UserError) as error:
        dataset(tmp_path / "gt", dataroot_lq=str(tmp_path / "lq"), phase="val")
    assert "dataroot_lq" in one_line(error)
    assert "no image 'one'" in one_line(error)


def test_mosaic_needs_colour(tmp_path: Path) -> None:
    save(tmp_path / "one.png", noise(8, 8))
    with pytest.raises(UserError, match="a mosaic needs colour images; set channels: rgb"):
        dataset(tmp_path, channels="gray", phase="val", degradation={"type": "mosaic"})[0]
