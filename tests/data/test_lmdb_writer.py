"""Packing images: what the toolbox itself reads from the result, sub-images, and that it is all or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset
from conftest import REPOSITORY

import rnan_plugin.toolbox.api  # noqa: F401 - makes basicsr importable
from rnan_plugin.data.image_store import LmdbStore
from rnan_plugin.data.lmdb_writer import pack_folder, sub_image_starts
from rnan_plugin.errors import UserError

COLOUR = {"baboon": (20, 31, 3), "kodim01": (16, 16, 3), "one two": (9, 40, 3)}


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(folder: Path, images: dict[str, np.ndarray]) -> Path:
    """Save RGB or grey images as PNG."""
    for name, img in images.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", img[..., ::-1])[1].tobytes())  # OpenCV writes BGR
    return folder


def oracle_starts(length: int, crop: int, step: int, thresh: int) -> np.ndarray:
    """Positions along one axis, as BasicSR's scripts/data_preparation/extract_subimages.py is documented."""
    space = np.arange(0, length - crop + 1, step)
    if length - (space[-1] + crop) > thresh:
        space = np.append(space, length - crop)
    return space


# What the toolbox reads


def test_toolbox_reads_identical_pixels(tmp_path: Path) -> None:
    gt = {name: noise(shape, seed) for seed, (name, shape) in enumerate(COLOUR.items())}
    lq = {name: noise(shape, seed + 10) for seed, (name, shape) in enumerate(COLOUR.items())}
    for part, images in (("gt", gt), ("lq", lq)):
        assert pack_folder(write(tmp_path / part, images), tmp_path / f"{part}.lmdb") == 3
    roots = {f"dataroot_{part}": str(tmp_path / f"{part}.lmdb") for part in ("gt", "lq")}
    pairs = PairedImageDataset({**roots, "io_backend": {"type": "lmdb"}, "phase": "val", "scale": 1})
    samples = {pair["gt_path"]: pair for pair in (pairs[index] for index in range(len(pairs)))}
    assert set(samples) == set(COLOUR)
    for name, sample in samples.items():
        for part, images in (("gt", gt), ("lq", lq)):
            np.testing.assert_array_equal((sample[part].numpy() * 255).round().transpose(1, 2, 0), images[name])


def test_meta_info_has_the_toolbox_format(tmp_path: Path) -> None:
    write(tmp_path / "in", {"b": noise((9, 40, 3)), "a": noise((7, 5, 1)), "deep/c": noise((6, 6, 3))})
    pack_folder(tmp_path / "in", tmp_path / "set.lmdb")
    text = (tmp_path / "set.lmdb" / "meta_info.txt").read_text(encoding="utf-8")
    assert text == "a.png (7,5,1) 1\nb.png (9,40,3) 1\ndeep/c.png (6,6,3) 1\n"
    assert not [path for path in tmp_path.iterdir() if path.name not in {"in", "set.lmdb"}]


def test_values_are_png_of_the_pixels(tmp_path: Path) -> None:
    images = {"colour": noise((8, 9, 3)), "grey": noise((8, 9, 1))}
    pack_folder(write(tmp_path / "in", images), tmp_path / "set.lmdb")
    with lmdb.open(str(tmp_path / "set.lmdb"), readonly=True, lock=False) as environment, environment.begin() as txn:
        values = {bytes(key).decode(): bytes(value) for key, value in txn.cursor()}
    assert set(values) == set(images)
    for name, value in values.items():
        assert value.startswith(b"\x89PNG")
        decoded = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(decoded.reshape(images[name].shape)[..., ::-1], images[name])


def test_names_with_dots_spaces_and_other_alphabets(tmp_path: Path) -> None:
    names = ["a.b.c", "v1.2 (copy)", "Größe", "写真/日本 1", "x.png", "s p/a.c e"]
    images = {name: noise((6, 7, 3), seed) for seed, name in enumerate(names)}
    pack_folder(write(tmp_path / "in", images), tmp_path / "set.lmdb")
    store = LmdbStore(str(tmp_path / "set.lmdb"))
    assert set(store.names) == set(names)
    for name, img in images.items():
        np.testing.assert_array_equal(store.read(name), img)
        assert store.sizes()[name] == (6, 7)


