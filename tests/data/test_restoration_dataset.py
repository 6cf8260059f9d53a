"""The data set: samples, crops of flipped images, randomness across epochs and workers, validation noise."""

from __future__ import annotations

import itertools
import sys
import warnings
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader
from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import DataLoader

import rnan_plugin.toolbox.api  # noqa: F401 - makes basicsr importable
from rnan_plugin.data import restoration_dataset
from rnan_plugin.data.augmentation import augment_view, recoloured, unflipped
from rnan_plugin.data.image_sources import collect_images
from rnan_plugin.data.lmdb_writer import Layout, pack, pack_folder
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.errors import UserError
from rnan_plugin.images.color import convert_channels
from rnan_plugin.images.degradations import DEGRADATIONS, BayerMosaic, BicubicDown, Jpeg, degrade

SIZE = 48
TASKS: dict[str, dict[str, Any]] = {
    "colordn": {"channels": "rgb", "degradation": {"type": "awgn", "sigma": 30}},
    "graydn": {"channels": "gray", "degradation": {"type": "awgn", "sigma": 30}},
    "demosaic": {"channels": "rgb", "degradation": {"type": "mosaic"}},
    "car": {"channels": "y", "degradation": {"type": "jpeg", "quality": 10}},
    "sr": {"channels": "rgb", "degradation": {"type": "bicubic", "scale": 2}, "scale": 2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    for index, shape in enumerate([(101, 120, 3), (97, 98, 3), (130, 111, 3)]):
        img = np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)
        cv2.imwrite(str(path / f"img{index}.png"), cv2.GaussianBlur(img, (0, 0), 1.5))
    return path


def build(folder, task="car", phase="train", **changes):
    options = {"name": "x", "type": "RestorationDataset", "dataroot_gt": str(folder), "phase": phase}
    if phase == "train":
        options["gt_size"] = SIZE
    return RestorationDataset({**options, **TASKS[task], **changes})


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("phase", ["train", "val"])
def test_samples(folder, task, phase):
    sample = build(folder, task, phase)[1]
    channels, scale = (1 if task in {"car", "graydn"} else 3), TASKS[task].get("scale", 1)
    height, width = (SIZE, SIZE) if phase == "train" else (97 // scale * scale, 98 // scale * scale)
    assert sample["gt"].shape == (channels, height, width)
    assert sample["lq"].shape == (channels, height // scale, width // scale)
    assert sample["lq_path"].endswith("img1.png")
    for key in ("lq", "gt"):
        assert sample[key].dtype == torch.float32
        assert sample[key].is_contiguous()
        levels = sample[key] * 255
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)  # 8-bit values
        assert 0 <= levels.min() <= levels.max() <= 255
    assert scale > 1 or (sample["lq"] != sample["gt"]).any()


def find(img, patch):
    """Top and left of a patch in an image, or None."""
    match = cv2.matchTemplate(img, patch, cv2.TM_SQDIFF)
    top, left = (int(index) for index in np.unravel_index(match.argmin(), match.shape))
    return (
        (top, left) if np.array_equal(img[top : top + SIZE, left : left + SIZE].reshape(patch.shape), patch) else None
    )


@pytest.mark.parametrize(
    ("task", "degradation"), [("car", Jpeg(10)), ("demosaic", BayerMosaic()), ("sr", BicubicDown(2))]
)
def test_patch_equals_crop_of_the_degraded_flipped_image(folder, task, degradation):
    """Look each training patch up in the degraded whole image under all eight flips."""
    dataset = build(folder, task)
    scale = degradation.scale
    gt_whole = dataset._read(dataset.gt_store, "img0")
    gt_whole = gt_whole[: gt_whole.shape[0] // scale * scale, : gt_whole.shape[1] // scale * scale]
    seen = set()
    torch.manual_seed(0)
    for _ in range(40):
        sample = dataset[0]
        lq, gt = ((sample[key] * 255).round().byte().permute(1, 2, 0).numpy() for key in ("lq", "gt"))
        found = []
        for bits in np.ndindex(2, 2, 2):
            view = np.ascontiguousarray(augment_view(gt_whole, np.array(bits, bool)))
            if place := find(view, gt):
                found.append((bits, place[0] // scale, place[1] // scale, degrade(view, [degradation], None)))
        assert len(found) == 1
        bits, top, left, lq_whole = found[0]
        side = SIZE // scale
        np.testing.assert_array_equal(lq_whole[top : top + side, left : left + side], lq)
        seen.add(bits)
    assert len(seen) == 8


def test_flips_can_be_switched_off(folder):
    dataset = build(folder, use_hflip=False, use_rot=False)
    gt_whole = dataset._read(dataset.gt_store, "img0")
    for _ in range(8):
        gt = (dataset[0]["gt"] * 255).round().byte().permute(1, 2, 0).numpy()
        assert find(gt_whole, gt) is not None


def seed_numpy(_):
    """What the toolbox's loader does in every epoch: the same seed again."""
    np.random.seed(0)


def epochs(dataset, workers, count=2):
    loader = DataLoader(dataset, batch_size=1, num_workers=workers, worker_init_fn=seed_numpy)
    return [batch["lq"] for _ in range(count) for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_no_draw_repeats(folder, workers):
    """Flat images: every difference between samples is noise."""
    torch.manual_seed(0)
    noise = [draw.flatten() for draw in epochs(build(folder, "colordn"), workers, count=3)]
    assert len({tuple(draw[:8].tolist()) for draw in noise}) == len(noise)


@pytest.mark.parametrize("workers", [0, 2])
def test_draws_follow_the_seed(folder, workers):
    runs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        runs.append(torch.cat(epochs(build(folder, "colordn"), workers)))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def validation(dataset, workers=0, order=None):
    loader = DataLoader(dataset, batch_size=1, num_workers=workers, sampler=order)
    return {batch["gt_path"][0]: batch["lq"] for batch in loader}


def test_validation_noise_depends_on_seed_and_image_alone(folder, tmp_path):
    expected = validation(build(folder, "colordn", "val"))
    torch.manual_seed(99)
    np.random.seed(99)
    again = validation(build(folder, "colordn", "val"), workers=2, order=[2, 0, 1])
    assert all(torch.equal(expected[path], again[path]) for path in expected)
    pack_folder(folder, tmp_path / "x.lmdb")
    lmdb = validation(build(tmp_path / "x.lmdb", "colordn", "val", io_backend={"type": "lmdb"}))
    assert all(torch.equal(a, b) for a, b in zip(expected.values(), lmdb.values(), strict=True))
    other = validation(build(folder, "colordn", "val", noise_seed=1))
    assert all(not torch.equal(expected[path], other[path]) for path in expected)


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    """The same images as PNG and as raw LMDB, by codec."""
    root = tmp_path_factory.mktemp("packed")
    for codec in ("png", "raw"):
        pack(collect_images([folder]), root / f"{codec}.lmdb", Layout(codec=codec))
    return {codec: {"folder": root / f"{codec}.lmdb", "io_backend": {"type": "lmdb"}} for codec in ("png", "raw")}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("task", TASKS)
def test_training_is_the_same_from_every_store(folder, packed, task, workers):
    runs = []
    for store in ({"folder": folder}, *packed.values()):
        torch.manual_seed(3)
        loader = DataLoader(build(task=task, **store), batch_size=2, num_workers=workers, shuffle=True)
        runs.append([(batch["lq"], batch["gt"]) for _ in range(3) for batch in loader])
    for batches in zip(*runs, strict=True):
        for lq, gt in batches[1:]:
            assert torch.equal(lq, batches[0][0])
            assert torch.equal(gt, batches[0][1])


@pytest.mark.parametrize("task", TASKS)
def test_only_the_window_is_read_from_a_raw_lmdb(packed, task, monkeypatch):
    """All other pixels of the memory map may change without a patch noticing; here they are not even looked at."""
    dataset = build(task=task, **packed["raw"])
    copied = []

    def spy(img, channels, name):
        copied.append(img.size)
        assert img.flags.owndata
        return convert_channels(img, channels, name)

    monkeypatch.setattr(restoration_dataset, "convert_channels", spy)
    for index in range(30):
        dataset[index % 3]
    margin = {"car": 8, "sr": 8, "demosaic": 2}.get(task, 0)
    assert max(copied) <= 3 * (SIZE + 2 * margin) ** 2


@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)))
def test_unflipped_box_is_where_the_pixels_are(flips):
    img, box = np.arange(5 * 7).reshape(5, 7, 1), (1, 2, 4, 5)
    top, left, bottom, right = unflipped(box, (5, 7), flips)
    found = augment_view(img[top:bottom, left:right], flips)
    np.testing.assert_array_equal(found, augment_view(img, flips)[1:4, 2:5])


@pytest.mark.parametrize("sampling", ["images", "pixels"])
def test_sampling_is_uniform_over_images_or_patches(sampling, tmp_path):
    places = {"small": 1, "large": 13 * 17}
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((SIZE, SIZE, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((SIZE + 12, SIZE + 16, 3), np.uint8))
    dataset = build(tmp_path, sampling=sampling)
    torch.manual_seed(0)
    draws = [dataset[index % 2]["gt_path"] for index in range(2000)]
    share = sum(path.endswith("small.png") for path in draws) / len(draws)
    expected = 0.5 if sampling == "images" else places["small"] / sum(places.values())
    assert abs(share - expected) < 4 * (expected / len(draws)) ** 0.5


@pytest.mark.parametrize("persistent", [False, True])
def test_enlarged_epochs_of_the_toolbox_never_repeat(folder, persistent):
    """`dataset_enlarge_ratio` lengthens the epoch, and no two draws are equal, with persistent workers or without."""
    options = {"use_shuffle": True, "num_worker_per_gpu": 2, "batch_size_per_gpu": 2, "persistent_workers": persistent}
    dataset = build(folder, "colordn", dataset_enlarge_ratio=4, **options)
    sampler = EnlargedSampler(dataset, 1, 0, 4)
    loader = build_dataloader(dataset, {**dataset.opt, **options}, num_gpu=1, dist=False, sampler=sampler, seed=0)
    patches = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == 6  # 3 images × 4 / 2
        patches += [patch.numpy().tobytes() for batch in batches for patch in batch["lq"]]
    assert len(set(patches)) == len(patches) == 24


def test_ready_made_lq(folder, tmp_path):
    """A folder of LQ files gives what the degradation gives, in validation and in training crops."""
    for file in folder.iterdir():
        gray = build(folder, "car", "val")
        sample = gray[gray.gt_store.names.index(file.stem)]
        cv2.imwrite(str(tmp_path / f"{file.stem}_LQ.png"), (sample["lq"][0] * 255).round().byte().numpy())
    ready = {"degradation": None, "dataroot_lq": str(tmp_path), "filename_tmpl": "{}_LQ"}
    for made, found in zip(build(folder, "car", "val"), build(folder, "car", "val", **ready), strict=False):
        assert torch.equal(made["lq"], found["lq"])
    for index in range(3):
        torch.manual_seed(index)
        made = build(folder, "car", use_hflip=False, use_rot=False)[index]
        torch.manual_seed(index)
        found = build(folder, "car", use_hflip=False, use_rot=False, **ready)[index]
        assert torch.equal(made["gt"], found["gt"])
        assert torch.equal(made["lq"], found["lq"])


def test_ready_made_lq_is_flipped_with_its_gt(folder):
    dataset = build(folder, "colordn", degradation=None, dataroot_lq=str(folder))
    for _ in range(8):
        sample = dataset[0]
        assert torch.equal(sample["lq"], sample["gt"])


def test_every_degradation_can_be_asked_for():
    used = {task["degradation"]["type"] for task in TASKS.values()}
    assert used == set(DEGRADATIONS)


@pytest.fixture
def with_grey(tmp_path):
    for index, channels in enumerate((3, 1, 1)):
        img = np.random.default_rng(index).integers(0, 256, (60, 52, channels), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.png"), img)
    return tmp_path


@pytest.mark.parametrize("task", ["colordn", "demosaic", "sr"])
def test_grey_images_are_taken_three_times_where_colour_is_needed(with_grey, task):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # in validation without a word
        sample = build(with_grey, task, "val")[1]
    grey = cv2.imread(str(with_grey / "1.png"), cv2.IMREAD_UNCHANGED)
    assert sample["gt"].shape == (3, 60, 52)
    np.testing.assert_array_equal((sample["gt"] * 255).round().numpy(), np.stack([grey] * 3))
    assert sample["lq"].shape[0] == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_training_on_grey_images_warns_once(with_grey, workers, capfd):
    dataset = build(with_grey, "colordn")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: print("warned:", message, file=sys.stderr, flush=True)
        for _ in range(3):
            shapes = {sample["gt"].shape for sample in DataLoader(dataset, batch_size=None, num_workers=workers)}
            assert shapes == {(3, SIZE, SIZE)}
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warned:")]
    assert len(told) == 1
    assert "grey in 'x', a set of colour" in told[0]


@pytest.fixture
def two_roots(folder, tmp_path):
    """A folder, and an LMDB that holds images of the same names, and one more."""
    packed = tmp_path / "more"
    packed.mkdir()
    for index in range(4):
        cv2.imwrite(str(packed / f"img{index}.png"), np.full((60 + index, 50, 3), 40 * index, np.uint8))
    pack_folder(packed, tmp_path / "more.lmdb")
    return [str(folder), str(tmp_path / "more.lmdb")]


@pytest.mark.parametrize("task", TASKS)
def test_several_roots_are_one_training_set(two_roots, task):
    joined = build("", task, dataroot_gt=two_roots)
    alone = [build(two_roots[0], task), build(two_roots[1], task, io_backend={"type": "lmdb"})]
    assert len(joined) == 3 + 4
    assert len(set(joined.gt_store.names)) == 7
    for index, (part, own) in enumerate([(0, i) for i in range(3)] + [(1, i) for i in range(4)]):
        torch.manual_seed(index)
        sample = joined[index]
        torch.manual_seed(index)
        expected = alone[part][own]
        assert torch.equal(sample["gt"], expected["gt"])
        assert torch.equal(sample["lq"], expected["lq"])
        assert sample["gt_path"] == expected["gt_path"]


def test_pixels_of_several_roots_are_equally_likely(two_roots):
    joined = build("", dataroot_gt=two_roots, sampling="pixels")
    sizes = [(101, 120), (97, 98), (130, 111), *((60 + index, 50) for index in range(4))]
    places = np.array([(height - SIZE + 1) * (width - SIZE + 1) for height, width in sizes])
    assert joined._patch_count.tolist() == np.cumsum(places).tolist()


def test_several_roots_that_are_not_there_are_told_one_by_one(two_roots):
    with pytest.raises(UserError) as error:
        build("", dataroot_gt=["nowhere", *two_roots, "no.lmdb"])
    lines = str(error.value).splitlines()
    assert ["nowhere not found" in lines[0], "no.lmdb not found; pack it" in lines[1], len(lines)] == [True, True, 2]


@pytest.mark.parametrize("changes", [{"phase": "val"}, {"dataroot_lq": "lq", "degradation": None}])
def test_several_roots_are_for_training_with_inputs_made_on_the_fly(two_roots, changes):
    with pytest.raises(UserError, match="several"):
        build("", dataroot_gt=two_roots, **changes)


def test_patches_come_in_other_colours(tmp_path):
    """All six orders of the channels, grey at saturation 0, and the input is made of the recoloured patch."""
    img = np.full((8, 8, 3), (200, 100, 30), np.uint8)
    orders = {
        tuple(recoloured(img, np.random.default_rng(seed), permute=True, saturation=None)[0, 0]) for seed in range(60)
    }
    assert orders == set(itertools.permutations((200, 100, 30)))
    grey = recoloured(img, np.random.default_rng(0), permute=False, saturation=(0, 0))
    assert (grey == round(0.299 * 200 + 0.587 * 100 + 0.114 * 30)).all()
    assert recoloured(img, np.random.default_rng(0), permute=False, saturation=None) is img
    cv2.imwrite(str(tmp_path / "x.png"), img[..., ::-1])
    dataset = build(tmp_path, "demosaic", gt_size=4, use_rgb_permute=True, saturation=[0.5, 2])
    torch.manual_seed(0)
    colours = {tuple(dataset[0]["gt"][:, 0, 0].tolist()) for _ in range(20)}
    assert len(colours) == 20
    sample = dataset[0]
    seen = sample["lq"] > 0
    assert torch.equal(sample["lq"][seen], sample["gt"][seen])


@pytest.mark.parametrize("key", [{"use_rgb_permute": True}, {"saturation": [0.5, 2]}])
def test_other_colours_are_for_colour(tmp_path, key):
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(UserError, match=f"{next(iter(key))}: is for channels rgb"):
        build(tmp_path, "graydn", gt_size=4, **key)
