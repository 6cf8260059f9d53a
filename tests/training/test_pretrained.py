"""Weights to begin with: what of them fits the network is told in numbers, and nothing at all is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY
from legal_options import parse
from test_model import NETWORK, build_model

from rnan_plugin.archs.official_weights import pretrained_weights
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.checkpoints import fill, load_weights, save_safetensors
from rnan_plugin.errors import UserError
from rnan_plugin.inference.networks import load_network
from rnan_plugin.inference.shipped import shipped_file
from rnan_plugin.paper.tasks import TaskAtLevel

ARGUMENTS: dict[str, Any] = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_rab": 1, "num_rnab": 1}


def network(**changes: Any) -> RNAN:
    torch.manual_seed(0)
    return RNAN(**(ARGUMENTS | changes))


def test_of_another_scale_the_report_counts_what_fits() -> None:
    twice, thrice = network(upscale=2), network(upscale=3)
    before = {name: value.clone() for name, value in thrice.state_dict().items()}
    ours, theirs = before, twice.state_dict()
    shared = [name for name in ours if name in theirs and ours[name].shape == theirs[name].shape]
    wrong = [name for name in ours if name in theirs and name not in shared]
    assert wrong
    for value in twice.parameters():
        torch.nn.init.constant_(value, 7.0)
    told = fill(thrice, twice.state_dict(), "x2.pth", strict=False)
    part = sum(ours[name].numel() for name in shared) / sum(value.numel() for value in ours.values())
    assert told.startswith(f"matched {len(shared)} of {len(ours)} tensors ({100 * part:.1f} % of the parameters)")
    assert f"other shapes: {wrong[0]} (32×8×3×3 in the file, 72×8×3×3 in network_g)" in told
    for name, value in thrice.state_dict().items():
        assert torch.equal(value, theirs[name] if name in shared else before[name])
    with pytest.raises(UserError, match=r"x2\.pth: weights of another network than network_g \(matched"):
        fill(thrice, twice.state_dict(), "x2.pth")


def test_of_another_depth_what_is_missing_is_named() -> None:
    told = fill(network(num_rab=4), network().state_dict(), "x.pth", strict=False)
    assert "; not in the file: body." in told
    assert " more" in told
    assert "not in network_g" not in told
    told = fill(network(), network(num_rab=4).state_dict(), "x.pth", strict=False)
    assert "; not in network_g: body." in told
    assert fill(network(), network().state_dict(), "x.pth").endswith(" tensors (100 % of the parameters)")


def test_the_model_logs_it(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    net = RNAN(**{**{key: value for key, value in NETWORK.items() if key != "type"}, "num_rab": 2})
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    model = build_model()
    monkeypatch.setattr("rnan_plugin.training.model.get_root_logger", lambda: logging.getLogger("run"))
    caplog.set_level("INFO", "run")
    model.load_network(model.net_g, str(tmp_path / "net.pth"), strict=False)
    assert caplog.records[-1].message.startswith(f"{tmp_path}/net.pth, for RNAN, key params: matched ")


def test_they_override_an_identity_start(tmp_path: Path) -> None:
    weights = build_model().net_g.state_dict()
    torch.save({"params": weights}, tmp_path / "net.pth")
    model = build_model(identity_start=True)
    last = next(name for name in reversed(weights) if name.endswith("weight"))
    assert model.net_g.state_dict()[last].abs().max() < 0.02 * weights[last].abs().max()
    model.load_network(model.net_g, str(tmp_path / "net.pth"))
    assert all(torch.equal(value, weights[name]) for name, value in model.net_g.state_dict().items())


@pytest.mark.parametrize("strict", [True, False])
def test_nothing_that_fits_is_refused_before_the_start(strict: bool, legal, monkeypatch, capfd) -> None:
    torch.save({"params": {"conv_first.weight": torch.zeros(64, 3, 3, 3)}}, "other.pth")
    legal["path"] |= {"pretrain_network_g": "other.pth", "strict_load_g": strict}
    before = sorted(Path().iterdir())
    with pytest.raises(SystemExit):
        parse(legal, monkeypatch)
    (line,) = capfd.readouterr().err.splitlines()
    why = "weights of another network than network_g (" if strict else "none of its weights fit network_g ("
    assert line.startswith(f"error: small.yml, path.pretrain_network_g: other.pth: {why}matched 0 of ")
    assert "(0.0 % of the parameters)" in line
    assert {*Path().iterdir()} - {*before} == {Path("small.yml")}

    torch.save({"params": network(num_feat=8, num_rab=3).state_dict()}, "other.pth")
    legal["path"]["strict_load_g"] = False
    parse(legal, monkeypatch)


@pytest.mark.parametrize("named", ["colordn_10", "rnan_plugin/weights/colordn_10.pth"])
def test_a_network_of_the_package_is_found_from_anywhere(named: str, legal, monkeypatch, capfd) -> None:
    """By its name, and as the option files of the package's networks have it, which stand in a checkout."""
    packed = load_network(None, "colordn_10")
    legal |= {"network_g": packed.network, "path": {"pretrain_network_g": named}}
    opt, _ = parse(legal, monkeypatch)
    assert opt["path"]["pretrain_network_g"] == packed.weights == str(shipped_file(TaskAtLevel("colordn", 10)))
    assert load_network("small.yml", None).weights == packed.weights

    legal["path"]["pretrain_network_g"] = f"{named}1"
    with pytest.raises(SystemExit):
        parse(legal, monkeypatch)
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: small.yml, path.pretrain_network_g: {named}1: no such file")
    assert ("nor a network of the package (did you mean 'colordn_10'" in line) == (named == "colordn_10")