def test_other_file_formats_are_packed_too(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    img = noise((8, 9, 3))
    for ending in (".bmp", ".TIF"):
        (tmp_path / "in" / f"x{ending[1:]}{ending}").write_bytes(cv2.imencode(ending.lower(), img[..., ::-1])[1])
    pack_folder(tmp_path / "in", tmp_path / "set.lmdb")
    store = LmdbStore(str(tmp_path / "set.lmdb"))
    assert list(store.names) == ["xTIF", "xbmp"]
    for name in store.names:
        np.testing.assert_array_equal(store.read(name), img)


def test_map_grows_on_an_uneven_set_beyond_its_first_size(tmp_path: Path) -> None:
    sizes = [8, 5000, 16, 5500, 8, 4000]  # noise does not compress: 71 MB
    folder = tmp_path / "in"
    folder.mkdir()
    images = [noise((side, side), seed) for seed, side in enumerate(sizes)]
    for index, img in enumerate(images):
        (folder / f"{index}.pgm").write_bytes(b"P5 %d %d 255\n" % img.shape[::-1] + img.tobytes())
    assert pack_folder(folder, tmp_path / "set.lmdb") == len(images)
    assert (tmp_path / "set.lmdb" / "data.mdb").stat().st_size > 2**26
    store = LmdbStore(str(tmp_path / "set.lmdb"))
    for index in (0, 1, 4, 5):
        np.testing.assert_array_equal(store.read(str(index))[..., 0], images[index])


# Sub-images


@pytest.mark.parametrize(("crop", "step"), [(480, 240), (48, 24), (48, 48), (10, 15)])
def test_sub_image_starts_are_the_toolboxes(crop: int, step: int) -> None:
    for length in range(crop, 5 * crop, max(1, crop // 17)):
        assert sub_image_starts(length, crop, step) == oracle_starts(length, crop, step, 0).tolist()


def test_sub_images_have_the_toolbox_names_and_positions(tmp_path: Path) -> None:
    img = noise((100, 131, 3))
    pack_folder(write(tmp_path / "in", {"0001": img}), tmp_path / "set.lmdb", crop_size=48, step=24)
    store = LmdbStore(str(tmp_path / "set.lmdb"))
    expected = {}
    for top in oracle_starts(100, 48, 24, 0):
        for left in oracle_starts(131, 48, 24, 0):
            expected[f"0001_s{len(expected) + 1:03d}"] = img[top : top + 48, left : left + 48]
    assert len(expected) == 4 * 5
    assert list(store.names) == list(expected)
    for name, crop in expected.items():
        np.testing.assert_array_equal(store.read(name), crop)


def test_default_step_is_that_of_div2k(tmp_path: Path) -> None:
    pack_folder(write(tmp_path / "in", {"a": noise((500, 480, 1))}), tmp_path / "set.lmdb", crop_size=480)
    assert LmdbStore(str(tmp_path / "set.lmdb")).sizes() == {"a_s001": (480, 480), "a_s002": (480, 480)}
    assert sub_image_starts(960, 480, 240) == [0, 240, 480]


def test_image_shorter_than_the_crop_is_taken_whole_along_that_axis(tmp_path: Path) -> None:
    img = noise((30, 100, 3))
    pack_folder(write(tmp_path / "in", {"a": img}), tmp_path / "set.lmdb", crop_size=48, step=48)
    store = LmdbStore(str(tmp_path / "set.lmdb"))
    assert list(store.sizes().values()) == [(30, 48)] * 3
    np.testing.assert_array_equal(store.read("a_s003"), img[:, 52:])


# All or nothing


@pytest.mark.parametrize("crop_size", [None, 8])
def test_failure_midway_leaves_nothing_that_passes_for_complete(crop_size: int | None, tmp_path: Path) -> None:
    write(tmp_path / "in", {f"{index:02d}": noise((16, 16, 3)) for index in range(30)})
    (tmp_path / "in" / "zz.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"zz\.png: unreadable"):
        pack_folder(tmp_path / "in", tmp_path / "set.lmdb", crop_size, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".set.lmdb.partial", "in"]
    (tmp_path / "in" / "zz.png").unlink()
    assert pack_folder(tmp_path / "in", tmp_path / "set.lmdb") == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "set.lmdb"]


def test_existing_target_is_refused_and_kept(tmp_path: Path) -> None:
    write(tmp_path / "in", {"a": noise((8, 8, 3))})
    pack_folder(tmp_path / "in", tmp_path / "set.lmdb")
    before = (tmp_path / "set.lmdb" / "data.mdb").read_bytes()
    write(tmp_path / "in", {"b": noise((8, 8, 3))})
    with pytest.raises(UserError, match=r"set\.lmdb: exists already; remove it or choose another name"):
        pack_folder(tmp_path / "in", tmp_path / "set.lmdb")
    assert (tmp_path / "set.lmdb" / "data.mdb").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("target", "crop_size", "step", "message"),
    [
        ("set", None, 240, r"set: the name must end in \.lmdb"),
        ("set.lmdb", 0, 240, "crop size 0 and step 240 must be 1 or more"),
        ("set.lmdb", 48, 0, "crop size 48 and step 0 must be 1 or more"),
    ],
)
def test_wrong_arguments(target: str, crop_size: int | None, step: int, message: str, tmp_path: Path) -> None:
    write(tmp_path / "in", {"a": noise((8, 8, 3))})
    with pytest.raises(UserError, match=message):
        pack_folder(tmp_path / "in", tmp_path / target, crop_size, step)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "in", {"a": noise((8, 8, 3))})
    (tmp_path / "in" / "a.bmp").write_bytes(cv2.imencode(".bmp", noise((8, 8, 3)))[1])
    with pytest.raises(UserError, match="two images of one name"):
        pack_folder(tmp_path / "in", tmp_path / "set.lmdb")


def test_key_longer_than_an_lmdb_takes_is_named(tmp_path: Path) -> None:
    write(tmp_path / "in", {"/".join(["d" * 200] * 3): noise((8, 8, 3))})
    with pytest.raises(UserError, match=r"d/d+/d+.*longer than 511 bytes"):
        pack_folder(tmp_path / "in", tmp_path / "set.lmdb")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


# Command line


def test_command_line_packs_and_says_what_to_write_into_the_option_file(tmp_path: Path) -> None:
    write(tmp_path / "in", {"a": noise((30, 20, 3))})
    target = tmp_path / "new" / "set.lmdb"
    script = [sys.executable, "-m", "rnan_plugin", "prepare"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [*script, "in", str(target), "--crop-size", "20", "--step", "5"]
    first, again = (
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    assert f"3 images in {target}" in first.stdout
    assert f"dataroot_gt: {target}" in first.stdout
    assert "type: lmdb" in first.stdout
    assert list(LmdbStore(str(target)).names) == ["a_s001", "a_s002", "a_s003"]
    assert again.returncode == 2
    assert again.stderr.splitlines() == [f"error: {target}: exists already; remove it or choose another name"]
