"""A sixth task takes a degradation and a row: Gaussian deblurring, added to a copy as CONTRIBUTING says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from conftest import REPOSITORY, tiny_options

DEGRADATION = '''

@dataclass(frozen=True)
class GaussianBlur:
    """Blur by a Gaussian; `sigma` in pixels, above 0."""

    sigma: float
    level = "sigma"
    scale = 1

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 10:
            raise UserError(f"sigma is {self.sigma}, must be above 0 and at most 10 pixels")

    @property
    def margin(self) -> int:
        return int(np.ceil(4 * self.sigma))

    def grid(self, num_channel: int) -> int:
        return 1

    def __call__(self, img: Image, rng: np.random.Generator) -> Degraded:
        side = 2 * self.margin + 1
        out = cv2.GaussianBlur(img, (side, side), self.sigma, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(out, dtype=np.uint8).reshape(img.shape)


DEGRADATIONS["blur"] = GaussianBlur
'''
ROW = """

add_task(
    Task(
        name="deblur",
        tag="Deblur",
        title="Gaussian blur, sigma {level:g}",
        input="RGB image blurred by a Gaussian of sigma {level:g} pixels",
        channels="rgb",
        degradation="blur",
        level="sigma",
        level_tag="b",
        levels=(1.5,),
        sets=("Kodak24",),
    )
)
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the copy, and one photograph."""
    folder = tmp_path_factory.mktemp("sixth")
    shutil.copytree(REPOSITORY / "rnan_plugin", folder / "rnan_plugin", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in (("images/degradations.py", DEGRADATION), ("paper/tasks.py", ROW)):
        with (folder / "rnan_plugin" / name).open("a") as file:
            file.write(text)
    (folder / "photos").mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "photos/a.png"), cv2.resize(coarse, (64, 56), interpolation=cv2.INTER_CUBIC))
    return folder


def rnan(house: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(house)}
    command = [sys.executable, "-m", "rnan_plugin", *arguments]
    result = subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_command_knows_it(house: Path) -> None:
    level = ["--task", "deblur", "--level", "1.5"]
    rnan(house, "degrade", "photos", "blurred", *level)
    settings = json.loads((house / "blurred/settings.json").read_text())
    assert settings["degradation"] == {"type": "GaussianBlur", "sigma": 1.5}

    opt = tiny_options(house)
    data = {"dataroot_gt": "photos", "io_backend": {"type": "disk"}, "channels": "rgb"}
    data["degradation"] = {"type": "blur", "sigma": [0.5, 2]}
    opt["datasets"]["train"] |= data
    opt["datasets"]["val"] |= data | {"degradation": {"type": "blur", "sigma": 1.5}}
    opt["network_g"] |= {"num_in_ch": 3, "num_out_ch": 3}
    opt["train"]["total_iter"] = 2
    (house / "deblur.yml").write_text(yaml.safe_dump(opt))
    rnan(house, "train", "-opt", "deblur.yml")

    weights = ["--weights", "experiments/tiny/models/net_g_latest.pth"]
    printed = rnan(house, "evaluate", "photos", *level, *weights, "--tile", "32")
    assert "deblur 1.5, photos: net_g_latest" in printed
    rnan(house, "restore", "blurred/lq/a.png", "restored.png", *level, *weights)
    restored = cv2.imread(str(house / "restored.png"))
    assert restored is not None
    assert restored.shape == (56, 64, 3)
