"""Whatever names a network: every form of checkpoint that `test` takes is taken by restoring and scoring too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import REPOSITORY
from torch import Tensor

from rnan_plugin.__main__ import main
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.errors import UserError
from rnan_plugin.inference.network_facts import channels_in, size_multiple_of
from rnan_plugin.inference.networks import load_network
from rnan_plugin.inference.pick import build_worker
from rnan_plugin.inference.policy import named_policy
from rnan_plugin.inference.restorer import RestoreSettings
from rnan_plugin.inference.shipped import shipped_file
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.toolbox.api import ARCH_REGISTRY

NETWORK = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_rab": 1, "num_rnab": 1}
OPTIONS: dict[str, Any] = {"name": "x", "model_type": "RestorationModel", "num_gpu": 0, "datasets": {}, "path": {}}
OPTIONS |= {"network_g": {"type": "RNAN", **NETWORK}}
GOLD = REPOSITORY / "tests/gold"


def weights(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return RNAN(**NETWORK).state_dict()


def written(folder: Path, content: dict[str, Any], **path: Any) -> tuple[str, str]:
    """A checkpoint, and an option file that describes its network."""
    torch.save(content, folder / "net.pth")
    (folder / "x.yml").write_text(yaml.safe_dump(OPTIONS | {"path": path}))
    return str(folder / "x.yml"), str(folder / "net.pth")


def equals(net: torch.nn.Module, expected: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, expected[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("content", "path", "seed"),
    [
        ({"params": weights(1)}, {}, 1),
        ({"params": weights(1)}, {"param_key_g": "params_ema"}, 1),  # what BasicSR falls back on
        ({"params": weights(1), "params_ema": weights(2)}, {}, 2),  # the average, which validation scores
        ({"params": weights(1), "params_ema": weights(2)}, {"param_key_g": "params"}, 1),
        ({"params": {f"module.{name}": value for name, value in weights(3).items()}}, {}, 3),
        (weights(4), {"param_key_g": None}, 4),
        (weights(4), {}, 4),
    ],
    ids=["params", "no average", "average", "named", "module.", "flat, ~", "flat"],
)
def test_every_form_of_a_checkpoint(content: dict[str, Any], path: dict[str, Any], seed: int, tmp_path: Path) -> None:
    option_file, file = written(tmp_path, content, **path)
    loaded = load_network(option_file, file)
    assert equals(loaded.net, weights(seed))
    assert not loaded.net.training


def test_a_home_folder_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for what reads the file once more, for its hash."""
    monkeypatch.setenv("HOME", str(tmp_path))
    network = {"network_g": {"type": "RNAN", **NETWORK}}
    option_file, file = written(tmp_path, {"params": weights(1), **network}, pretrain_network_g="~/net.pth")
    assert equals(load_network(option_file, None).net, weights(1))
    for described_by, named in ((option_file, None), (option_file, "~/net.pth"), (None, "~/net.pth")):
        worker = build_worker(described_by, named, None, RestoreSettings(device="cpu"))
        assert worker.provenance["weights"] == file


def test_a_released_file_may_stand_where_a_training_begins(tmp_path: Path) -> None:
    """As in training and testing."""
    released = load_network(None, str(GOLD / "CAR.pt"))
    described = OPTIONS | {"network_g": released.network, "path": {"pretrain_network_g": str(GOLD / "CAR.pt")}}
    (tmp_path / "x.yml").write_text(yaml.safe_dump(described))
    assert equals(load_network(str(tmp_path / "x.yml"), None).net, released.net.state_dict())


def test_numbers_may_be_texts_as_in_training(tmp_path: Path) -> None:
    option_file, file = written(tmp_path, {"params": weights(1)})
    texts = {"num_feat": "4", "num_rab": 1.0, "img_range": "1e0"}
    described = OPTIONS | {"network_g": {"type": "RNAN", **NETWORK, **texts}}
    Path(option_file).write_text(yaml.safe_dump(described))
    assert equals(load_network(option_file, file).net, weights(1))


