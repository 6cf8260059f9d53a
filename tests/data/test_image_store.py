"""Folders and LMDBs as stores of images, in one process and in the workers of a data loader."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.utils import imfrombytes
from PIL import Image
from torch.utils.data import DataLoader

from rnan_plugin.data.image_sources import collect_images
from rnan_plugin.data.image_store import FolderStore, LmdbStore, open_store
from rnan_plugin.data.lmdb_check import check_lmdb
from rnan_plugin.data.lmdb_writer import Layout, pack_folder
from rnan_plugin.data.prepare import prepare
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.errors import UserError
from rnan_plugin.images.codec import encode_png
from rnan_plugin.images.eight_bit import decode_image

SHAPES = {"a": (12, 9, 3), "deep/er/b": (7, 20, 3), "deep/c d": (16, 16, 3), "z.1": (8, 8, 3)}


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path: Path, img: np.ndarray, **options: Any) -> None:
    """Save RGB (H, W, 3) or grey (H, W, 1), without the plugin's or OpenCV's help."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(img[..., 0] if img.shape[2] == 1 else img).save(path, **options)


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    return {name: noise(shape, seed) for seed, (name, shape) in enumerate(SHAPES.items())}


@pytest.fixture
def folder(tmp_path: Path, images: dict[str, np.ndarray]) -> Path:
    for name, img in images.items():
        write(tmp_path / "in" / f"{name}.png", img)
    return tmp_path / "in"


@pytest.fixture
def packed(tmp_path: Path, folder: Path) -> Path:
    pack_folder(folder, tmp_path / "set.lmdb")
    return tmp_path / "set.lmdb"


def test_folder_and_lmdb_give_equal_images(folder: Path, packed: Path, images: dict[str, np.ndarray]) -> None:
    stores = [open_store(str(folder), is_lmdb=False), open_store(str(packed), is_lmdb=True)]
    assert isinstance(stores[0], FolderStore)
    assert isinstance(stores[1], LmdbStore)
    for store in stores:
        assert list(store.names) == ["a", "deep/c d", "deep/er/b", "z.1"]
        for name in store.names:
            np.testing.assert_array_equal(store.read(name), images[name])
    assert stores[1].sizes() == {name: shape[:2] for name, shape in SHAPES.items()}
    assert stores[0].path("deep/c d") == str(folder / "deep" / "c d.png")
    assert stores[1].path("deep/c d") == f"{packed}/deep/c d.png"


def test_grey_stays_one_channel(tmp_path: Path) -> None:
    img = noise((9, 11, 1))
    write(tmp_path / "in" / "grey.png", img)
    pack_folder(tmp_path / "in", tmp_path / "set.lmdb")
    for root, is_lmdb in (("in", False), ("set.lmdb", True)):
        read = open_store(str(tmp_path / root), is_lmdb=is_lmdb).read("grey")
        assert read.shape == (9, 11, 1)
        np.testing.assert_array_equal(read, img)


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    root = tmp_path / ".data" / "set"  # a hidden folder above the root does not matter
    for name in ("a.png", ".hidden.png", "._a.png", ".thumbs/b.png", "deep/.git/c.png", "deep/D.PNG"):
        write(root / name, noise((4, 4, 3)), format="PNG")
    (root / "notes.txt").write_text("not an image")
    assert FolderStore(str(root)).names == ["a", "deep/D"]


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("deep/a.png", "deep/a.jpg", "a.png"):
        write(tmp_path / name, noise((8, 8, 3)))
    with pytest.raises(UserError, match="two images of one name; rename one") as error:
        FolderStore(str(tmp_path))
    assert str(tmp_path / "deep" / "a.png") in str(error.value)
    assert str(tmp_path / "deep" / "a.jpg") in str(error.value)


@pytest.mark.parametrize(("root", "is_lmdb"), [("in", False), ("set.lmdb", True)])
def test_picklable_after_reading(root: str, is_lmdb: bool, packed: Path, images: dict[str, np.ndarray]) -> None:
    store = open_store(str(packed.parent / root), is_lmdb=is_lmdb)
    store.read("a")
    copy = pickle.loads(pickle.dumps(store))
    assert copy.names == store.names
    np.testing.assert_array_equal(copy.read("deep/er/b"), images["deep/er/b"])


