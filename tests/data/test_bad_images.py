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
    assert one_line(error).startswith(
        f"option file, datasets.val (set).dataroot_gt: {tmp_path}: no images in it; known endings are .avif .bmp .gif"
    )


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


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ("one.png (8,8,3) 1\ntwo.png (8,8,3) 1\nthree.png (8,8,3) 1\n", "lists three, which it does not hold"),
        ("one.png (8,8,3) 1\ngone.png (8,8,3) 1\ntwo.png (8,8,3) 1\n", "lists 3 images, but it holds 2"),
        ("one.png (8,8,3) 1\n", "lists 1 images, but it holds 2"),
    ],
)
@pytest.mark.parametrize("phase", ["train", "val"])
def test_lmdb_that_its_index_is_not_of_is_told_at_once(tmp_path: Path, index: str, told: str, phase: str) -> None:
    for name in ("one", "two"):
        save(tmp_path / "in" / f"{name}.png", noise(8, 8))
    root = tmp_path / "set.lmdb"
    pack_folder(tmp_path / "in", root)
    (root / "meta_info.txt").write_text(index)
    with pytest.raises(UserError) as error:
        dataset(root, io_backend={"type": "lmdb"}, phase=phase, degradation=JPEG, gt_size=8)
    line = one_line(error)
    assert line.startswith(f"option file, datasets.{phase} (set).dataroot_gt: {root}: meta_info.txt {told}; pack")


def test_lmdb_that_is_taken_for_a_folder_names_the_key(tmp_path: Path) -> None:
    save(tmp_path / "in" / "one.png", noise(8, 8))
    pack_folder(tmp_path / "in", tmp_path / "set.lmdb")
    with pytest.raises(UserError) as error:
        dataset(tmp_path / "set.lmdb", **VALIDATION)
    line = one_line(error)
    assert line.startswith(f"option file, datasets.val (set).dataroot_gt: {tmp_path}/set.lmdb: is an LMDB; set io_back")


@pytest.mark.parametrize("key", ["dataroot_gt", "dataroot_lq"])
@pytest.mark.parametrize("kind", ["closed", "long"])
def test_place_that_can_not_be_asked_about(tmp_path: Path, key: str, kind: str, monkeypatch) -> None:
    save(tmp_path / "gt" / "one.png", noise(8, 8))
    place = tmp_path / ("x" * 300 if kind == "long" else "closed/photos")
    if kind == "closed":  # as for whoever is not root
        stat = Path.stat

        def refuse(self: Path, **arguments: Any) -> Any:
            if self == place:
                raise PermissionError(13, "Permission denied", str(self))
            return stat(self, **arguments)

        monkeypatch.setattr(Path, "stat", refuse)
    options = {"dataroot_gt": str(tmp_path / "gt"), "dataroot_lq": str(tmp_path / "gt"), key: str(place)}
    with pytest.raises(UserError) as error:
        RestorationDataset({"name": "set", "type": "RestorationDataset", "phase": "val", **options})
    reason = "File name too long" if kind == "long" else "Permission denied"
    assert f"datasets.val (set).{key}: {place} can't be read ({reason}); " in one_line(error)


def test_validation_images_are_looked_at_before_the_start(tmp_path: Path) -> None:
    save(tmp_path / "gt" / "one.png", noise(8, 8))
    save(tmp_path / "lq" / "one.png", noise(6, 8))
    with pytest.raises(UserError, match=r"gt/one\.png: GT of 8×8 does not fit LQ of 6×8 at scale 1"):
        dataset(tmp_path / "gt", phase="val", dataroot_lq=str(tmp_path / "lq"))
    small = {"phase": "val", "scale": 9, "degradation": {"type": "bicubic", "scale": 9}}
    with pytest.raises(UserError, match=r"gt/one\.png: smaller than the scale 9"):
        dataset(tmp_path / "gt", **small)
    (tmp_path / "gt" / "two.png").touch()
    with pytest.raises(UserError, match=r"gt/two\.png: .*unreadable"):
        dataset(tmp_path / "gt", **VALIDATION)


@pytest.mark.parametrize("channels", ["y", "gray"])
def test_degradation_that_does_not_suit_the_channels(tmp_path: Path, channels: str) -> None:
    save(tmp_path / "one.png", noise(8, 8))
    with pytest.raises(UserError) as error:
        dataset(tmp_path, phase="val", channels=channels, degradation={"type": "mosaic"})
    assert one_line(error) == (
        "option file, datasets.val (set).degradation: a mosaic needs colour images; set channels: rgb"
    )


def test_validation_passes_over_how_training_draws(tmp_path: Path) -> None:
    save(tmp_path / "one.png", noise(8, 8))
    assert len(dataset(tmp_path, sampling="pixels", **VALIDATION)) == 1


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
