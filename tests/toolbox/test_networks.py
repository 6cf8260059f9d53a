"""The toolbox's other networks on the plugin's inputs: each shipped option file starts, learns and validates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import REPOSITORY
from torch.utils.data import default_collate

import rnan_plugin.training.connect  # noqa: F401 - the toolbox has to know the plugin
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.toolbox.api import ARCH_REGISTRY
from rnan_plugin.training.model import RestorationModel

FILES = sorted((REPOSITORY / "options/compare").glob("*.yml"))
# Small enough for seconds; what a network does not take is left out.
SMALL = {"num_feat": 16, "num_block": 1, "num_group": 1, "mid_channels": 16, "img_size": 16}
SMALL |= {"depths": [2], "embed_dim": 12, "num_heads": [2]}


def load(file: Path) -> dict[str, Any]:
    opt: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return opt


def test_each_task_has_the_networks_that_suit_it() -> None:
    networks: dict[str, set[str]] = {}
    for file in FILES:
        _, network, task = file.stem.split("_")[:3]
        networks.setdefault(task, set()).add(network)
    assert networks == {
        "SR": {"MSRResNet", "EDSR", "RCAN", "SwinIR"},
        "ColorDN": {"MSRResNetX1", "EDSR", "RCAN", "RIDNet", "SwinIR"},
        "GrayDN": {"MSRResNetX1", "SwinIR"},
        "CAR": {"MSRResNetX1", "SwinIR"},
        "Demosaic": {"MSRResNetX1", "EDSR", "RCAN", "RIDNet", "SwinIR"},
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_only_the_network_differs_from_rnans_file(file: Path) -> None:
    opt = load(file)
    _, network, tag = file.stem.split("_", 2)
    rnan = load(REPOSITORY / f"options/train_RNAN_{tag}.yml")
    assert opt.pop("network_g")["type"] == network
    assert opt.pop("name") == file.stem
    del rnan["network_g"], rnan["name"]
    assert opt == rnan


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_starts_and_learns(file: Path, data: Path) -> None:
    opt = load(file)
    network = opt["network_g"]
    network |= {key: value for key, value in SMALL.items() if key in network}
    opt["train"]["optim_g"]["lr"] = 1e-3
    opt |= {"is_train": True, "dist": False, "rank": 0, "world_size": 1, "num_gpu": 0}
    torch.manual_seed(0)
    model = RestorationModel(opt)
    shared = {"scale": opt["scale"], "name": "photos", "io_backend": {"type": "lmdb"}}
    train = opt["datasets"]["train"] | shared | {"phase": "train", "gt_size": 16 * opt["scale"]}
    patches = RestorationDataset(train | {"dataroot_gt": str(data / "train.lmdb")})
    batch = default_collate([patches[index % len(patches)] for index in range(8)])
    losses = []
    for iteration in range(1, 61):
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        losses.append(model.get_current_log()["l_pix"])
    assert min(losses[-3:]) < 0.95 * losses[0]  # MSRResNet begins as bilinear interpolation, near its end
    val = opt["datasets"]["val"] | shared | {"phase": "val", "dataroot_gt": str(data / "val.lmdb")}
    (image, *_) = RestorationDataset(val)  # 45×38: no multiple of a window
    model.feed_data(default_collate([image]))
    model.test()
    assert model.output.shape == image["gt"][None].shape


def test_msrresnet_at_the_inputs_size_is_the_toolboxs_without_its_upsampler() -> None:
    torch.manual_seed(0)
    larger = ARCH_REGISTRY.get("MSRResNet")(1, 1, 8, 2, upscale=2)
    same = ARCH_REGISTRY.get("MSRResNetX1")(1, 1, 8, 2)
    shared = {name: value for name, value in larger.state_dict().items() if not name.startswith("upconv1")}
    same.load_state_dict(shared, strict=True)
    img = torch.rand(1, 1, 7, 9)
    feat = torch.nn.functional.leaky_relu(larger.conv_first(img), 0.1)
    feat = torch.nn.functional.leaky_relu(larger.conv_hr(larger.body(feat)), 0.1)
    torch.testing.assert_close(same(img), larger.conv_last(feat) + img)
