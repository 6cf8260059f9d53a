"""Shared fixtures."""

from __future__ import annotations

import copy
import logging
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from bad_files import noise, save

from rnan_plugin.__main__ import main
from rnan_plugin.data.lmdb_writer import pack_folder

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


class HookEnvironment:
    """A virtual environment of its own, in which the environment hook can be enabled without harm.

    It shares the libraries of the environment that runs the tests, and has the plugin installed.
    """

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.site = Path(self.run(folder, "-c", code).stdout.strip())
        paths = [str(REPOSITORY), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        # Sorts before rnan_plugin.pth, as the .pth file of an editable installation does.
        (self.site / "__editable__.pth").write_text("\n".join(dict.fromkeys(paths)) + "\n")

    def run(
        self, cwd: Path, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the environment's Python in `cwd` with `environment` added."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RNAN_", "COV_"))}
        command = [str(self.python), *arguments]
        result = subprocess.run(
            command, cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def plugin(self, cwd: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of the plugin's commands."""
        return self.run(cwd, "-m", "rnan_plugin", *arguments, check=check)


@pytest.fixture(scope="session")
def hook_env(tmp_path_factory: pytest.TempPathFactory) -> HookEnvironment:
    return HookEnvironment(tmp_path_factory.mktemp("hook") / "venv")


@pytest.fixture
def enabled_env(hook_env: HookEnvironment, tmp_path: Path) -> Iterator[HookEnvironment]:
    hook_env.plugin(tmp_path, "enable")
    yield hook_env
    for name in ("rnan_plugin.pth", "rnan_plugin.start"):
        (hook_env.site / name).unlink(missing_ok=True)


# A training of seconds

QUICKSTART = REPOSITORY / "options/quickstart_RNAN_CAR_q10.yml"
Train = Callable[..., int]
TINY = {"type": "RNAN", "num_in_ch": 1, "num_out_ch": 1, "num_feat": 4, "num_rab": 1, "num_rnab": 1}


def tiny_options(data: Path, **train: Any) -> dict[str, Any]:
    """The quickstart's options, cut down to seconds."""
    opt = yaml.safe_load(QUICKSTART.read_text(encoding="utf-8"))
    opt |= {"name": "tiny", "network_g": dict(TINY)}
    opt["datasets"]["train"] |= {"dataroot_gt": str(data / "train.lmdb"), "gt_size": 16, "batch_size_per_gpu": 2}
    opt["datasets"]["train"] |= {"dataset_enlarge_ratio": 4}
    opt["datasets"]["val"] |= {"dataroot_gt": str(data / "val.lmdb")}
    opt["train"] |= {"total_iter": 4, "ema_decay": 0.5, **train}
    opt["val"] |= {"val_freq": 2, "tile": 32, "tile_overlap": 8}
    opt["logger"] |= {"print_freq": 1, "save_checkpoint_freq": 2}
    return opt


def write_options(folder: Path, opt: dict[str, Any]) -> str:
    """Write the option file; its name."""
    (folder / "tiny.yml").write_text(yaml.safe_dump(opt, sort_keys=False), encoding="utf-8")
    return "tiny.yml"


def log_of(folder: Path) -> str:
    """The only log of the tiny training below a folder."""
    (log,) = (folder / "experiments/tiny").glob("train_tiny_*.log")
    return log.read_text(encoding="utf-8")


@pytest.fixture
def train(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Train]:
    """Train here with the tiny options, changed as asked (`train__total_iter=8`, `batch=4`); the exit status."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, file: str = "tiny.yml", batch: int = 2, workers: int = 0, **changes: Any) -> int:
        opt = tiny_options(data)
        opt["datasets"]["train"] |= {"num_worker_per_gpu": workers, "batch_size_per_gpu": batch}
        opt["logger"] |= {"save_best": "psnr", "use_tb_logger": False}
        opt["train"]["scheduler"]["periods"] = [100_000]
        for path, value in changes.items():
            section, _, key = path.rpartition("__")
            (opt[section] if section else opt)[key] = value
        write_options(tmp_path, opt)
        forget_logger()
        return main(["train", "-opt", file, *arguments])

    yield run
    forget_logger()


def forget_logger() -> None:
    """Let the next training begin a log of its own, as in a process of its own."""
    from basicsr.utils.logger import initialized_logger

    initialized_logger.clear()
    logging.getLogger("basicsr").handlers.clear()


@pytest.fixture
def legal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A small legal option file's content; its images lie in the current, otherwise empty folder."""
    monkeypatch.chdir(tmp_path)
    save(Path("photos/one.png"), noise(64, 64))
    dataset = {
        "name": "photos",
        "type": "RestorationDataset",
        "dataroot_gt": "photos",
        "degradation": {"type": "jpeg", "quality": 10},
    }
    loader = {"gt_size": 16, "num_worker_per_gpu": 0, "batch_size_per_gpu": 1}
    metrics = {"psnr": {"type": "calculate_psnr", "crop_border": 0, "test_y_channel": False}}
    return {
        "name": "small",
        "model_type": "RestorationModel",
        "scale": 1,
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {"train": dataset | loader, "val": copy.deepcopy(dataset)},
        "network_g": {"type": "RNAN", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_rab": 1, "num_rnab": 1},
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "optim_g": {"type": "Adam", "lr": 1e-4},
            "scheduler": {"type": "MultiStepLR", "milestones": [10]},
            "total_iter": 4,
            "pixel_opt": {"type": "MSELoss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "val": {"val_freq": 4, "save_img": False, "tile": 128, "tile_overlap": 16, "metrics": metrics},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 4, "use_tb_logger": False},
    }


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two LMDBs of small images, grey and colour, of odd sizes."""
    folder = tmp_path_factory.mktemp("data")
    for part, seeds in (("train", range(4)), ("val", range(4, 6))):
        images = folder / part
        images.mkdir()
        for seed in seeds:
            img = np.random.default_rng(seed).integers(0, 256, (41 + seed, 38, 3), dtype=np.uint8)
            cv2.imwrite(str(images / f"{seed}.png"), cv2.GaussianBlur(img, (0, 0), 1.5))
        pack_folder(images, folder / f"{part}.lmdb")
    return folder
