"""Exported files: each is opened again by all our ways in and by its own library, and equals its source bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import REPOSITORY, TINY
from package_networks import network_for

from rnan_plugin import checkpoints
from rnan_plugin.__main__ import main
from rnan_plugin.archs.official_weights import load_released
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.errors import UserError
from rnan_plugin.inference.networks import load_network
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.portable import BUFFER, METADATA, describing

safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
FORMS = ["pth", "safetensors"]
# What no layer shows, otherwise than in the text.
UNSEEN = {"attention_residual": "identity", "softmax_over": "queries", "mask_skip": True, "img_range": 255.0}


def trained(folder: Path, **arguments: Any) -> tuple[str, dict[str, torch.Tensor]]:
    """A checkpoint as a training writes it, with an average, and the weights that count."""
    folder.mkdir(exist_ok=True)
    network = TINY | arguments
    nets = [RNAN(**{key: value for key, value in network.items() if key != "type"}) for _ in range(2)]
    params, average = (net.state_dict() for net in nets)
    content = {"params": params, "params_ema": average, "network_g": network}
    torch.save(content, folder / "net_g_4.pth")
    return str(folder / "net_g_4.pth"), average


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("form", FORMS)
def test_a_shipped_network_comes_back(form: str, tmp_path: Path) -> None:
    out = tmp_path / f"out.{form}"
    assert main(["export", "--task", "sr", "--level", "2", "--to", form, str(out)]) == 0
    loaded, ours = load_network(None, str(out)), network_for(TaskAtLevel("sr", 2))
    assert same(loaded.net.state_dict(), ours.state_dict())
    image = torch.rand(1, 3, 12, 9)
    with torch.no_grad():
        assert torch.equal(loaded.net(image), ours(image))
    assert loaded.network == load_network(None, None, TaskAtLevel("sr", 2)).network


@pytest.mark.parametrize("form", FORMS)
def test_a_trained_network_comes_back_with_what_no_layer_shows(form: str, tmp_path: Path) -> None:
    weights, average = trained(tmp_path, **UNSEEN)
    out = tmp_path / f"out.{form}"
    assert main(["export", "--weights", weights, "--to", form, str(out)]) == 0
    loaded = load_network(None, str(out))
    assert same(loaded.net.state_dict(), average)
    assert {name: loaded.network[name] for name in UNSEEN} == UNSEEN
    # By an option file that names it, too.
    options = {"name": "x", "model_type": "RestorationModel", "num_gpu": 0, "datasets": {}, "network_g": TINY | UNSEEN}
    (tmp_path / "x.yml").write_text(yaml.safe_dump(options | {"path": {"pretrain_network_g": str(out)}}))
    assert same(load_network(str(tmp_path / "x.yml"), None).net.state_dict(), average)


@pytest.mark.parametrize("form", FORMS)
def test_a_released_network_comes_back(form: str, tmp_path: Path) -> None:
    out, released = tmp_path / f"out.{form}", str(REPOSITORY / "tests/gold/SRx3.pt")
    assert main(["export", "--weights", released, "--to", form, str(out)]) == 0
    image = torch.rand(1, 3, 8, 6)
    with torch.no_grad():
        assert torch.equal(load_network(None, str(out)).net(image), load_released(released)(image))


def test_commands_take_an_exported_file(tmp_path: Path, data: Path) -> None:
    """Restoring and scoring; a restored file is the one of the package's own weights."""
    out = tmp_path / "car.safetensors"
    assert main(["export", "--task", "car", "--level", "10", "--to", "safetensors", str(out)]) == 0
    image = str(data / "val/4.png")
    task = ["--task", "car", "--level", "10", "--tile", "64", "--overlap", "8"]
    package = str(REPOSITORY / "rnan_plugin/weights/car_10.pth")
    assert main(["restore", image, str(tmp_path / "ours.png"), *task, "--weights", package]) == 0
    assert main(["restore", image, str(tmp_path / "theirs.png"), *task, "--weights", str(out)]) == 0
    assert (tmp_path / "ours.png").read_bytes() == (tmp_path / "theirs.png").read_bytes()
    assert main(["evaluate", str(data / "val"), "--task", "car", "--level", "10", "--weights", str(out)]) == 0


def test_the_toolboxs_own_keys_are_in_a_checkpoint(tmp_path: Path) -> None:
    weights, average = trained(tmp_path)
    assert main(["export", "--weights", weights, "--to", "pth", str(tmp_path / "out.pth")]) == 0
    content = torch.load(tmp_path / "out.pth", weights_only=True)
    assert same(content["params"], average)
    assert same({name: value for name, value in content["state_dict"].items() if name != BUFFER}, average)
    assert content["params"]["head.weight"].data_ptr() == content["state_dict"]["head.weight"].data_ptr()


def test_safetensors_itself_reads_all_arguments(tmp_path: Path) -> None:
    weights, average = trained(tmp_path, **UNSEEN)
    assert main(["export", "--weights", weights, "--to", "safetensors", str(tmp_path / "a.safetensors")]) == 0
    tensors = safetensors.load_file(tmp_path / "a.safetensors")
    told = json.loads(bytes(tensors.pop(BUFFER).tolist()))
    assert same(tensors, average)
    assert told == TINY | UNSEEN | {key: told[key] for key in told.keys() - (TINY | UNSEEN).keys()}
    assert len(told) == 20  # the type and RNAN's arguments
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert json.loads(file.metadata()[METADATA]) == told


