"""The work of quickstart.sh: pack sample photographs, train a small RNAN with BasicSR, and show what it restores."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.data.lmdb_writer import pack_folder
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.inference.policy import Policy, restore
from rnan_plugin.toolbox.api import calculate_psnr, calculate_ssim

OPTION_FILE = "options/quickstart_RNAN_CAR_q10.yml"
DATA = Path("datasets/quickstart")
PICTURE = Path("results/quickstart/comparison.png")

# Photographs that scikit-image, a dependency of BasicSR, ships; training and validation share none.
SPLIT = {
    "train": ["brick", "camera", "coffee", "coins", "grass", "gravel", "motorcycle_left", "rocket"],
    "val": ["astronaut", "chelsea"],
}
ROI = {"astronaut": (60, 180), "chelsea": (80, 150)}  # top, left of the 128×128 pixels in the picture

Img = NDArray[np.uint8]


def pack_photographs() -> None:
    """Pack the sample photographs into LMDBs, unless that is done."""
    spec = importlib.util.find_spec("skimage.data")
    assert spec is not None
    source = Path(str(spec.origin)).parent
    for part, names in SPLIT.items():
        lmdb_path = DATA / f"{part}.lmdb"
        if lmdb_path.exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                (file,) = source.glob(f"{name}.[pj]*g")
                shutil.copy(file, folder)
            pack_folder(folder, lmdb_path)


def train(experiment: Path) -> None:
    """Train with BasicSR's own script, or go on where an interrupted run stopped, unless it is finished."""
    if (experiment / "models/net_g_latest.pth").exists():
        print(f"{experiment} is trained already (remove it to train again)")
        return
    command = ["basicsr/train.py", "-opt", OPTION_FILE]
    if any((experiment / "training_states").glob("*.state")):  # the stock script can't resume without a GPU
        command = ["-m", "rnan_plugin", "train", "-opt", OPTION_FILE, "--auto_resume"]
    print("$ python", *command, flush=True)
    subprocess.run([sys.executable, *command], check=True)


def to_image(img: torch.Tensor) -> Img:
    """(1, H, W) on 0..1 to (H, W) uint8."""
    return np.rint(img[0].clamp(0, 1).numpy() * 255).astype(np.uint8)


def restore_all(option: dict[str, Any], weights: Path) -> list[tuple[str, Img, Img, Img]]:
    """Restore the held-out photographs: name, input, restored, ground truth, each (H, W) uint8."""
    net = RNAN(**{key: value for key, value in option["network_g"].items() if key != "type"}).eval()
    net.load_state_dict(torch.load(weights, weights_only=True)["params"])
    results = []
    dataset = RestorationDataset({**option["datasets"]["val"], "phase": "val", "scale": 1})
    for sample in (dataset[index] for index in range(len(dataset))):
        output, _ = restore(net, sample["lq"][None], Policy("tile"))
        lq, restored, gt = (to_image(img) for img in (sample["lq"], output[0], sample["gt"]))
        results.append((Path(sample["gt_path"]).stem, lq, restored, gt))
    return results


def report(results: list[tuple[str, Img, Img, Img]]) -> float:
    """Print PSNR and SSIM of input and restored image side by side; return the mean gain in dB."""
    print(f"\n{'Y channel, no border':22}{'input PSNR / SSIM':>22}{'restored PSNR / SSIM':>24}")
    rows = []
    for name, lq, output, gt in results:
        row = [metric(img, gt, crop_border=0) for img in (lq, output) for metric in (calculate_psnr, calculate_ssim)]
        rows.append(row)
        print(f"{name:22}{row[0]:>12.2f} / {row[1]:.4f} {row[2]:>14.2f} / {row[3]:.4f}")
    mean = np.mean(rows, axis=0)
    print(f"{'mean':22}{mean[0]:>12.2f} / {mean[1]:.4f} {mean[2]:>14.2f} / {mean[3]:.4f}")
    return float(mean[2] - mean[0])


def write_picture(results: list[tuple[str, Img, Img, Img]]) -> None:
    """Write crops of input, restored image and ground truth, a row for each photograph."""
    rows = []
    for name, *images in results:
        top, left = ROI[name]
        crops = [
            cv2.resize(img[top : top + 128, left : left + 128], None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
            for img in images
        ]
        rows.append(np.hstack(crops))
    header = np.full((28, rows[0].shape[1]), 255, np.uint8)
    for column, text in enumerate(("JPEG, quality 10", "restored", "ground truth")):
        cv2.putText(header, text, (256 * column + 8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0, 1, cv2.LINE_AA)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(PICTURE), np.vstack([header, *rows]))


def main() -> int:
    """Run all steps; return 1 if the restored photographs are no better than the input."""
    os.chdir(Path(__file__).resolve().parent.parent)
    option = yaml.safe_load(Path(OPTION_FILE).read_text(encoding="utf-8"))
    experiment = Path("experiments", option["name"])
    pack_photographs()
    train(experiment)
    results = restore_all(option, experiment / "models/net_g_latest.pth")
    gain = report(results)
    write_picture(results)
    print(f"""
Restored photographs gain {gain:+.2f} dB. Look at {PICTURE}, then:
  .venv/bin/tensorboard --logdir tb_logger                              curves and image panels
  .venv/bin/rnan doctor                                                 is everything in order?
  .venv/bin/rnan restore PHOTO restored.png --task car --level 10       longer trained weights, in the package
  .venv/bin/rnan prepare FOLDER datasets/NAME.lmdb                      your own images
  .venv/bin/rnan train -opt options/train_RNAN_CAR_q10.yml              the paper's training (needs DIV2K)""")
    return 0 if gain > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
