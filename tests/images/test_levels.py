"""Levels that vary: drawn from each sample's own stream in training, a set for each in validation."""

from __future__ import annotations

import copy
import pickle

import cv2
import numpy as np
import pytest
import torch

from rnan_plugin.data.dataset_options import build_chain, parse_dataset
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.data.sampler import SeededDraws
from rnan_plugin.errors import UserError
from rnan_plugin.images.degradations import Awgn, Jpeg
from rnan_plugin.images.levels import LevelRange, expand_levels, fixed, level_key

STREAM = np.random.default_rng


def drawn(config, count=4000):
    """Levels that a chain of one degradation draws."""
    chain, rng = build_chain(config, "x"), STREAM(0)
    key = level_key(config["type"])
    return np.array([getattr(fixed(chain, rng)[0], key) for _ in range(count)])


def test_uniform_levels_fill_the_range_evenly():
    levels = drawn({"type": "awgn", "sigma": [0, 55]})
    assert 0 <= levels.min() < 0.2
    assert 54.8 < levels.max() <= 55
    counts, _ = np.histogram(levels, bins=11, range=(0, 55))
    assert counts.min() > 0.8 * 4000 / 11


def test_qualities_are_whole_and_both_ends_come():
    levels = drawn({"type": "jpeg", "quality": [5, 95]})
    assert set(levels.tolist()) == set(range(5, 96))


def test_log_levels_fill_the_ratios_evenly():
    levels = drawn({"type": "awgn", "sigma": {"low": 1, "high": 64, "spread": "log"}})
    assert np.median(levels) == pytest.approx(8, rel=0.1)


def test_the_roots_of_levels_are_filled_evenly_and_may_begin_at_0():
    levels = drawn({"type": "awgn", "sigma": {"low": 0, "high": 64, "spread": "root"}})
    assert 0 <= levels.min() < 0.01
    assert 63.5 < levels.max() <= 64
    counts, _ = np.histogram(np.sqrt(levels), bins=8, range=(0, 8))
    assert counts.min() > 0.8 * 4000 / 8


@pytest.mark.parametrize("spread", ["root", "log"])
def test_whole_levels_of_every_spread_stay_in_the_range(spread):
    levels = drawn({"type": "jpeg", "quality": {"low": 5, "high": 8, "spread": spread}})
    assert set(levels.tolist()) == {5, 6, 7, 8}


def test_a_single_level_draws_nothing():
    rng = STREAM(0)
    assert fixed(build_chain({"type": "awgn", "sigma": 50}, "x"), rng) == [Awgn(50)]
    assert rng.random() == STREAM(0).random()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"type": "awgn", "sigma": [55, 0]}, "smaller first"),
        ({"type": "awgn", "sigma": [0, 10, 20]}, "two numbers"),
        ({"type": "awgn", "sigma": [0, "x"]}, "two numbers"),
        ({"type": "awgn", "sigma": [0, float("nan")]}, "two numbers"),
        ({"type": "awgn", "sigma": [-5, 5]}, "must be 0 or more"),
        ({"type": "awgn", "sigma": {"low": 0, "high": 5, "spread": "log"}}, "above 0"),
        ({"type": "awgn", "sigma": {"low": 0, "high": 5, "spread": "lgo"}}, "did you mean 'log'"),
        ({"type": "awgn", "sigma": {"low": -1, "high": 5, "spread": "root"}}, "root needs levels from 0"),
        ({"type": "awgn", "sigma": {"from": 0, "to": 5}}, "low and high"),
        ({"type": "jpeg", "quality": [0, 95]}, "from 1 to 100"),
        ({"type": "jpeg", "quality": [5, 101]}, "from 1 to 100"),
        ({"type": "bicubic", "scale": [2, 4]}, "scale"),
    ],
)
def test_wrong_ranges_are_one_line(config, told):
    with pytest.raises(UserError, match=told) as error:
        build_chain(config, "file.yml, datasets.train.degradation")
    assert str(error.value).startswith("file.yml, datasets.train.degradation")
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    img = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(path / "a.png"), cv2.GaussianBlur(img, (0, 0), 2))
    return path


def entry(folder, phase, degradation, channels="rgb"):
    options = {"name": "x", "type": "RestorationDataset", "dataroot_gt": str(folder), "phase": phase}
    return options | {"channels": channels, "degradation": degradation} | ({"gt_size": 32} if phase == "train" else {})


@pytest.mark.parametrize("degradation", [{"type": "awgn", "sigma": [0, 75]}, {"type": "jpeg", "quality": [5, 95]}])
def test_a_sample_is_its_numbers_alone(folder, degradation):
    """Whatever was drawn before: resuming repeats the levels too; workers get the set by pickling."""
    dataset = SeededDraws(RestorationDataset(entry(folder, "train", degradation)), seed=3)
    whole = [dataset[(0, number)] for number in range(6)]
    resumed = [pickle.loads(pickle.dumps(dataset))[(0, number)] for number in (3, 4, 5)]
    for before, after in zip(whole[3:], resumed, strict=True):
        assert torch.equal(before["lq"], after["lq"])
    spread = {float((sample["lq"] - sample["gt"]).square().mean()) for sample in whole}
    assert len(spread) == len(whole)


def test_a_range_is_for_training_alone(folder):
    levels = {"low": 0, "high": 55}
    with pytest.raises(UserError, match=r"x\.degradation: a range is for training"):
        parse_dataset(entry(folder, "val", {"type": "awgn", "sigma": levels}), "x")


def test_a_list_is_a_validation_set_for_each_level(folder):
    section = entry(folder, "val", {"type": "awgn", "sigma": [10, 30.5]})
    before = copy.deepcopy(section)
    sets = expand_levels("val", section)
    assert section == before
    assert [(phase, part["name"]) for phase, part in sets.items()] == [
        ("val_sigma10", "x_sigma10"),
        ("val_sigma30.5", "x_sigma30.5"),
    ]
    assert [parse_dataset(part, phase)[1] for phase, part in sets.items()] == [[Awgn(10)], [Awgn(30.5)]]
    chain = [{"type": "awgn", "sigma": 5}, {"type": "jpeg", "quality": [10, 90]}]
    sets = expand_levels("val", entry(folder, "val", chain))
    assert [parse_dataset(part, phase)[1] for phase, part in sets.items()] == [
        [Awgn(5), Jpeg(10)],
        [Awgn(5), Jpeg(90)],
    ]


def test_an_empty_list_of_levels_is_told_and_does_not_vanish(folder):
    """Without a level there would be no validation set, and nothing said."""
    (entries,) = expand_levels("val", entry(folder, "val", {"type": "awgn", "sigma": []})).items()
    assert entries[0] == "val"
    with pytest.raises(UserError, match=r"val\.degradation: \[\] has no level in it"):
        parse_dataset(entries[1], "val")


def test_a_chain_of_ranges_draws_each():
    chain = build_chain([{"type": "awgn", "sigma": [0, 9]}, {"type": "jpeg", "quality": [5, 95]}], "x")
    (noise, jpeg) = fixed(chain, STREAM(1))
    assert isinstance(noise, Awgn)
    assert isinstance(jpeg, Jpeg)


def test_legal_ranges_say_what_they_are():
    assert LevelRange(1, 2).draw(STREAM(0)) == LevelRange(1.0, 2.0, "uniform").draw(STREAM(0))
