"""JPEG files restored by themselves: photographs, and what a network of photographs does not know.

    python benchmarks/jpeg_files.py datasets/Kodak24

Prints what docs/explanations/auto.md says of them: gains, and which files are seen to have been saved again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from auto import jpeg
from colourful_mosaics import SIDE, centre
from PIL import Image, ImageDraw, ImageFont

from rnan_plugin.data.image_store import open_store
from rnan_plugin.errors import exit_status
from rnan_plugin.images.color import Channels, Pixels, convert_channels
from rnan_plugin.images.estimate import steps_of_luma
from rnan_plugin.images.jpeg_history import was_coarser
from rnan_plugin.images.jpeg_intervals import bring_within
from rnan_plugin.images.metrics import psnr
from rnan_plugin.images.photo import read_photo
from rnan_plugin.inference.pick import PackagePick, restore_photo
from rnan_plugin.inference.restorer import RestoreSettings

QUALITIES = (50, 75, 85, 90, 95)
AGAIN = ((20, 90), (20, 95), (75, 95), (20, 75), (30, 85), (50, 90))  # quality before, and now
CROPS = ((0, 0), (3, 6), (0, 2))
WORDS = [
    "The quick brown fox",
    "jumps over",
    "a lazy dog",
    "while",
    "networks attend",
    "to 1234567890",
    "pixels",
    "(non-local)",
    "and more",
]


def page(size: float, ink: str, paper: str, seed: int = 0) -> Image.Image:
    """A page of words."""
    rng, font = np.random.default_rng(seed), ImageFont.load_default(size)
    img = Image.new("RGB", (SIDE, SIDE), paper)
    for top in range(4, SIDE, int(1.4 * size)):
        ImageDraw.Draw(img).text((4, top), " ".join(rng.choice(WORDS, 9)), ink, font)
    return img


def screen() -> Image.Image:
    """A window with fields and buttons."""
    img = Image.new("RGB", (SIDE, SIDE), "#f0f0f5")
    draw, font = ImageDraw.Draw(img), ImageFont.load_default(11)
    draw.rectangle((0, 0, SIDE, 24), "#34568b")
    draw.text((8, 6), "File  Edit  View  Help", "white", font)
    for item, top in enumerate(range(34, SIDE - 28, 36)):
        draw.rectangle((8, top, 120, top + 28), "white", "#78788a")
        draw.text((14, top + 8), f"Item {item} of 6", "black", font)
        draw.rounded_rectangle((134, top, 240, top + 28), 6, ("#c83c32", "#3ca050", "#465ac8")[item % 3])
        draw.text((150, top + 8), "Apply", "white", font)
    return img


def drawing(seed: int = 0) -> Image.Image:
    """Black lines and ellipses on white."""
    rng, img = np.random.default_rng(seed), Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(img)
    for _ in range(40):
        draw.line(rng.integers(0, SIDE, 4).tolist(), "black", int(rng.integers(1, 3)))
    for left, top, width in rng.integers(20, 220, (10, 3)).tolist():
        draw.ellipse((left, top, left + width // 5, top + width // 5), outline="black")
    return img


def others(photos: list[Pixels]) -> list[Pixels]:
    """What is no photograph, or not alone."""
    colours = [(13, "#dcdcc8", "#1e1e28"), (14, "#c81e28", "#e6f0ff"), (13, "#6e6e6e", "#a0a0a0")]
    pages = [page(*how) for how in [*((size, "black", "white") for size in (10, 13, 18, 28)), *colours]]
    half, captioned = page(13, "black", "white"), Image.fromarray(photos[1])
    half.paste(Image.fromarray(photos[0][: SIDE // 2]), (0, SIDE // 2))
    font = ImageFont.load_default(22)
    ImageDraw.Draw(captioned).text((10, 200), "a caption on it", "white", font, stroke_width=1, stroke_fill="black")
    return [np.asarray(img) for img in (*pages, screen(), drawing(), half, captioned)]


def gains(img: Pixels, quality: int) -> Iterator[tuple[float, float]]:
    """In dB over the file, of an image in colour and in grey: by the network alone, and by what a user gets."""
    both: tuple[Channels, ...] = ("rgb", "gray")
    for channels in both:
        clean = convert_channels(img, channels, "")
        code = jpeg(clean, quality)
        photo = read_photo(code, "a.jpg")
        worker, _ = PackagePick(RestoreSettings(), "car")(code, photo.pixels)
        if worker is not None:
            alone = restore_photo(photo, replace(worker, steps=()), "a.jpg")[0].pixels
            before = psnr(photo.pixels, clean)
            by_network = psnr(alone, clean) - before
            if worker.steps:
                bring_within(photo.pixels, alone, worker.steps)
            yield by_network, psnr(alone, clean) - before


def is_seen_as_saved_again(code: bytes) -> bool:
    """Whether a file's image seems to have been a JPEG of larger steps before."""
    return was_coarser(read_photo(code, "a.jpg").pixels, steps_of_luma(code))


def again(img: Pixels, before: int, now: int, crop: tuple[int, int]) -> bytes:
    """A JPEG file of one quality, opened, cropped at its top and left, and saved with another."""
    top, left = crop
    return jpeg(read_photo(jpeg(img, before), "a.jpg").pixels[top:, left:], now)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", help="folder of photographs")
    store = open_store(parser.parse_args().images, is_lmdb=False)
    photos = [centre(store.read(name)) for name in list(store.names)[::3]]
    print(
        "| images | quality | network alone, worst | mean | within the file's intervals, worst | mean |\n|" + "---|" * 6
    )
    for kind, images in (("photographs", photos), ("others", others(photos))):
        for quality in QUALITIES:
            both = np.array([pair for img in images for pair in gains(img, quality)])
            cells = [f"{value:+.2f}" for column in both.T for value in (column.min(), column.mean())]
            print("|", " | ".join([kind, str(quality), *cells]), "|", flush=True)
    once = [is_seen_as_saved_again(jpeg(img, quality)) for img in [*photos, *others(photos)] for quality in QUALITIES]
    print(f"saved once, taken for saved again: {sum(once)} of {len(once)}")
    for crop in CROPS:
        for before, now in AGAIN:
            found = [is_seen_as_saved_again(again(img, before, now, crop)) for img in photos]
            print(
                f"quality {before}, cropped by {crop}, saved again at {now}: {sum(found)} of {len(found)} found",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
