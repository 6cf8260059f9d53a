"""LPIPS from named files, against the package's own network and the formula; in validation, evaluation, comparisons."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from torchvision.models import alexnet

from rnan_plugin.__main__ import main
from rnan_plugin.errors import UserError
from rnan_plugin.perceptual import lpips, lpips_network
from rnan_plugin.training.metrics import calculate_lpips
from rnan_plugin.training.option_check import _check_metric

NAMED = {"type": "calculate_lpips"}
SLICES = (2, 5, 8, 10, 12)  # of AlexNet's features: after each ReLU


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A backbone of random weights as torchvision writes it, and the package's own linear layers."""
    spec = importlib.util.find_spec("lpips")
    if spec is None or spec.origin is None:
        pytest.skip("the package lpips is not installed")
    torch.manual_seed(0)
    backbone = tmp_path_factory.mktemp("lpips") / "alexnet.pth"
    torch.save(alexnet(weights=None).state_dict(), backbone)
    return str(backbone), str(Path(spec.origin).with_name("weights") / "v0.1/alex.pth")


def images(side: int = 70) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (side, side + 9, 3), dtype=np.uint8) for _ in range(2)]


def by_formula(img: np.ndarray[Any, Any], other: np.ndarray[Any, Any], files: tuple[str, str]) -> float:
    """The paper's Eq. 1 on AlexNet's features."""
    net = alexnet(weights=None).features.eval()
    content = torch.load(files[0], weights_only=True)
    net.load_state_dict({name[9:]: value for name, value in content.items() if name.startswith("features.")})
    lines = torch.load(files[1], weights_only=True, map_location="cpu")
    mean, spread = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])

    def features(one: np.ndarray[Any, Any]) -> list[Tensor]:
        x = (torch.from_numpy(one / 127.5 - 1).float() - mean) / spread
        x, found = x.permute(2, 0, 1)[None], []
        for layer in net:
            x = layer(x)
            if isinstance(layer, torch.nn.ReLU):
                found.append(F.normalize(x.clone()))
        return found

    with torch.no_grad():
        pairs = zip(features(img), features(other), lines.values(), strict=True)
        return sum(F.conv2d((one - two).square(), line).mean().item() for one, two, line in pairs)


def test_it_is_the_formula_and_the_packages_own(files: tuple[str, str]) -> None:
    first, second = images()
    found = lpips(first, second, *files)
    assert found == pytest.approx(by_formula(first, second, files), rel=1e-4)
    package = lpips_network(*files)
    tensors = [torch.from_numpy(one).permute(2, 0, 1)[None] / 255 for one in (first, second)]
    assert found == pytest.approx(package(*tensors, normalize=True).item(), rel=1e-5)
    assert lpips(first, first, *files) == 0
    grey = [one[..., :1] for one in (first, second)]
    assert lpips(*grey, *files) == lpips(*(np.repeat(one, 3, 2) for one in grey), *files)  # type: ignore[misc, call-arg]
    with pytest.raises(UserError, match=r"32×32 pixels or more, not 20×29"):
        lpips(*images(20), *files)  # type: ignore[misc, call-arg]


def test_validation_gives_it_rgb_without_a_border(files: tuple[str, str]) -> None:
    first, second = images()
    inner = [one[4:-4, 4:-4] for one in (first, second)]
    bgr = [np.ascontiguousarray(one[..., ::-1]) for one in (first, second)]
    assert calculate_lpips(*bgr, *files, crop_border=4) == lpips(*inner, *files)  # type: ignore[misc, call-arg]
    assert calculate_lpips(first[..., 0], second[..., 0], *files) == lpips(first[..., :1], second[..., :1], *files)