def test_a_file_of_the_users_comes_before_a_network_of_the_package(legal, monkeypatch) -> None:
    legal["network_g"] |= {"num_feat": 8}
    torch.save({"params": network(num_feat=8).state_dict()}, "colordn_10")
    legal["path"] |= {"pretrain_network_g": "colordn_10", "strict_load_g": False}
    opt, _ = parse(legal, monkeypatch)
    assert opt["path"]["pretrain_network_g"] == "colordn_10"


@pytest.mark.parametrize(("key", "taken"), [(None, "params"), ("params_ema", "params"), ("teacher", "teacher")])
@pytest.mark.parametrize("ema_decay", [0, 0.5])
def test_the_log_names_the_key_that_was_taken(key, taken, ema_decay, tmp_path, caplog, monkeypatch) -> None:
    weights = RNAN(**{key: value for key, value in NETWORK.items() if key != "type"}).state_dict()
    other = {name: value + 1 for name, value in weights.items()}
    torch.save({"params": weights, "teacher": other}, tmp_path / "net.pth")
    monkeypatch.setattr("rnan_plugin.training.model.get_root_logger", lambda: logging.getLogger("run"))
    caplog.set_level("INFO", "run")
    paths = {"pretrain_network_g": str(tmp_path / "net.pth"), "param_key_g": key}
    model = build_model(ema_decay=ema_decay, path=paths)
    told = [record.message for record in caplog.records if "net.pth" in record.message]
    assert len(told) == (2 if ema_decay else 1)
    assert all(f"key {taken}: matched" in line for line in told)
    expected = other if taken == "teacher" else weights
    assert all(torch.equal(value, expected[name]) for name, value in model.net_g.state_dict().items())


def test_a_key_that_is_not_in_the_file_is_refused(legal, monkeypatch, capfd) -> None:
    weights = network().state_dict()
    torch.save({"params": weights, "params_ema": weights}, "net.pth")
    legal["path"] |= {"pretrain_network_g": "net.pth", "param_key_g": "param_ema"}
    with pytest.raises(SystemExit):
        parse(legal, monkeypatch)
    (line,) = capfd.readouterr().err.splitlines()
    assert "net.pth: no weights 'param_ema' in it (path.param_key_g); it has params, params_ema" in line


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        (lambda value: value.to_sparse(), "sparse"),
        (lambda value: value.to("meta"), "without values"),
        (lambda value: value.to(torch.complex64), "complex64"),
        (lambda value: value.to(torch.int64), "int64 in the file, float32 in network_g"),
    ],
    ids=["sparse", "meta", "complex", "whole numbers"],
)
def test_weights_are_plain_real_numbers(odd, told, tmp_path: Path) -> None:
    weights = network().state_dict()
    name = next(iter(weights))
    torch.save({"params": weights | {name: odd(weights[name])}}, tmp_path / "net.pth")
    with pytest.raises(UserError, match=f"net.pth: {name} is .*{told}.*; take another checkpoint"):
        load_weights(network(), tmp_path / "net.pth")


def test_shipped_exported_and_released_files_serve_alike(tmp_path: Path) -> None:
    shipped = REPOSITORY / "rnan_plugin/weights/car_10.pth"
    weights, _ = pretrained_weights(shipped, None)
    save_safetensors(weights, {"type": "RNAN"}, tmp_path / "net.safetensors")
    found, _ = pretrained_weights(tmp_path / "net.safetensors", None)
    assert found.keys() == weights.keys()
    for file in sorted((REPOSITORY / "tests/gold").rglob("*.pt")):
        released, _ = pretrained_weights(file, None)
        assert "head.weight" in released
        assert not any(name.startswith(("sub_mean", "body_nl")) for name in released)
    with pytest.raises(UserError, match="weights of another network"):
        load_weights(network(), shipped)


@pytest.mark.parametrize("identity_start", [False, True])
def test_what_the_file_does_not_have_is_alike_in_network_and_average(identity_start: bool, tmp_path: Path) -> None:
    net = RNAN(**{key: value for key, value in NETWORK.items() if key != "type"})
    weights = {name: torch.full_like(value, 0.5) for name, value in net.state_dict().items() if "head" in name}
    torch.save({"params": weights}, tmp_path / "part.pth")
    paths = {"pretrain_network_g": str(tmp_path / "part.pth"), "strict_load_g": False}
    model = build_model(path=paths, ema_decay=0.999, identity_start=identity_start)
    assert weights
    for name, value in model.net_g.state_dict().items():
        assert torch.equal(model.net_g_ema.state_dict()[name], value), name