def test_a_channels_last_network_is_written(tmp_path: Path) -> None:
    net = network_for(TaskAtLevel("car", 10)).to(memory_format=torch.channels_last)
    checkpoints.save_safetensors(net.state_dict(), {"type": "RNAN"}, tmp_path / "a.safetensors")
    assert same(checkpoints.read(tmp_path / "a.safetensors")["params"], net.state_dict())


def test_another_network_than_rnan(tmp_path: Path) -> None:
    network = {"type": "MSRResNetX1", "num_in_ch": 1, "num_out_ch": 1, "num_feat": 4, "num_block": 1}
    from rnan_plugin.toolbox.networks import MSRResNetX1

    net = MSRResNetX1(1, 1, 4, 1)
    torch.save({"params": net.state_dict(), "network_g": network}, tmp_path / "a.pth")
    assert (
        main(["export", "--weights", str(tmp_path / "a.pth"), "--to", "safetensors", str(tmp_path / "a.safetensors")])
        == 0
    )
    assert BUFFER not in safetensors.load_file(tmp_path / "a.safetensors")
    assert same(load_network(None, str(tmp_path / "a.safetensors")).net.state_dict(), net.state_dict())


def test_nothing_is_replaced_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, _ = trained(tmp_path)
    out = tmp_path / "out.pth"
    out.write_text("mine")
    command = ["export", "--weights", weights, "--to", "pth"]
    assert main([*command, str(out)]) == 2
    assert "exists already; name another file, or add --overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main([*command, "--overwrite", str(out)]) == 0
    assert main([*command, "--overwrite", weights]) == 2
    assert "is the file that the weights come from" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "out.safetensors")]) == 2
    assert "ends in .pth" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "no/out.pth")]) == 2
    assert main(["export", "--to", "pth", str(tmp_path / "b.pth")]) == 2
    assert not list(tmp_path.glob(".*"))


def spoilt(weights: dict[str, torch.Tensor], **changes: torch.Tensor) -> bytes:
    return safetensors.save({**weights, **changes}, {METADATA: json.dumps(TINY)})


SPOILS = {
    "NaN": (lambda w: spoilt(w, **{"head.bias": w["head.bias"] * float("nan")}), "head.bias holds NaN or infinite"),
    "missing": (lambda w: spoilt({name: w[name] for name in w if name != "head.bias"}), "weights of another network"),
    "one more": (lambda w: spoilt(w, extra=torch.zeros(1)), "weights of another network"),
    "shape": (lambda w: spoilt(w, **{"head.bias": torch.zeros(5)}), "weights of another network"),
    "type": (lambda w: spoilt(w, **{"head.bias": w["head.bias"].to(torch.float8_e4m3fn)}), "is of torch.float8_e4m3fn"),
    "cut": (lambda w: spoilt(w)[:-8], "damaged, or not a safetensors file"),
    "header": (lambda w: b"\xff" * 8 + spoilt(w)[8:], "damaged, or not a safetensors file"),
    "empty": (lambda _: b"", "damaged, or not a safetensors file"),
    "no JSON": (lambda w: safetensors.save(w, {METADATA: "{"}), "network_g is not the description"),
    "a list": (lambda w: safetensors.save(w, {METADATA: "[]"}), "network_g is not the description"),
    "deep": (lambda w: safetensors.save(w, {METADATA: "[" * 60000}), "network_g is not the description"),
    "long": (lambda w: safetensors.save(w, {METADATA: json.dumps({"a": "b" * 70000})}), "network_g is not the desc"),
    "two": (lambda w: spoilt(w, **{BUFFER: describing(TINY | UNSEEN)}), "describe two networks"),
    "floats": (lambda w: spoilt(w, **{BUFFER: torch.zeros(4)}), f"{BUFFER} is not the description"),
    "no arguments": (lambda w: safetensors.save(w, {METADATA: '{"num_fea": 4}'}), "unknown key 'num_fea'"),
    "undescribed": (safetensors.save, "not a released RNAN checkpoint"),
}


@pytest.mark.parametrize(("spoil", "told"), SPOILS.values(), ids=SPOILS)
def test_a_damaged_file_is_one_line(spoil, told: str, tmp_path: Path) -> None:
    _, weights = trained(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(spoil(weights))
    with pytest.raises(UserError) as error:
        load_network(None, str(tmp_path / "a.safetensors"))
    assert told in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "a.safetensors"))
    assert "\n" not in str(error.value)


def test_without_the_package_it_is_one_line(tmp_path: Path) -> None:
    code = "import sys; sys.modules['safetensors'] = None; from rnan_plugin.__main__ import main; sys.exit(main())"
    command = ["export", "--task", "car", "--level", "10", "--to", "safetensors", str(tmp_path / "a.safetensors")]
    result = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (
        2,
        "error: safetensors is not installed: pip install 'rnan-plugin[export]'\n",
    )
    assert not list(tmp_path.iterdir())
