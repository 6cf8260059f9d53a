"""LQ and ground truth of a whole image, as validation sees them."""

from __future__ import annotations

from rnan_plugin.data.image_store import ImageStore
from rnan_plugin.errors import UserError
from rnan_plugin.images.color import convert_channels
from rnan_plugin.images.degradations import Image, image_stream
from rnan_plugin.paper.tasks import TaskAtLevel


def pair(task: TaskAtLevel, store: ImageStore, name: str) -> tuple[Image, Image]:
    """LQ (h, w, C) and ground truth (h*scale, w*scale, C) of a stored image, 8 bits.

    Raises:
        UserError: The image can't be read, or is smaller than the scale; names it.
    """
    return pair_of(task, store.read(name), store.path(name))


def pair_of(task: TaskAtLevel, img: Image, source: str) -> tuple[Image, Image]:
    """As `pair`, of an image (H, W, 3) RGB or (H, W, 1) grey; `source` names it in errors."""
    gt = convert_channels(img, task.row.channels, source)
    scale = task.scale
    gt = gt[: gt.shape[0] // scale * scale, : gt.shape[1] // scale * scale]
    if gt.size == 0:
        raise UserError(f"{source}: smaller than the scale {scale}; take the image out")
    return task.degradation(gt, image_stream(gt, task.noise_seed)).astype("uint8", copy=False), gt