@pytest.mark.parametrize(
    ("path", "network", "told"),
    [
        ({"pretrain_network_g": 5}, {}, "path.pretrain_network_g: 5 is not a text that is a path"),
        ({"pretrain_network_g": "~nobodyatall/x"}, {}, "path.pretrain_network_g: '~nobodyatall/x' is not a text that"),
        ({"pretrain_network_g": "net.pth", "param_key_g": ["a"]}, {}, "path.param_key_g: ['a'] is not a text"),
        ({"pretrain_network_g": "net.pth"}, {"num_feat": "four"}, "network_g.num_feat: 'four' is not"),
        ({"pretrain_network_g": "net.pth"}, {"num_feat": 10**12}, "is larger than any network can be built with"),
        ({"pretrain_network_g": "net.pth"}, {"num_head_res": -3}, "num_mask_res are (-3, 2, 2, 1): none is below 0"),
    ],
)
def test_a_wrong_value_of_an_option_file_is_one_line(
    tmp_path: Path, path: dict[str, Any], network: dict[str, Any], told: str
) -> None:
    described = OPTIONS | {"path": path, "network_g": {"type": "RNAN", **NETWORK, **network}}
    (tmp_path / "x.yml").write_text(yaml.safe_dump(described))
    with pytest.raises(UserError) as error:
        load_network(str(tmp_path / "x.yml"), None)
    assert told in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'x.yml'}, ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("channels", "told"), [("grey", "'grey' is not one of rgb, gray, y"), (["y"], "['y'] is not")])
def test_channels_that_are_none_are_told_before_an_image_is_read(tmp_path: Path, channels: Any, told: str) -> None:
    option_file, file = written(tmp_path, {"params": weights(1)})
    dataset = {"type": "RestorationDataset", "dataroot_gt": "none", "channels": channels}
    Path(option_file).write_text(yaml.safe_dump(OPTIONS | {"datasets": {"test_1": dataset}}))
    with pytest.raises(UserError) as error:
        load_network(option_file, file)
    assert str(error.value).startswith(f"{option_file}, datasets.test_1.channels: {told}")


@pytest.mark.parametrize(("kind", "expected"), [("RestorationDataset", "rgb"), ("PairedImageDataset", None)])
def test_a_set_of_another_type_does_not_say_the_channels(tmp_path: Path, kind: str, expected: str | None) -> None:
    """Nor does a network of one channel, which may be grey or luma."""
    grey = {**NETWORK, "num_in_ch": 1, "num_out_ch": 1}
    option_file, file = written(tmp_path, {"params": RNAN(**grey).state_dict()})
    described = {"network_g": {"type": "RNAN", **grey}, "datasets": {"test_1": {"type": kind, "dataroot_gt": "none"}}}
    Path(option_file).write_text(yaml.safe_dump(OPTIONS | described))
    assert load_network(option_file, file).channels == expected


def test_a_type_without_end_is_told_in_short(tmp_path: Path) -> None:
    """As aliases within aliases make it."""
    kind: list[Any] = ["RNAN"]
    for _ in range(12):
        kind = [kind] * 9
    _, file = written(tmp_path, {"params": weights(1), "network_g": {"type": kind}})
    with pytest.raises(UserError) as error:
        load_network(None, file)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(("scale", "multiple"), [(1, 4), (2, 2), (4, 1)])
def test_rrdbnet_takes_images_of_any_size(tmp_path: Path, scale: int, multiple: int) -> None:
    """BasicSR's moves blocks of pixels into channels before its first convolution where it enlarges by less than 4."""
    section = {"num_in_ch": 3, "num_out_ch": 3, "scale": scale, "num_feat": 4, "num_block": 1, "num_grow_ch": 4}
    net = ARCH_REGISTRY.get("RRDBNet")(**section)
    _, file = written(tmp_path, {"params": net.state_dict(), "network_g": {"type": "RRDBNet", **section}})
    assert (size_multiple_of(net), channels_in(net)) == (multiple, 3)
    photo = np.random.default_rng(0).integers(0, 256, (13, 18, 3), dtype=np.uint8)
    for policy in ("whole", "tile"):
        settings = RestoreSettings(named_policy(policy), device="cpu")
        restored, _ = build_worker(None, file, None, settings).restore(photo, "photo")
        assert restored.shape == (13 * scale, 18 * scale, 3)


def test_a_network_that_computes_while_it_is_built_is_read_back(tmp_path: Path) -> None:
    """It can't be built without memory, as others are at first."""
    section = {"num_in_ch": 3, "num_out_ch": 3, "num_block": 1, "num_channel": 4, "with_idt": False, "act_type": "relu"}
    net = ARCH_REGISTRY.get("ECBSR")(**section, scale=2)
    described = {"type": "ECBSR", **section, "scale": 2}
    _, file = written(tmp_path, {"params": net.state_dict(), "network_g": described})
    assert equals(load_network(None, file).net, net.state_dict())


