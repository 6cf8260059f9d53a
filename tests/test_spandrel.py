"""spandrel's own loader on our files: what it says of a network is right, and its output is ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY

from rnan_plugin.__main__ import main
from rnan_plugin.archs.official_weights import load_released
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.inference.networks import load_network
from rnan_plugin.inference.shipped import shipped_networks

spandrel = pytest.importorskip("spandrel", reason="spandrel is not installed")
GOLD = sorted((REPOSITORY / "tests/gold").glob("*.pt"))
UNSEEN = {"attention_residual": "identity", "softmax_over": "queries", "mask_skip": True, "img_range": 255.0}


@pytest.fixture(scope="module")
def loader() -> Any:
    import rnan_plugin.spandrel

    rnan_plugin.spandrel.install()
    rnan_plugin.spandrel.install()  # a program may ask twice
    return spandrel.ModelLoader()


def agrees(model: Any, ours: torch.nn.Module, size: tuple[int, int] = (13, 10)) -> None:
    """Everything that a program looks at, and every bit of the output within 0..1."""
    channels, scale = ours.head.in_channels, ours.upscale
    assert isinstance(model.model, RNAN)
    assert (model.input_channels, model.output_channels, model.scale) == (channels, channels, scale)
    assert model.purpose == ("SR" if scale > 1 else "Restoration")
    assert model.size_requirements.none
    assert model.tiling == spandrel.ModelTiling.DISCOURAGED
    torch.manual_seed(1)
    image = torch.rand(1, channels, *size)
    with torch.inference_mode():
        assert torch.equal(model(image), ours.eval()(image).clamp(0, 1))


@pytest.mark.parametrize("network", shipped_networks(), ids=str)
def test_shipped_files(network, loader) -> None:
    agrees(loader.load_from_file(network.file), load_network(None, str(network.file)).net)


@pytest.mark.parametrize("file", GOLD, ids=lambda file: file.stem)
def test_released_files(file: Path, loader) -> None:
    agrees(loader.load_from_file(file), load_released(file))


@pytest.mark.parametrize("form", ["pth", "safetensors"])
@pytest.mark.parametrize("source", [shipped_networks()[-1].file, GOLD[0], GOLD[-1]], ids=lambda file: file.stem)
def test_exported_files(form: str, source: Path, loader, tmp_path: Path) -> None:
    assert main(["export", "--weights", str(source), "--to", form, str(tmp_path / f"a.{form}")]) == 0
    agrees(loader.load_from_file(tmp_path / f"a.{form}"), load_network(None, str(source)).net)


@pytest.mark.parametrize("form", ["pth", "safetensors"])
@pytest.mark.parametrize("name", UNSEEN)
def test_what_no_layer_shows_is_right(form: str, name: str, loader, tmp_path: Path) -> None:
    arguments = {"num_in_ch": 1, "num_out_ch": 1, "num_feat": 4, "num_rab": 1, "num_rnab": 1}
    torch.manual_seed(0)
    nets = [RNAN(**arguments, **({name: UNSEEN[name]} if changed else {})).eval() for changed in (True, False)]
    for parameter in nets[0].parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    nets[1].load_state_dict(nets[0].state_dict())
    image = torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        assert not torch.equal(nets[0](image), nets[1](image))  # it would be noticed
    content = {"params": nets[0].state_dict(), "network_g": {"type": "RNAN", **arguments, name: UNSEEN[name]}}
    torch.save(content, tmp_path / "net.pth")
    assert main(["export", "--weights", str(tmp_path / "net.pth"), "--to", form, str(tmp_path / f"a.{form}")]) == 0
    agrees(loader.load_from_file(tmp_path / f"a.{form}"), nets[0])


@pytest.mark.parametrize(("dtype", "levels"), [(torch.float16, 0.5), (torch.bfloat16, 3.0)])
@pytest.mark.parametrize("name", ["car_10", "sr_2"])
def test_half_precision_as_it_says(name: str, dtype: torch.dtype, levels: float, loader) -> None:
    """In levels of 0 to 255; rounding the result itself to bfloat16 costs half a level already."""
    file = REPOSITORY / f"rnan_plugin/weights/{name}.pth"
    torch.manual_seed(0)
    image = torch.rand(1, load_network(None, str(file)).net.head.in_channels, 24, 24)
    whole = loader.load_from_file(file)(image)
    narrow = loader.load_from_file(file).to(dtype)(image.to(dtype))
    assert narrow.dtype == dtype
    assert (narrow.float() - whole).abs().max() * 255 < levels


def test_files_of_others_stay_theirs(loader) -> None:
    with pytest.raises(spandrel.UnsupportedModelError):
        loader.load_from_state_dict({"head.weight": torch.zeros(4, 3, 3, 3), "body.0.weight": torch.zeros(4)})
    assert spandrel.MAIN_REGISTRY["RNAN"].architecture.name == "RNAN"
