"""The hub's mixin on folders, without a network: what is written is read back, by us and by others, bit for bit."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import REPOSITORY, TINY

from rnan_plugin.__main__ import main
from rnan_plugin.archs import rnan_arch
from rnan_plugin.errors import UserError
from rnan_plugin.inference.networks import load_network
from rnan_plugin.paper.tasks import TaskAtLevel

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
from rnan_plugin.hub import RNAN  # noqa: E402 - which can't be imported without it

UNSEEN = {"attention_residual": "identity", "softmax_over": "queries", "mask_skip": True, "img_range": 255.0}
ARGUMENTS = {name: value for name, value in TINY.items() if name != "type"} | UNSEEN


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refused(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)


def alike(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    torch.manual_seed(1)
    image = torch.rand(1, first.head.in_channels, 13, 10)
    with torch.inference_mode():
        return torch.equal(first(image), second(image)) and not (first.training or second.training)


def trained(**arguments) -> RNAN:
    torch.manual_seed(0)
    net = RNAN(**arguments).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net


def test_a_folder_comes_back_with_what_no_layer_shows(tmp_path: Path) -> None:
    net = trained(**ARGUMENTS)
    net.save_pretrained(tmp_path / "net")
    assert {file.name for file in (tmp_path / "net").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    config = json.loads((tmp_path / "net/config.json").read_text())
    assert config.keys() == inspect.signature(rnan_arch.RNAN).parameters.keys()
    assert config == config | ARGUMENTS
    assert alike(RNAN.from_pretrained(tmp_path / "net"), net)
    assert alike(load_network(None, str(tmp_path / "net/model.safetensors")).net, net)


@pytest.mark.parametrize(
    "source",
    [{"task": "sr", "level": 2}, {"task": "demosaic"}, {"weights": str(REPOSITORY / "tests/gold/SRx3.pt")}],
    ids=["shipped", "without level", "released"],
)
def test_ours_are_brought_there(source: dict, tmp_path: Path) -> None:
    task = TaskAtLevel(source["task"], source.get("level")) if "task" in source else None
    RNAN.load(**source).save_pretrained(tmp_path)
    assert alike(RNAN.from_pretrained(tmp_path), load_network(None, source.get("weights"), task).net)


def test_the_commands_take_its_file(tmp_path: Path) -> None:
    RNAN.load("car", 10).save_pretrained(tmp_path / "net")
    weights = str(tmp_path / "net/model.safetensors")
    image = tmp_path / "a.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 256, (20, 24), dtype=np.uint8))
    command = ["restore", str(image)]
    assert main([*command, str(tmp_path / "ours.png"), "--task", "car", "--level", "10"]) == 0
    assert main([*command, str(tmp_path / "theirs.png"), "--task", "car", "--level", "10", "--weights", weights]) == 0
    assert (tmp_path / "ours.png").read_bytes() == (tmp_path / "theirs.png").read_bytes()


def test_spandrel_takes_its_file(tmp_path: Path) -> None:
    spandrel = pytest.importorskip("spandrel", reason="spandrel is not installed")
    import rnan_plugin.spandrel

    rnan_plugin.spandrel.install()
    net = trained(**ARGUMENTS)
    net.save_pretrained(tmp_path)
    model = spandrel.ModelLoader().load_from_file(tmp_path / "model.safetensors")
    image = torch.rand(1, 1, 8, 8)
    with torch.inference_mode():
        assert torch.equal(model(image), net(image).clamp(0, 1))


def test_a_file_with_a_layer_missing_is_refused(tmp_path: Path) -> None:
    """By the mixin's own way of loading it would be at random, without a word."""
    trained(**ARGUMENTS).save_pretrained(tmp_path)
    weights = safetensors.load_file(tmp_path / "model.safetensors")
    del weights["head.bias"]
    safetensors.save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="weights of another network"):
        RNAN.from_pretrained(tmp_path)


def test_the_registered_class_stays_as_it_is() -> None:
    assert not hasattr(rnan_arch.RNAN, "save_pretrained")
    assert not hasattr(rnan_arch.RNAN(**ARGUMENTS), "_hub_mixin_config")


def test_without_the_package_it_is_one_line() -> None:
    code = "import sys; sys.modules['huggingface_hub'] = None; import rnan_plugin.hub"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = result.stderr.strip().splitlines()[-1]
    assert last == "ImportError: huggingface_hub is not installed: pip install 'rnan-plugin[hub]'"
