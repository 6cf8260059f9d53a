"""The weights in the package: what they reach, and that restoring takes them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import REPOSITORY

import rnan_plugin.training.connect  # noqa: F401 - the toolbox has to know RNAN
from rnan_plugin.__main__ import main
from rnan_plugin.checkpoints import read
from rnan_plugin.evaluation.evaluate import evaluate
from rnan_plugin.evaluation.methods import MethodSource, build_method
from rnan_plugin.inference.networks import load_network
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.restorer import RestoreSettings
from rnan_plugin.inference.shipped import (
    FOLDER,
    ShippedNetwork,
    default_networks,
    shipped_file,
    shipped_networks,
    shipped_tasks,
)
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.training.model import RestorationModel

sys.path.insert(0, str(REPOSITORY / "tools"))
from model_cards import recipe_of, trained_by
from small_models import measure, sample_scores, samples

NUMBERS = json.loads((REPOSITORY / "docs/small_models.json").read_text(encoding="utf-8"))
SETTINGS = shipped_tasks()
SINGLE = [network for network in shipped_networks() if not network.is_blind]
SHIPPED = [f"car {quality}" for quality in (10, 20, 30, 40)] + [f"colordn {sigma}" for sigma in (10, 30, 50, 70)]
SHIPPED += ["demosaic", *(f"graydn {sigma}" for sigma in (10, 30, 50, 70)), *(f"sr {scale}" for scale in (2, 3, 4))]
BLIND = [str(network) for network in default_networks() if network.is_blind]


def test_all_of_them_are_there() -> None:
    """Settings of the paper, and networks for unknown levels of noise and JPEG, in grey and in colour."""
    assert [str(task) for task in SETTINGS] == SHIPPED
    medium = [str(network) for network in SINGLE if network.size == "medium"]
    assert medium == ["colordn 50 medium", "colordn 70 medium", "graydn 70 medium"]
    assert sorted(name for name, numbers in NUMBERS.items() if "plain" in numbers) == sorted(map(str, SINGLE))
    assert BLIND == ["car 5-95", "car (rgb) 5-95", "colordn 0-75", "graydn 0-75"]


def test_all_weights_together_are_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.glob("*.pth")) <= 30_000_000


@pytest.mark.parametrize("network", SINGLE, ids=str)
def test_file_is_small_and_described(network: ShippedNetwork) -> None:
    file, numbers = network.file, NUMBERS[str(network)]
    assert file.stat().st_size <= {"small": 2_000_000, "medium": 4_000_000}[network.size]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == numbers["weights_sha256"]
    weights = load_network(None, file.stem).net.parameters()
    assert sum(weight.numel() for weight in weights) == numbers["parameters"]
    assert (REPOSITORY / numbers["option_file"]).is_file()
    card = file.with_suffix(".md").read_text(encoding="utf-8")
    for key in ["plain", *(["self_ensemble"] if "self_ensemble" in numbers else [])]:
        assert f"{numbers[key]['psnr']:.2f} | {numbers[key]['ssim']:.4f}" in card
    log = REPOSITORY / f"docs/small_models/{Path(numbers['option_file']).stem}.log"
    assert f"@ {numbers['iterations']} iter" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("network", SINGLE, ids=str)
def test_samples_come_out_as_they_did(network: ShippedNetwork) -> None:
    expected = NUMBERS[str(network)]["samples_psnr"]
    found = sample_scores(TaskAtLevel(network.task, network.low), network.file.stem)
    assert found == {name: pytest.approx(value, abs=0.01) for name, value in expected.items()}


@pytest.mark.skipif("RNAN_REFERENCE_DIR" not in os.environ, reason="RNAN_REFERENCE_DIR is not set")
@pytest.mark.parametrize(("name", "bound"), [("car 10", 29.10), ("sr 2", 36.66)])
def test_numbers_of_the_benchmark_are_reproduced(name: str, bound: float) -> None:
    (task,) = [task for task in SETTINGS if str(task) == name]
    expected = NUMBERS[name]
    root = Path(os.environ["RNAN_REFERENCE_DIR"], "data/val", expected["image_set"])
    settings = RestoreSettings(Policy("tile", 64, 8))
    evaluation = evaluate(build_method(MethodSource("shipped"), task, settings, []), task, str(root))
    assert evaluation.fingerprint == expected["fingerprint"]
    assert evaluation.mean.psnr == pytest.approx(expected["plain"]["psnr"], abs=1e-3)
    assert evaluation.mean.ssim == pytest.approx(expected["plain"]["ssim"], abs=1e-4)
    assert evaluation.mean.psnr > bound


def test_they_are_measured_as_the_command_evaluates_them(tmp_path: Path) -> None:
    (tmp_path / "Set5").mkdir()
    cv2.imwrite(str(tmp_path / "Set5/cat.png"), samples()["cat"][..., ::-1])
    (network,) = [network for network in default_networks() if str(network) == "sr 4"]
    numbers = measure(network, str(tmp_path), ensemble=False)
    assert numbers["plain"]["psnr"] == pytest.approx(NUMBERS["sr 4"]["samples_psnr"]["cat"], abs=0.01)
    assert {key: numbers[key] for key in ("weights_sha256", "recipe", "parameters")} == {
        key: NUMBERS["sr 4"][key] for key in ("weights_sha256", "recipe", "parameters")
    }


def test_weights_know_the_recipe_that_trained_them() -> None:
    """Not what their option file says now: that of grey sigma 30 falls twice, and begins with another network."""
    (network,) = [network for network in shipped_networks() if str(network) == "graydn 30"]
    checkpoint = read(network.file)
    assert trained_by(network, checkpoint) == checkpoint["recipe"] == NUMBERS["graydn 30"]["recipe"]
    assert checkpoint["recipe"] != recipe_of(REPOSITORY / NUMBERS["graydn 30"]["option_file"])
    assert (checkpoint["iterations"], checkpoint["before"]["iterations"]) == (9000, 6000)


def test_restore_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = np.ascontiguousarray(samples()["cat"][..., ::-1])
    photo[:] = cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)[..., None]
    cv2.imwrite(str(tmp_path / "cat.jpg"), photo[..., 0], [cv2.IMWRITE_JPEG_QUALITY, 10])
    source, target = str(tmp_path / "cat.jpg"), str(tmp_path / "out.png")
    assert main(["restore", source, target, "--task", "car", "--level", "10"]) == 0
    assert "warning" not in capsys.readouterr().out
    before, after = (np.square(cv2.imread(path).astype(float) - photo).mean() for path in (source, target))
    assert after < 0.9 * before
    record = json.loads((tmp_path / "restore.jsonl").read_text())
    assert record["weights_sha256"] == NUMBERS["car 10"]["weights_sha256"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--level", "10"], "--level: needs --task, whose level it is"),
        (["--task", "sr", "--level", "8"], "no weights in the package for sr 8; there are: car 10"),
        (["--task", "demosaic", "--level", "1"], "--level: demosaic has no levels"),
    ],
)
def test_what_does_not_fit_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((8, 8, 3), np.uint8))
    assert main(["restore", str(tmp_path / "x.png"), str(tmp_path / "y.png"), *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "y.png").exists()


@pytest.mark.parametrize("task", SETTINGS, ids=str)
def test_the_toolboxs_loader_reads_them_as_its_own(task: TaskAtLevel) -> None:
    """Under the key `params`, so that a training can start from them."""
    packed = torch.load(shipped_file(task), weights_only=True)
    opt = {"name": "x", "num_gpu": 0, "dist": False, "rank": 0, "world_size": 1, "is_train": False}
    path = {"pretrain_network_g": str(shipped_file(task)), "strict_load_g": True}
    model = RestorationModel({**opt, "network_g": {"type": "RNAN", **packed["network_g"]}, "path": path, "val": {}})
    loaded = model.net_g.state_dict()
    assert loaded.keys() == packed["params"].keys()
    assert all(torch.equal(loaded[name], value.float()) for name, value in packed["params"].items())


def test_a_network_is_taken_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless there is a file of that name; which weights a result is from stands beside it."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("cat.png", samples()["cat"])
    assert main(["restore", "cat.png", "out/", "--weights", "colordn_50_medium"]) == 0
    record = json.loads(Path("out/restore.jsonl").read_text())
    assert record["weights_sha256"] == NUMBERS["colordn 50 medium"]["weights_sha256"]
    Path("colordn_50_medium").mkdir()  # a folder of results is no file of weights
    assert main(["restore", "cat.png", "out/", "--weights", "colordn_50_medium"]) == 0
    Path("colordn_50_medium").rmdir()
    Path("colordn_50_medium").write_bytes(b"of the user's")
    assert main(["restore", "cat.png", "out/", "--weights", "colordn_50_medium", "--overwrite"]) == 2


def test_by_its_name_it_restores_what_its_level_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("cat.jpg", samples()["cat"])
    assert main(["restore", "cat.jpg", "named.png", "--weights", "car_10", "--tile", "64", "--overlap", "8"]) == 0
    restore = ["restore", "cat.jpg", "of_level.png", "--tile", "64", "--overlap", "8"]
    monkeypatch.setattr("rnan_plugin.inference.choose.default_networks", lambda: [])  # not the one for colour
    assert main([*restore, "--task", "car", "--level", "10"]) == 0
    assert Path("named.png").read_bytes() == Path("of_level.png").read_bytes()


def test_a_mistyped_name_is_told_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "cat.png"), samples()["cat"])
    assert main(["restore", str(tmp_path / "cat.png"), str(tmp_path / "out"), "--weights", "colordn_50_mediun"]) == 2
    assert capsys.readouterr().err == (
        "error: colordn_50_mediun: no such file, nor a network of the package (did you mean 'colordn_50_medium' or "
        "'colordn_70_medium' or 'colordn_50'?)\n"
    )


def test_a_level_stands_for_a_fast_one() -> None:
    assert {network.size for network in shipped_networks()} == {"small", "medium"}
    assert shipped_file(TaskAtLevel("colordn", 50)).stem == "colordn_50"
    assert all(network.size == "small" for network in default_networks())


def test_without_a_word_a_file_is_looked_at(tmp_path: Path) -> None:
    """A clean image comes back as it was, to the byte; what was done is said and kept."""
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8), (128, 96))
    cv2.imwrite(str(tmp_path / "clean.png"), smooth)
    assert main(["restore", str(tmp_path / "clean.png"), str(tmp_path / "out.png")]) == 0
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "clean.png").read_bytes()
    assert "left as it is" in json.loads((tmp_path / "restore.jsonl").read_text())["left_as_it_is"]
