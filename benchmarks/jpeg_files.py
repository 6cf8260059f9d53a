"""JPEG files restored by themselves: photographs, and what a network of photographs does not know.

    python benchmarks/jpeg_files.py datasets/Kodak24

Prints what docs/explanations/auto.md says of them: gains, and which files that were saved again are known.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from auto import jpeg
from colourful_mosaics import SIDE, centre
from PIL import Image, ImageDraw, ImageFont

from rnan_plugin.choices import Channels
from rnan_plugin.data.image_store import open_store
from rnan_plugin.errors import exit_status
from rnan_plugin.images.color import Pixels, convert_channels
from rnan_plugin.images.jpeg_history import jpeg_source
from rnan_plugin.images.jpeg_intervals import bring_within
from rnan_plugin.images.metrics import psnr
from rnan_plugin.images.photo import read_photo
from rnan_plugin.inference.pick import PackagePick, restore_photo
from rnan_plugin.inference.restorer import RestoreSettings

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


def as_png(img: Pixels) -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    Image.fromarray(img[..., 0] if img.shape[2] == 1 else img).save(file, "PNG", compress_level=1)
    return file.getvalue()


@dataclass(frozen=True)
class How:
    """How an image became a file: a JPEG, perhaps cropped at its top and left, perhaps saved again.

    Args:
        quality: Of the JPEG.
        again: Of the JPEG that it was saved as then; 0: as PNG; None: it was not saved again.
        crop: Rows and columns that were cut off in between.
    """

    quality: int
    again: int | None = None
    crop: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        """For a table."""
        then = {None: "", 0: ", then PNG"}.get(self.again, f", then {self.again}")
        return f"{self.quality}{then}" + (f", cropped by {self.crop}" if any(self.crop) else "")

    def __call__(self, img: Pixels) -> tuple[bytes, Pixels]:
        """The file, and what it should look like."""
        code = jpeg(img, self.quality)
        top, left = self.crop
        if self.again is None:
            return code, img
        decoded = read_photo(code, "a.jpg").pixels[top:, left:]
        return jpeg(decoded, self.again) if self.again else as_png(decoded), img[top:, left:]


AGAIN = [
    *(How(quality, 0) for quality in (10, 20, 50, 75, 90, 95)),
    *(How(*both) for both in ((20, 90), (20, 98), (75, 95), (20, 75), (30, 85), (50, 90))),
]
ONCE = [How(quality) for quality in (50, 75, 85, 90, 95)]
SAVED_AGAIN = [
    *(How(quality, 0) for quality in (20, 50, 75, 90)),
    How(50, 0, CROPS[1]),
    *(How(*both) for both in ((20, 90), (20, 98), (75, 95))),
    How(20, 90, CROPS[1]),
]
BOTH: tuple[Channels, ...] = ("rgb", "gray")


def gains(img: Pixels, how: How) -> Iterator[tuple[float, float]]:
    """In dB over the file, of an image in colour and in grey: by the network alone, and by what a user gets."""
    for channels in BOTH:
        code, clean = how(convert_channels(img, channels, ""))
        photo = read_photo(code, "a file")
        worker, _ = PackagePick(RestoreSettings(), "car")(code, photo.pixels)
        if worker is not None:
            alone = restore_photo(photo, replace(worker, source=None), "a file")[0].pixels
            before = psnr(photo.pixels, clean)
            by_network = psnr(alone, clean) - before
            if worker.source:
                bring_within(photo.pixels, alone, worker.source)
            yield by_network, psnr(alone, clean) - before


def is_known(img: Pixels, how: How) -> bool:
    """Whether a file tells the quality that it had first; of several with the same steps the highest is told."""
    code, _ = how(img)
    source = jpeg_source(code, read_photo(code, "a file").pixels)
    return source is not None and abs(source.quality - how.quality) <= 1


def print_gains(images: dict[str, list[Pixels]]) -> None:
    """A table of gains."""
    columns = ["images", "quality", "network alone, worst", "mean", "within the file's intervals, worst", "mean"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for how in (*ONCE, *SAVED_AGAIN):
        for kind, some in images.items():
            both = np.array([pair for img in some for pair in gains(img, how)])
            cells = [f"{value:+.2f}" for column in both.T for value in (column.min(), column.mean())]
            print("| " + " | ".join([kind, str(how), *cells]) + " |", flush=True)


def print_known(photos: list[Pixels], images: list[Pixels]) -> None:
    """In how many photographs the first of two files is known, and in how many images one is seen that never was."""
    print("| cropped by | " + " | ".join(map(str, AGAIN)) + " |\n|" + "---|" * (len(AGAIN) + 1))
    for crop in CROPS:
        cells = [sum(is_known(img, replace(how, crop=crop)) for img in photos) for how in AGAIN]
        print("| " + " | ".join([str(crop), *(f"{known} of {len(photos)}" for known in cells)]) + " |", flush=True)
    files = [as_png(convert_channels(img, channels, "")) for img in images for channels in BOTH]
    found = [jpeg_source(code, read_photo(code, "a.png").pixels) is not None for code in files]
    once = [is_known(img, How(quality)) for img in images for quality in (5, 10, 20, 50, 75, 90, 95, 100)]
    print(f"never a JPEG, taken for one: {sum(found)} of {len(found)}")
    print(f"saved once, known by their own quality: {sum(once)} of {len(once)}")


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", help="folder of photographs")
    store = open_store(parser.parse_args().images, is_lmdb=False)
    photos = [centre(store.read(name)) for name in list(store.names)[::3]]
    print_known(photos, [*photos, *others(photos)])
    print_gains({"photographs": photos, "others": others(photos)})
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
