"""The work of quickstart.sh: pack sample photographs, train a small RNAN in BasicSR, score it, show what it restores.

Each step is a command that a user would type; this file adds the photographs and the picture.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from rnan_plugin.options.schema import read_option_file

OPTION_FILE = "options/quickstart_RNAN_CAR_q10.yml"
DATA = Path("datasets/quickstart")
RESULTS = Path("results/quickstart")

# Photographs that scikit-image, a dependency of BasicSR, ships; training and validation share none.
SPLIT = {
    "train": ["brick", "camera", "coffee", "coins", "grass", "gravel", "motorcycle_left", "rocket"],
    "val": ["astronaut", "chelsea"],
}


def run(*arguments: str) -> None:
    """Run Python with arguments, and show them."""
    print("$ python", *arguments, flush=True)
    subprocess.run([sys.executable, *arguments], check=True)


def pack_photographs() -> None:
    """Pack the sample photographs into LMDBs, unless that is done."""
    spec = importlib.util.find_spec("skimage.data")
    assert spec is not None
    source = Path(str(spec.origin)).parent
    for part, names in SPLIT.items():
        if (DATA / f"{part}.lmdb").exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                (file,) = source.glob(f"{name}.[pj]*g")
                shutil.copy(file, folder)
            run("-m", "rnan_plugin", "prepare", folder, str(DATA / f"{part}.lmdb"))


def train(experiment: Path) -> None:
    """Train with BasicSR's own script, or go on where an interrupted run stopped, unless it is finished."""
    if (experiment / "models/net_g_latest.pth").exists():
        print(f"{experiment} is trained already (remove it to train again)")
        return
    begun = any((experiment / "training_states").glob("*.state"))
    run("basicsr/train.py", "-opt", OPTION_FILE, *(["--auto_resume"] if begun else []))


def compare(weights: Path) -> float:
    """Score input and restored photographs side by side, and write the figure; return the mean gain in dB."""
    from rnan_plugin.evaluation.comparison import compare as run_comparison
    from rnan_plugin.evaluation.figure import write_figure

    methods = {
        "JPEG, quality 10": {"type": "input"},
        "restored": {"type": "network", "opt": OPTION_FILE, "weights": str(weights)},
    }
    content = {"task": "car", "level": 10, "sets": [str(DATA / "val.lmdb")], "timing_side": 64, "methods": methods}
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / "comparison.yml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    means = run_comparison(str(file), RESULTS)
    for name in SPLIT["val"]:
        write_figure(RESULTS / "comparison", "val", name, RESULTS / name, overwrite=True)
    return means["restored"][0].mean.psnr - means["JPEG, quality 10"][0].mean.psnr


def main() -> int:
    """Run all steps; return 1 if the restored photographs are no better than the input."""
    os.chdir(Path(__file__).resolve().parent.parent)
    experiment = Path("experiments", read_option_file(OPTION_FILE)["name"])
    pack_photographs()
    train(experiment)
    gain = compare(experiment / "models/net_g_latest.pth")
    print(f"""
Restored photographs gain {gain:+.2f} dB. Look at {RESULTS}/astronaut.png and {RESULTS}/comparison/report.html, then:
  .venv/bin/tensorboard --logdir tb_logger                                curves and image panels
  .venv/bin/rnan doctor                                                   is everything in order?
  .venv/bin/rnan prepare FOLDER datasets/NAME.lmdb                        your own images
  .venv/bin/python basicsr/train.py -opt options/train_RNAN_CAR_q10.yml   the paper's training (needs DIV2K)""")
    return 0 if gain > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
