"""The patch for spandrel: it applies, and a spandrel so patched, without the plugin, gives our output."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

from rnan_plugin.__main__ import main
from rnan_plugin.inference.networks import load_network

sys.path.insert(0, str(REPOSITORY / "tools"))
import spandrel_patch

spandrel = pytest.importorskip("spandrel", reason="spandrel is not installed")
CODE = """
import sys, torch, spandrel
sys.modules["rnan_plugin"] = None
import spandrel.architectures.RNAN.__arch.layers as layers
layers._BLOCK_VALUES = 1000  # so that attention goes in several blocks
image = torch.load("image.pt")
for number, file in enumerate(sys.argv[1:]):
    model = spandrel.ModelLoader().load_from_file(file)
    assert spandrel.__file__.startswith(sys.path[1]), spandrel.__file__
    torch.save(model(image[:, : model.input_channels]), f"{number}.out")
"""


def test_it_is_current() -> None:
    if spandrel.__version__ != "0.4.2":
        pytest.skip("the patch is made against spandrel 0.4.2")
    assert spandrel_patch.PATCH.read_text(encoding="utf-8") == spandrel_patch.patch()


def test_a_patched_spandrel_needs_no_plugin(tmp_path: Path) -> None:
    if spandrel.__version__ != "0.4.2":
        pytest.skip("the patch is made against spandrel 0.4.2")
    folder = tmp_path / "libs/spandrel/spandrel"
    shutil.copytree(Path(spandrel.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "apply", str(spandrel_patch.PATCH)], cwd=tmp_path, check=True)
    gold, weights = REPOSITORY / "tests/gold", REPOSITORY / "rnan_plugin/weights"
    assert (
        main(["export", "--weights", str(gold / "CAR.pt"), "--to", "safetensors", str(tmp_path / "a.safetensors")]) == 0
    )
    files = [
        weights / "sr_2.pth",
        weights / "car_10.pth",
        gold / "CAR.pt",
        gold / "SRx3.pt",
        tmp_path / "a.safetensors",
    ]
    image = torch.rand(1, 3, 12, 10)
    torch.save(image, tmp_path / "image.pt")
    (tmp_path / "run.py").write_text(f"import sys; sys.path.insert(1, {str(folder.parent)!r})\n" + CODE)
    subprocess.run([sys.executable, "run.py", *map(str, files)], cwd=tmp_path, check=True, timeout=200)
    for number, file in enumerate(files):
        net = load_network(None, str(file)).net
        with torch.no_grad():
            ours = net(image[:, : net.head.in_channels]).clamp(0, 1)
        assert (torch.load(tmp_path / f"{number}.out") - ours).abs().max() * 255 < 0.1