def test_a_checkpoint_that_says_its_network_needs_nothing_else(tmp_path: Path) -> None:
    _, file = written(tmp_path, {"params": weights(1), "network_g": {"type": "RNAN", **NETWORK}})
    (tmp_path / "x.yml").unlink()
    assert equals(load_network(None, file).net, weights(1))
    task = TaskAtLevel("car", 10)
    packed = torch.load(shipped_file(task), weights_only=True)["params"]
    assert equals(
        load_network(None, str(shipped_file(task))).net, {name: value.float() for name, value in packed.items()}
    )


def test_an_older_training_is_described_by_the_file_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "x.yml").write_text(yaml.safe_dump(OPTIONS))
    torch.save({"params": weights(1)}, tmp_path / "models/net_g_latest.pth")
    assert equals(load_network(None, str(tmp_path / "models/net_g_latest.pth")).net, weights(1))
    (tmp_path / "x.yml").unlink()
    with pytest.raises(UserError, match="does not say what its network is; name the option file"):
        load_network(None, str(tmp_path / "models/net_g_latest.pth"))


def test_the_task_says_the_channels_of_released_weights(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), photo)
    arguments = [str(tmp_path / "a.png"), str(tmp_path / "out.png"), "--weights", str(GOLD / "CAR.pt")]
    assert main(["restore", *arguments]) == 2
    assert main(["restore", *arguments, "--task", "car", "--level", "10"]) == 0
    restored = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)
    assert restored is not None
    assert restored.shape == photo.shape


def test_an_empty_name_of_weights() -> None:
    with pytest.raises(UserError, match="the name of the weights' file is empty; name one"):
        load_network(None, "")


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ({"type": "RNAM"}, "network_g.type: no 'RNAM' in BasicSR (did you mean 'RNAN'?)"),
        ({"type": "RNAN", "num_fea": 4}, "unknown key 'num_fea' (did you mean 'num_feat'?)"),
        ({"type": "RNAN", "num_feat": 4, "softmax_over": "rows"}, "softmax_over"),
        ({"type": ["RNAN"]}, "network_g.type: no ['RNAN'] in BasicSR"),
        ({"type": "RNAN", "num_feat": 10**6}, "network_g.num_feat: 1000000 is larger than any network can be built"),
        ({"type": "RNAN", "num_feat": 2**14}, "weights of another network than network_g (matched "),  # 100 GB
        ({"type": "SwinIR", "depths": [10**5]}, "network_g.depths: [100000] is larger than any network can be built"),
        (
            {"type": "VGGFeatureExtractor", "layer_name_list": ["conv1_1"], "vgg_type": "vgg11"},  # fetches weights
            "network_g.type: VGGFeatureExtractor restores no image (legal: ECBSR, EDSR, ",
        ),
    ],
)
def test_a_checkpoint_with_a_wrong_network_is_one_line(tmp_path: Path, network: dict[str, Any], told: str) -> None:
    _, file = written(tmp_path, {"params": weights(1), "network_g": network})
    with pytest.raises(UserError) as error:
        load_network(None, file)
    assert told in str(error.value)
    assert str(error.value).startswith(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("weights", "task", "told"),
    [
        ("colordn_50_medium", TaskAtLevel("sr", 2), "colordn_50_medium: is for colordn, not for sr 2; name other wei"),
        ("colordn_50", TaskAtLevel("car", 15), "colordn_50: is for colordn, not for car 15; name other weights or an"),
        ("sr_2", TaskAtLevel("sr", 3), "sr_2.pth: enlarges ×2, sr 3 needs ×3; name other weights or another task"),
        ("colordn_50.pth", TaskAtLevel("sr", 2), "colordn_50.pth: keeps the size of its input, sr 2 needs ×2; name"),
        ("sr_2.pth", TaskAtLevel("colordn", 50), "sr_2.pth: enlarges ×2, colordn 50 needs ×1; name other weights"),
    ],
)
def test_weights_of_another_task_are_refused_before_anything_is_restored(
    weights: str, task: TaskAtLevel, told: str
) -> None:
    file = str(shipped_file(TaskAtLevel("sr", 2)).with_name(weights)) if weights.endswith(".pth") else weights
    with pytest.raises(UserError) as error:
        load_network(None, file, task)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_network_at_another_level_of_its_task_is_taken() -> None:
    assert load_network(None, "colordn_50", TaskAtLevel("colordn", 40)).channels == "rgb"


def test_an_option_files_network_of_another_scale_is_refused(tmp_path: Path) -> None:
    option_file, file = written(tmp_path, {"params": weights(1)})
    with pytest.raises(UserError, match=r"net\.pth: keeps the size of its input, sr 3 needs ×3"):
        load_network(option_file, file, TaskAtLevel("sr", 3))
