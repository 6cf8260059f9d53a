"""The README's picture: sample photographs degraded, restored with the weights in the package, and as they were.

python tools/sample_picture.py docs/restored.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
import skimage.data

mpl.use("Agg")
from matplotlib import pyplot as plt
from small_models import restored_sample

from rnan_plugin.images.degradations import Image
from rnan_plugin.inference.shipped import shipped_tasks
from rnan_plugin.paper.tasks import TaskAtLevel

SIDE = 160


def photograph(task: TaskAtLevel) -> Image:
    """Part of a photograph that comes with scikit-image, (SIDE, SIDE, 3)."""
    astronaut = task.row.channels == "rgb" and task.level is not None
    whole, left = (skimage.data.astronaut(), 150) if astronaut else (skimage.data.chelsea(), 120)
    return whole[40 : 40 + SIDE, left : left + SIDE]


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("picture", type=Path, help="PNG to write")
    args = parser.parse_args()
    settings = shipped_tasks()
    size = 2.2 * len(settings) + 0.2, 7.2
    figure, axes = plt.subplots(3, len(settings), figsize=size, layout="constrained", squeeze=False)
    for column, task in enumerate(settings):
        *images, psnr = restored_sample(task, photograph(task))
        titles = [task.title, f"restored, {psnr:.2f} dB", "ground truth"]
        for place, img, title in zip(axes[:, column], images, titles, strict=True):
            place.imshow(img.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            place.set_title(title, fontsize=9)
            place.axis("off")
    figure.savefig(args.picture, dpi=80)
    return 0


if __name__ == "__main__":
    sys.exit(main())
