"""What `rnan restore` gains or loses where nobody names a level, beside the best weights of the package for that level.

    python benchmarks/auto.py datasets/Kodak24
    python benchmarks/auto.py datasets/Kodak24 --estimates

JPEG files of quality 10 to 95 and noise of sigma 0 to 70, in steps of 5, in colour and in grey. The level is found in
the whole image, the gain in PSNR over the degraded image measured in its middle. Prints a table in Markdown; with
`--estimates` that of the sigma that is found, in its place.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np

from rnan_plugin.data.image_files import list_images
from rnan_plugin.images.codec import read_file
from rnan_plugin.images.color import convert_channels
from rnan_plugin.images.degradations import Awgn, Image, image_stream
from rnan_plugin.images.eight_bit import decode_image
from rnan_plugin.images.estimate import noise_sigma
from rnan_plugin.images.metrics import psnr
from rnan_plugin.inference.choose import choose
from rnan_plugin.inference.networks import load_network
from rnan_plugin.inference.pick import Worker
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.restorer import Restorer, RestoreSettings
from rnan_plugin.inference.shipped import ShippedNetwork, default_networks
from rnan_plugin.paper.tasks import TASKS

Case = tuple[str, float, list[tuple[bytes, Image, Image]]]  # task, level, files with their pixels and the clean image


def cases(images: list[Image], step: int) -> Iterator[Case]:
    """Each task's levels with the degraded images."""
    for quality in range(10, 96, step):
        files = [jpeg(img, quality) for img in images]
        yield "car", quality, [(code, decode_image(code, "jpeg"), img) for code, img in zip(files, images, strict=True)]
    task = "colordn" if images[0].shape[2] == 3 else "graydn"
    for sigma in range(0, 71, step):
        noise = [np.asarray(Awgn(sigma)(img, image_stream(img, 0)), np.uint8) for img in images]
        yield task, sigma, [(b"", noisy, img) for noisy, img in zip(noise, images, strict=True)]


def jpeg(img: Image, quality: int) -> bytes:
    """A JPEG file as cameras and libjpeg write it, 4:2:0."""
    bgr = cv2.cvtColor(img, cv2.COLOR_RGB2BGR) if img.shape[2] == 3 else img
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


class Gains:
    """Gains of networks on the middle of images.

    Args:
        side: Of the middle, in pixels.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self._restorers: dict[Path, Restorer] = {}

    def __call__(self, network: ShippedNetwork | None, lq: Image, gt: Image) -> float:
        """The gain in dB; 0 of no network."""
        if network is None:
            return 0.0
        if network.file not in self._restorers:
            loaded = load_network(None, str(network.file))
            settings = RestoreSettings(Policy(), channels=TASKS[network.task].channels)
            self._restorers[network.file] = Restorer(loaded.net, loaded.channels, settings)
        lq, gt = self._middle(lq), self._middle(gt)
        worker = Worker(self._restorers[network.file], {}, takes_luma=network.channels == "y")
        restored, _ = worker.restore(lq, "image")
        return min(psnr(restored, gt), 99.0) - min(psnr(lq, gt), 99.0)

    def _middle(self, img: Image) -> Image:
        # On the grid of 8 pixels that JPEG has.
        top, left = (max(0, (length - self.side) // 16 * 8) for length in img.shape[:2])
        return np.ascontiguousarray(img[top : top + self.side, left : left + self.side])


def print_estimates(images: list[Image]) -> None:
    """A table of the sigma that is found in images with noise."""
    print(
        "| sigma | mean found | lowest | highest | root mean square error | none found in |\n|---|---|---|---|---|---|"
    )
    for sigma in (0, 2, 5, 10, 25, 50, 70):
        noisy = (np.asarray(Awgn(sigma)(img, image_stream(img, 0)), np.uint8) for img in images)
        found = np.array([noise_sigma(img) for img in noisy])
        error = np.sqrt(np.mean(np.square(found - sigma)))
        row = (
            sigma,
            *(f"{value:.1f}" for value in (found.mean(), found.min(), found.max(), error)),
            (found == 0).sum(),
        )
        print("| " + " | ".join(map(str, row)) + f" of {len(images)} |")


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("image_set", type=Path)
    parser.add_argument("--side", type=int, default=64, help="of the middle that is restored (default: 64)")
    parser.add_argument("--step", type=int, default=5, help="between levels (default: 5)")
    parser.add_argument("--estimates", action="store_true", help="the table of estimates alone")
    args = parser.parse_args()
    colour = [decode_image(read_file(path), str(path)) for path in list_images(args.image_set)]
    if args.estimates:
        print_estimates(colour)
        return 0
    gains = Gains(args.side)
    print("| input | level | gain (dB) | left alone | best weights | their gain (dB) |\n|---|---|---|---|---|---|")
    for kind, images in (("colour", colour), ("grey", [convert_channels(img, "gray", "") for img in colour])):
        for task, level, files in cases(images, args.step):
            chosen = [choose(code, lq).network for code, lq, _ in files]
            able = [network for network in default_networks() if network.task == task and fits(network, kind)]
            near = [network for network in able if network.is_near(level)]
            each = {network: [gains(network, lq, gt) for _, lq, gt in files] for network in {*near, *chosen}}
            auto = fmean(each[network][number] for number, network in enumerate(chosen))
            scores = {str(network): fmean(each[network]) for network in near}
            best = max(scores, key=lambda name: scores[name], default="none")
            row = [kind, f"{task} {level:g}", f"{auto:+.2f}", chosen.count(None), best, f"{scores.get(best, 0.0):+.2f}"]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
    return 0


def fits(network: ShippedNetwork, kind: str) -> bool:
    """Whether a network is for such images: for JPEG in colour those of all channels, and those of luma."""
    return kind == "colour" or network.is_the_tasks


if __name__ == "__main__":
    sys.exit(main())
