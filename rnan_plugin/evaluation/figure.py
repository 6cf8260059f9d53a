"""A figure as the paper's: ground truth with a marked region, then that region in each method and the ground truth."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rnan_plugin.errors import UserError, said_by
from rnan_plugin.evaluation.classical import CLASSICAL
from rnan_plugin.evaluation.comparison_file import GROUND_TRUTH, file_name
from rnan_plugin.evaluation.plotting import picture_file, pyplot, save_picture
from rnan_plugin.images.codec import read_file
from rnan_plugin.images.degradations import Image
from rnan_plugin.images.eight_bit import decode_image
from rnan_plugin.targets import is_folder, why_no_file

_INPUTS = {CLASSICAL[name].source for name in ("input", "bicubic")}

Region = tuple[int, int, int, int]  # left, top, width, height

_MARK = "#ff5a00"
_DIFFERENCE_LEVELS = 40  # of 255, that are white in a difference map


def read_methods(folder: Path, image_set: str, name: str) -> tuple[dict[str, Image], dict[str, str], list[str]]:
    """Images by method in the table's order, their captions, and which of the methods are the input itself.

    Raises:
        UserError: The folder is no comparison's, or has no such image.
    """
    table, images = folder / "table.json", folder / "images" / image_set / name
    if reason := why_no_file(table):
        raise UserError(f"{table}: {reason}; name the folder of a comparison, which `rnan compare` writes")
    if not is_folder(images):
        there = ", ".join(sorted(str(file.relative_to(folder / "images")) for file in folder.glob("images/*/*")))
        raise UserError(f"{images}: no such image; there are: {there[:300]}")
    try:
        captions, inputs = _told_by(json.loads(table.read_text(encoding="utf-8")), image_set, name)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{table}: damaged ({said_by(error)}); run the comparison again") from None
    if not captions or None in captions.values():
        raise UserError(f"{table}: no scores of {image_set}/{name}; run the comparison again")
    files = {method: images / f"{file_name(method)}.png" for method in captions}
    pictures = {method: decode_image(read_file(file), str(file)) for method, file in files.items()}
    return pictures, {method: str(caption) for method, caption in captions.items()}, inputs


def _told_by(table: Any, image_set: str, name: str) -> tuple[dict[str, str | None], list[str]]:
    """By method the caption of an image, None without scores; and which methods are the input itself."""
    captions: dict[str, str | None] = {}
    inputs = []
    for method, entry in table.items():
        row: Any = next((item for item in entry["sets"] if item["image_set"] == image_set), {"images_scores": {}})
        scores = row["images_scores"].get(name)
        captions[method] = _caption(scores) if scores is not None else None
        inputs += [method] if row.get("source") in _INPUTS else []
    return captions, inputs


def _caption(scores: dict[str, Any]) -> str:
    psnr = math.inf if scores["psnr"] is None else scores["psnr"]
    return f"{psnr:.2f} / {scores['ssim']:.4f}"


def most_different(pictures: list[Image], width: int, height: int) -> Region:
    """The region in which the methods' results vary most."""
    variance = np.stack([img.mean(axis=2) for img in pictures]).var(axis=0)
    sums = cv2.boxFilter(variance, -1, (width, height), anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT)
    inside = sums[: sums.shape[0] - height + 1, : sums.shape[1] - width + 1]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(left), int(top), width, height


def cut(img: Image, region: Region) -> Image:
    """The region of an image (H, W, C)."""
    left, top, width, height = region
    return img[top : top + height, left : left + width]


def difference(img: Image, gt: Image) -> NDArray[np.float64]:
    """Distance to the ground truth, (H, W), mean over the channels."""
    return np.abs(img.astype(np.float64) - gt).mean(axis=2)


def show(axes: Any, img: NDArray[Any], title: str, **kwargs: Any) -> None:
    """One picture without axes."""
    axes.imshow(img.squeeze(), cmap="gray", interpolation="nearest", **kwargs)
    axes.set_xlabel(title, fontsize=9)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw(gt: Image, pictures: dict[str, Image], captions: dict[str, str], region: Region, *, maps: bool) -> Any:
    """The figure."""
    crops = [(f"{method}\n{captions[method]}", cut(img, region)) for method, img in pictures.items()]
    crops.append(("ground truth\nPSNR (dB) / SSIM", cut(gt, region)))
    columns = -(-len(crops) // 2)
    rows = 3 if maps else 2
    plt = pyplot()
    from matplotlib.patches import Rectangle

    figure = plt.figure(figsize=(3.6 + 2.1 * columns, 2.3 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, columns + 2)
    whole = figure.add_subplot(grid[:2, :2])
    show(whole, gt, "ground truth", vmin=0, vmax=255)
    whole.add_patch(Rectangle(region[:2], region[2], region[3], fill=False, edgecolor=_MARK, linewidth=1.5))
    for index, (title, img) in enumerate(crops):
        place = grid[index // columns, 2 + index % columns]
        show(figure.add_subplot(place), img, title, vmin=0, vmax=255)
    if maps:
        bottom = grid[2, :].subgridspec(1, len(pictures))
        for index, (method, img) in enumerate(pictures.items()):
            values = difference(cut(img, region), cut(gt, region))
            show(figure.add_subplot(bottom[index]), values, f"|{method} - gt|", vmin=0, vmax=_DIFFERENCE_LEVELS)
    return figure


def write_figure(
    comparison: Path,
    image_set: str,
    image: str,
    figure: Path,
    *,
    region: Region | None = None,
    size: tuple[int, int] = (80, 60),
    maps: bool = False,
    overwrite: bool = False,
) -> Region:
    """Write FIGURE.png and FIGURE.pdf of one image of a comparison.

    Args:
        comparison: Folder that `rnan compare` wrote.
        image_set: Name of the set.
        image: Name of the image.
        figure: File to write, without ending.
        region: What to enlarge; left out, where the methods differ most.
        size: Width and height of a chosen region, at most the image's.
        maps: Add a row with the distance to the ground truth.
        overwrite: Replace files that are there already.

    Returns:
        The region.

    Raises:
        UserError: No such comparison or image, the region lies outside, no matplotlib, or a file that is there or can't
            be written.
    """
    written = [picture_file(figure.with_name(figure.name + end), overwrite=overwrite) for end in (".png", ".pdf")]
    pictures, captions, inputs = read_methods(comparison, image_set, image)
    if not inputs:
        print("no crop of the input: the comparison has no method of type input or bicubic", file=sys.stderr)
    file = comparison / "images" / image_set / image / f"{GROUND_TRUTH}.png"
    gt = decode_image(read_file(file), str(file))
    if min(size) < 1:
        raise UserError(f"size: {size[0]} {size[1]} is of no region; name a width and a height of 1 or more")
    size = (min(size[0], gt.shape[1]), min(size[1], gt.shape[0]))
    left, top, width, height = region or (0, 0, *size)
    if min(left, top) < 0 or left + width > gt.shape[1] or top + height > gt.shape[0] or min(width, height) < 1:
        raise UserError(f"region {left} {top} {width} {height}: not within {gt.shape[1]}×{gt.shape[0]} pixels")
    if region is None:
        restored = [img for method, img in pictures.items() if method not in inputs]
        region = most_different(restored if len(restored) > 1 else list(pictures.values()), *size)
    drawn = draw(gt, pictures, captions, region, maps=maps)
    for picture in written:
        save_picture(drawn, picture, dpi=160)
    return region