def test_what_is_wrong_is_one_line_at_the_check(files: tuple[str, str], tmp_path: Path, monkeypatch) -> None:
    weights, linear = files
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "part.pth")
    part = str(tmp_path / "part.pth")
    for section, told in (
        ({"weights": "none.pth", "linear": linear}, "x: none.pth: no such file"),
        ({"weights": linear, "linear": linear}, f"x: {linear}: not torchvision's weights of AlexNet"),
        ({"weights": part, "linear": linear}, f"x: {part}: damaged, or not torchvision's weights of alex"),
        ({"weights": weights, "linear": weights}, f"x: {weights}: not LPIPS's linear layers for alex"),
        ({"weights": weights}, "x: key 'linear' is missing"),
        ({"weights": weights, "linear": linear, "better": "higher"}, "x.better: higher, but of LPIPS lower is better"),
        ({"weights": weights, "linear": linear, "test_y_channel": True}, "x: unknown key 'test_y_channel'"),
    ):
        with pytest.raises(UserError) as caught:
            _check_metric({"lpips": NAMED | section}, "lpips", "x")
        assert str(caught.value).startswith(told)
        assert "\n" not in str(caught.value)
    metrics: dict[Any, Any] = {"lpips": NAMED | {"weights": weights, "linear": linear}}
    _check_metric(metrics, "lpips", "x")
    assert metrics["lpips"]["better"] == "lower"  # so that the best checkpoint has the lowest

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lpips" else found(name))
    lpips_network.cache_clear()
    with pytest.raises(UserError, match=r"x: LPIPS needs the package lpips; pip install"):
        _check_metric(metrics, "lpips", "x")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for index, img in enumerate(images()):
        smooth = cv2.GaussianBlur(img, (0, 0), 2)
        cv2.imwrite(str(tmp_path / f"photos/{index}.png"), smooth)
    return tmp_path / "photos"


def test_evaluation_reports_it(files: tuple[str, str], photos: Path, tmp_path: Path, capsys) -> None:
    command = ["evaluate", str(photos), "--task", "colordn", "--level", "50", "--input", "--out", str(tmp_path)]
    assert main([*command, "--lpips", *files]) == 0
    assert "LPIPS" in capsys.readouterr().out
    (table,), (content,) = tmp_path.glob("*.csv"), tmp_path.glob("*.json")
    rows = list(csv.DictReader(line for line in table.read_text().splitlines() if not line.startswith("#")))
    assert list(rows[0]) == ["image", "psnr", "ssim", "lpips", "seconds"]
    values = [float(row["lpips"]) for row in rows]
    assert values[2] == pytest.approx((values[0] + values[1]) / 2)
    assert min(values) > 0
    found = json.loads(content.read_text())
    assert found["images"]["0"]["lpips"] == values[0]
    assert found["protocol"]["lpips"].startswith("alex, RGB or grey, version 0.1, weights ")
    capsys.readouterr()
    assert main([*command, "--lpips", "none.pth", files[1]]) == 2
    assert capsys.readouterr().err.startswith("error: none.pth: no such file")


def test_comparison_reports_it(files: tuple[str, str], photos: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    content = {
        "task": "colordn",
        "level": 25,
        "sets": [str(photos)],
        "lpips": {"weights": files[0], "linear": files[1]},
        "methods": {"noisy": {"type": "input"}, "NLM": {"type": "opencv_nlm"}},
    }
    Path("c.yml").write_text(yaml.safe_dump(content))
    assert main(["compare", "c.yml"]) == 0
    out = capsys.readouterr().out
    assert "LPIPS photos" in out
    assert "SSIM  " in out
    apart = json.loads(Path("results/comparison/c/differences.json").read_text())["differences"]
    (lpips_apart,) = [item for item in apart if item["metric"] == "lpips"]
    scores = json.loads(Path("results/comparison/c/table.json").read_text())
    mean = {name: scores[name]["sets"][0]["mean"]["lpips"] for name in scores}
    assert lpips_apart["mean"] == pytest.approx(mean[lpips_apart["method"]] - mean[lpips_apart["against"]])
    report = Path("results/comparison/c/report.html").read_text(encoding="utf-8")
    assert '"metrics": ["PSNR (dB)", "SSIM", "LPIPS"]' in report
    content["lpips"] = {"weights": "none.pth", "linear": files[1]}
    Path("c.yml").write_text(yaml.safe_dump(content))
    assert main(["compare", "c.yml"]) == 2
    assert capsys.readouterr().err.startswith("error: c.yml, lpips: none.pth: no such file")
