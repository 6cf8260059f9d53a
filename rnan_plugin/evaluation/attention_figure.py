"""A figure of what a network's attention looks at on one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rnan_plugin.evaluation.plotting import pyplot, save_picture
from rnan_plugin.images.codec import read_file
from rnan_plugin.images.color import convert_channels
from rnan_plugin.images.eight_bit import decode_image
from rnan_plugin.images.tensors import to_tensor
from rnan_plugin.inference.attention_maps import mixed_masks, non_local_maps
from rnan_plugin.inference.networks import Loaded
from rnan_plugin.inference.restorer import as_mosaic
from rnan_plugin.paper.tasks import TaskAtLevel

_COLUMNS = 4
_SIDE = 3.4  # inches of a picture

Picture = tuple[str, NDArray[Any] | torch.Tensor, str]  # title, values, colours


def draw(loaded: Loaded, image: Path, picture: Path, pixel: tuple[int, int], task: TaskAtLevel | None) -> None:
    """Compute the maps of an image and write the figure.

    Args:
        loaded: The network.
        image: Its input.
        picture: File to write, as `picture_file` gives it.
        pixel: Row and column that the non-local blocks are looked at from.
        task: What the network is for, if that is known.

    Raises:
        UserError: The image can't be read, the pixel lies outside, the network has no attention, no matplotlib,
            or the picture can't be written.
    """
    plt = pyplot()
    img = decode_image(read_file(image), str(image))
    if task is not None and task.row.degradation == "mosaic":
        img = as_mosaic(img, str(image))
    channels = task.row.channels if task is not None else loaded.channels or "gray"
    img = convert_channels(img, channels, str(image))
    lq = to_tensor(img)[None]
    looked = non_local_maps(loaded.net, lq, *pixel)
    pictures: list[Picture] = [("input", img[..., 0] if img.shape[2] == 1 else img, "gray")]
    pictures += [(name, _brightness(values), "magma") for name, values in looked.items()]
    masks = mixed_masks(loaded.net, lq)
    pictures += [(f"{name} (mean)", values.mean(0), "viridis") for name, values in masks.items()]
    rows = -(-len(pictures) // _COLUMNS)
    shape = _SIDE * _COLUMNS, (_SIDE * img.shape[0] / img.shape[1] + 0.4) * rows
    figure, axes = plt.subplots(rows, _COLUMNS, figsize=shape, layout="constrained", squeeze=False)
    for place in axes.flat:
        place.axis("off")
    for place, (name, values, colours) in zip(axes.flat, pictures, strict=False):
        place.imshow(np.asarray(values), cmap=colours)
        place.set_title(name, fontsize=9)
        if name in looked or name == "input":
            place.plot(pixel[1], pixel[0], "+", color="cyan", markersize=12)
    save_picture(figure, picture, dpi=110)


def _brightness(weights: torch.Tensor) -> torch.Tensor:
    """Of weights that differ by orders of magnitude: their square root up to the 99.9th percentile."""
    return weights.sqrt().clamp(max=weights.sqrt().flatten().kthvalue(max(1, int(0.999 * weights.numel())))[0])