def test_one_lmdb_opened_by_two_stores(packed: Path, tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    link = tmp_path / "link.lmdb"
    link.symlink_to(packed)  # LMDB would refuse the same file under another name, too
    stores = [LmdbStore(str(packed)), LmdbStore(str(packed)), LmdbStore(str(link))]
    for name in SHAPES:
        for store in stores:
            np.testing.assert_array_equal(store.read(name), images[name])


def test_two_lmdbs_are_not_mixed_up(tmp_path: Path) -> None:
    for part, seed in (("gt", 1), ("lq", 2)):
        write(tmp_path / part / "a.png", noise((8, 8, 3), seed))
        pack_folder(tmp_path / part, tmp_path / f"{part}.lmdb")
    gt, lq = (LmdbStore(str(tmp_path / f"{part}.lmdb")) for part in ("gt", "lq"))
    for _ in range(2):
        np.testing.assert_array_equal(gt.read("a"), noise((8, 8, 3), 1))
        np.testing.assert_array_equal(lq.read("a"), noise((8, 8, 3), 2))


def test_images_are_the_callers_own(packed: Path, images: dict[str, np.ndarray]) -> None:
    store = LmdbStore(str(packed))
    store.read("a")[:] = 0
    np.testing.assert_array_equal(store.read("a"), images["a"])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_read_what_the_parent_has_read(method: str, packed: Path, images: dict[str, np.ndarray]) -> None:
    jpeg = {"type": "jpeg", "quality": 50}
    options = {"name": "set", "type": "RestorationDataset", "phase": "val", "degradation": jpeg}
    dataset = RestorationDataset({**options, "dataroot_gt": str(packed), "io_backend": {"type": "lmdb"}})
    in_parent = [dataset[index] for index in range(len(dataset))]
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=method)
    samples = list(loader)
    assert len(samples) == len(SHAPES)
    for name, sample, expected in zip(dataset.gt_store.names, samples, in_parent, strict=True):
        assert sample["gt_path"] == f"{packed}/{name}.png"
        np.testing.assert_array_equal(sample["gt"].mul(255).round().numpy().transpose(1, 2, 0), images[name])
        assert torch.equal(sample["lq"], expected["lq"])
    assert torch.equal(dataset[0]["gt"], in_parent[0]["gt"])  # the parent's own is still open


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        (".png", {}),
        (".bmp", {}),
        (".tiff", {}),
        (".tif", {"compression": "tiff_lzw"}),
        (".webp", {"lossless": True}),
        (".ppm", {}),
        (".jpg", {"quality": 95, "subsampling": 0}),
        (".jpeg", {"quality": 90}),
    ],
)
def test_formats_decode_to_rgb(ending: str, options: dict[str, Any], tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(24), np.arange(32))
    img = np.stack([200 + ramp // 2, 100 - ramp, 3 * ramp % 90], axis=-1).astype(np.uint8)
    write(tmp_path / f"a{ending}", img, **options)
    read = FolderStore(str(tmp_path)).read("a")
    with Image.open(tmp_path / f"a{ending}") as oracle:
        expected = np.asarray(oracle.convert("RGB")).astype(int)
    assert read.dtype == np.uint8
    assert read.shape == img.shape
    # JPEG decoders differ by rounding; swapped colours would differ by about 100.
    assert np.abs(read - expected).max() <= (3 if ending in {".jpg", ".jpeg"} else 0)
    assert np.abs(read[..., 0].astype(int) - read[..., 2]).mean() > 50


@pytest.mark.parametrize("mode", ["P", "1", "L"])
def test_palettes_and_bitmaps_are_8_bit_images_too(mode: str) -> None:
    picture = Image.fromarray(noise((16, 16, 3))).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    read = decode_image(buffer.getvalue(), "a.png")
    expected = np.asarray(picture.convert("RGB" if mode == "P" else "L"))
    np.testing.assert_array_equal(read.squeeze(), expected)


def test_photographs_stand_upright_as_the_toolbox_reads_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees"
    write(tmp_path / "a.jpg", noise((16, 24, 3)), exif=exif)
    by_basicsr = imfrombytes((tmp_path / "a.jpg").read_bytes(), flag="color")[..., ::-1]
    np.testing.assert_array_equal(FolderStore(str(tmp_path)).read("a"), by_basicsr)
    assert FolderStore(str(tmp_path)).sizes() == {"a": (24, 16)}


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7, 1)])
def test_encoded_png_is_lossless_rgb(shape: tuple[int, ...]) -> None:
    img = noise(shape)
    with Image.open(io.BytesIO(encode_png(img))) as oracle:
        np.testing.assert_array_equal(np.asarray(oracle).reshape(shape), img)


def test_linked_folders_are_followed_and_no_loop_is(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/deep/b.png", noise((4, 5, 3)))
    write(tmp_path / "set/own/a.png", noise((4, 4, 3)))
    (tmp_path / "set/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/again").symlink_to(tmp_path / "set/own")  # a folder of the set's, listed as such already
    (tmp_path / "set/own/up").symlink_to(tmp_path / "set")
    (tmp_path / "elsewhere/deep/round").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/.hidden").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/c.png").symlink_to(tmp_path / "elsewhere/deep/b.png")
    store = FolderStore(str(tmp_path / "set"))
    assert store.names == ["c", "linked/deep/b", "own/a"]
    assert store.sizes() == {"c": (4, 5), "linked/deep/b": (4, 5), "own/a": (4, 4)}
    assert list(collect_images([tmp_path / "set"])) == store.names
    root = tmp_path / "a_linked_set"
    root.symlink_to(tmp_path / "set")
    assert FolderStore(str(root)).names == store.names


def test_only_regular_files_are_images(tmp_path: Path) -> None:
    write(tmp_path / "a.png", noise((4, 4, 3)))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "device.png").symlink_to("/dev/zero")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket.png"))
        assert FolderStore(str(tmp_path)).names == ["a"]
    os.mkfifo(tmp_path / "set.zip")
    with pytest.raises(UserError, match=r"set.zip: is a pipe or device, not a file"):
        collect_images([tmp_path / "set.zip"])


def test_a_link_that_leads_nowhere_is_told_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "absent.png")
    store = FolderStore(str(tmp_path))
    for read in (lambda: store.read("a"), store.sizes):
        with pytest.raises(UserError, match=r"a.png: can't be read \(No such file or directory\)"):
            read()


def test_names_that_are_no_utf8_can_be_written_anywhere(tmp_path: Path) -> None:
    img = noise((4, 5, 3))
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / os.fsdecode(b"caf\xe9.png")
    file.write_bytes(encode_png(img))
    store = FolderStore(str(tmp_path / "in"))
    assert store.names == ["caf\\xe9"]
    assert store.file("caf\\xe9") == file
    assert store.path("caf\\xe9").encode().endswith(b"caf\\xe9.png")
    np.testing.assert_array_equal(store.read("caf\\xe9"), img)
    assert prepare([str(tmp_path / "in")], str(tmp_path / "set.lmdb"), Layout()).count == 1
    np.testing.assert_array_equal(LmdbStore(str(tmp_path / "set.lmdb")).read("caf\\xe9"), img)
    assert check_lmdb(str(tmp_path / "set.lmdb")) == (1, [])
