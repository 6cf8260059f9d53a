"""Released checkpoints: every key, the released outputs, conversion, and files that are no such thing."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
import yaml
from conftest import REPOSITORY

import rnan_plugin
from rnan_plugin.__main__ import main
from rnan_plugin.archs.official_weights import infer_arguments, load_released, read_state_dict
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.errors import UserError

GOLD = REPOSITORY / "tests/gold"
CASES = ["CAR", "DN_RGB", "SRx2", "SRx3"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("softmax_over", "array"), [("queries", "output"), ("keys", "output_softmax_over_keys")])
def test_output_equals_the_release(name, softmax_over, array):
    gold = np.load(GOLD / f"{name}.npz")
    net = rnan_plugin.load_released(GOLD / f"{name}.pt", softmax_over=softmax_over)
    assert not net.training
    with torch.no_grad():
        out = net(torch.from_numpy(gold["input"]).float() / 255) * 255
    expected = torch.from_numpy(gold[array]).double()
    assert (out - expected).norm() / expected.norm() < 5e-5


def test_the_two_normalisations_differ():
    gold = np.load(GOLD / "DN_RGB.npz")
    assert np.abs(gold["output"] - gold["output_softmax_over_keys"]).max() > 1  # else the test above proves little


@pytest.mark.parametrize("name", CASES)
def test_convert_round_trip(name, tmp_path, capsys):
    out = tmp_path / "net.pth"
    assert main(["convert", str(GOLD / f"{name}.pt"), str(out)]) == 0
    block = yaml.safe_load(capsys.readouterr().out.partition(":\n\n")[2])["network_g"]
    assert block.pop("type") == "RNAN"
    net = RNAN(**block).eval()
    net.load_state_dict(torch.load(out, weights_only=True)["params"], strict=True)
    x = torch.rand(1, block["num_in_ch"], 6, 6)
    torch.testing.assert_close(net(x), load_released(GOLD / f"{name}.pt")(x), rtol=0, atol=0)


def test_x4_names(tmp_path):
    """No gold file has two pixel-shuffle stages, so its names are made here from ×2's."""
    released = read_state_dict(GOLD / "SRx2.pt")
    released |= {f"tail.0.2.{kind}": released[f"tail.0.0.{kind}"].clone() for kind in ("weight", "bias")}
    arguments = infer_arguments(released)
    assert arguments["upscale"] == 4
    torch.save(released, tmp_path / "x4.pt")
    assert load_released(tmp_path / "x4.pt")(torch.rand(1, 3, 5, 4)).shape == (1, 3, 20, 16)


def test_a_renamed_key_is_refused(tmp_path):
    released = read_state_dict(GOLD / "CAR.pt")
    released["head.0.extra"] = torch.zeros(1)
    torch.save(released, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x\.pt: not a released RNAN checkpoint .*head\.0\.extra"):
        load_released(tmp_path / "x.pt")


def test_a_missing_key_is_refused(tmp_path):
    released = read_state_dict(GOLD / "CAR.pt")
    del released["body.1.bias"]
    torch.save(released, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x\.pt: not a released RNAN checkpoint .*bias"):
        load_released(tmp_path / "x.pt")


class RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickled_code_never_runs(tmp_path):
    torch.save({"head.0.weight": RunsCode(str(tmp_path / "ran"))}, tmp_path / "evil.pt")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(RunsCode(str(tmp_path / "ran"))))
    for name in ("evil.pt", "evil.pkl"):
        with pytest.raises(UserError, match=name):
            load_released(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_wrong_files_get_a_line(tmp_path, capsys):
    whole = (GOLD / "CAR.pt").read_bytes()
    (tmp_path / "truncated.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"params": {}}, tmp_path / "toolbox.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("truncated.pt", "empty.pt", "text.pt", "toolbox.pt", "list.pt", "absent.pt"):
        assert main(["convert", str(tmp_path / name), str(tmp_path / "out.pth")]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {tmp_path / name}: ")
        assert error.count("\n") == 1
    assert not (tmp_path / "out.pth").exists()


def test_convert_into_a_missing_folder(tmp_path, capsys):
    assert main(["convert", str(GOLD / "CAR.pt"), str(tmp_path / "absent" / "out.pth")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_convert_replaces_nothing_unasked_and_never_its_input(tmp_path, capsys):
    own = tmp_path / "own.pt"
    own.write_bytes((GOLD / "CAR.pt").read_bytes())
    (tmp_path / "out.pth").write_text("a user's")
    cases = (
        ("own.pt", [], "would replace its input"),
        ("own.pt", ["--overwrite"], "would replace its input"),
        ("out.pth", [], "exists already"),
    )
    for out, more, told in cases:
        assert main(["convert", str(own), str(tmp_path / out), *more]) == 2
        assert told in capsys.readouterr().err
    assert own.read_bytes() == (GOLD / "CAR.pt").read_bytes()
    assert (tmp_path / "out.pth").read_text() == "a user's"
    assert main(["convert", str(own), str(tmp_path / "out.pth"), "--overwrite"]) == 0
    assert torch.load(tmp_path / "out.pth", weights_only=True)["network_g"]["type"] == "RNAN"
