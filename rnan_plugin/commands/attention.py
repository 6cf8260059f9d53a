"""Picture what the attention looks at: non-local blocks from a chosen pixel, and the mixed attention masks.

    python scripts/attention_maps.py photo.png maps.png --pixel 120 200 --task car --level 10
    python scripts/attention_maps.py photo.png maps.png --pixel 120 200 --weights RNAN_F64G10P48L2N30.pt

Each non-local block: bright where it takes from for the pixel (row, column), marked with a cross. Each mask: its mean
over the features; bright is let through. Exact on the whole image, in memory linear in its pixels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
import torch

mpl.use("Agg")
from matplotlib import pyplot as plt

from rnan_plugin.images.color import convert_channels
from rnan_plugin.images.codec import decode_image, read_file
from rnan_plugin.images.tensors import to_tensor
from rnan_plugin.paper.tasks import TASKS, TaskAtLevel
from rnan_plugin.errors import exit_status
from rnan_plugin.files import atomic_path
from rnan_plugin.inference.attention_maps import mixed_masks, non_local_maps
from rnan_plugin.inference.networks import load_network
from rnan_plugin.inference.restorer import as_mosaic

_COLUMNS = 4


def draw(args: argparse.Namespace) -> None:
    """Compute the maps and write the picture."""
    setting = TaskAtLevel(args.task, args.level) if args.task else None
    loaded = load_network(args.opt, args.weights, setting)
    img = decode_image(read_file(args.image), str(args.image))
    if setting is not None and setting.name == "demosaic":
        img = as_mosaic(img, str(args.image))
    channels = setting.task.channels if setting is not None else loaded.channels or "gray"
    img = convert_channels(img, channels, str(args.image))
    lq = to_tensor(img)[None]
    row, column = args.pixel
    looked = non_local_maps(loaded.net, lq, row, column)
    masks = mixed_masks(loaded.net, lq)
    pictures = [
        ("input", img.squeeze(), "gray"),
        *((name, _brightness(values), "magma") for name, values in looked.items()),
    ]
    pictures += [(f"{name} (mean)", values.mean(0), "viridis") for name, values in masks.items()]
    rows = -(-len(pictures) // _COLUMNS)
    side = 3.4
    shape = side * _COLUMNS, (side * img.shape[0] / img.shape[1] + 0.4) * rows
    figure, axes = plt.subplots(rows, _COLUMNS, figsize=shape, layout="constrained", squeeze=False)
    for place in axes.flat:
        place.axis("off")
    for place, (name, values, colours) in zip(axes.flat, pictures, strict=False):
        place.imshow(values, cmap=colours)
        place.set_title(name, fontsize=9)
        if name in looked or name == "input":
            place.plot(column, row, "+", color="cyan", markersize=12)
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(args.picture) as temporary:
        figure.savefig(temporary, dpi=110)


def _brightness(weights: torch.Tensor) -> torch.Tensor:
    """Of weights that differ by orders of magnitude: their square root up to the 99.9th percentile."""
    return weights.sqrt().clamp(max=weights.sqrt().flatten().kthvalue(max(1, int(0.999 * weights.numel())))[0])


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("image", type=Path, help="input of the network")
    parser.add_argument("picture", type=Path, help="PNG or PDF to write")
    parser.add_argument("--pixel", type=int, nargs=2, required=True, metavar=("ROW", "COLUMN"), help="looked from")
    parser.add_argument("--task", choices=sorted(TASKS), help="take the package's weights")
    parser.add_argument("--level", type=float, help="sigma, JPEG quality or scale of the task")
    parser.add_argument("-opt", metavar="FILE", help="option file: its network_g and path.pretrain_network_g")
    parser.add_argument("--weights", metavar="FILE", help="released weights; with -opt, instead of the file's own")
    args = parser.parse_args()
    draw(args)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
