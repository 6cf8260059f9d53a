"""Mosaics of colours that photographs seldom have: a network for them beside Menon's method.

    python benchmarks/colourful_mosaics.py datasets/Kodak24
    python benchmarks/colourful_mosaics.py datasets/Kodak24 --weights FILE

Mean PSNR over centres of 256×256 pixels of every fourth image, whose colours are moved away from their grey by a
factor, as they are and with the channels turned: a network that has seen photographs alone takes a channel's usual
likeness to the others for granted.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from rnan_plugin.data.augmentation import recoloured
from rnan_plugin.data.image_store import open_store
from rnan_plugin.errors import exit_status
from rnan_plugin.evaluation.classical import classical
from rnan_plugin.images.degradations import Image
from rnan_plugin.images.metrics import psnr
from rnan_plugin.inference.networks import load_network
from rnan_plugin.inference.restorer import Restorer, RestoreSettings
from rnan_plugin.inference.shipped import shipped_file
from rnan_plugin.paper.tasks import TaskAtLevel

FACTORS, TURNS, EVERY, SIDE = (1, 2, 3), {"RGB": [0, 1, 2], "GBR": [1, 2, 0]}, 4, 256


def centre(img: Image) -> Image:
    """(H, W, 3) cut to `SIDE`."""
    top, left = ((length - SIDE) // 2 for length in img.shape[:2])
    return img[top : top + SIDE, left : left + SIDE]


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", help="folder of ground truth")
    parser.add_argument("--weights", help="checkpoint (default: the package's)")
    args = parser.parse_args()
    task = TaskAtLevel("demosaic", None)
    net = load_network(None, args.weights or str(shipped_file(task)), task).net
    network, menon = Restorer(net, None, RestoreSettings(), task), classical("menon", task)
    store = open_store(args.images, is_lmdb=False)
    originals = [centre(store.read(name)) for name in list(store.names)[1::EVERY]]
    for factor in FACTORS:
        for name, turn in TURNS.items():
            scores = []
            for img in originals:
                rng = np.random.default_rng()  # of which nothing depends: one factor, and a mosaic has no noise
                gt = recoloured(img[..., turn], rng, permute=False, saturation=[factor, factor])
                lq = task.degradation(gt, rng).astype(np.uint8)
                scores.append((psnr(network(lq, name)[0], gt), psnr(menon(lq, name), gt)))
            ours, theirs = np.mean(scores, axis=0)
            print(f"colours times {factor}, {name}: network {ours:.2f} dB, Menon {theirs:.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
