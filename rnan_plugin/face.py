"""What a Python program uses: images restored, networks loaded, image sets scored. `import rnan_plugin` shows it."""

from __future__ import annotations

from functools import lru_cache
from numbers import Real
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import nn

from rnan_plugin.archs.official_weights import load_released
from rnan_plugin.choices import ONE_CHANNEL, AskedPrecision, OneChannel, PolicyName
from rnan_plugin.errors import UserError, nearest, shown
from rnan_plugin.evaluation.evaluate import Evaluation
from rnan_plugin.evaluation.evaluate import evaluate as evaluate_method
from rnan_plugin.evaluation.methods import MethodSource, build_method
from rnan_plugin.files import writing
from rnan_plugin.images.codec import read_file
from rnan_plugin.images.photo import Photo, photo_of_pillow, read_photo, split_alpha
from rnan_plugin.images.photo_writer import check_holds, named_format, with_alpha
from rnan_plugin.inference import networks
from rnan_plugin.inference.choose import AUTO
from rnan_plugin.inference.pick import NamedPick, PackagePick, Pick, build_worker, restore_photo
from rnan_plugin.inference.policy import named_policy
from rnan_plugin.inference.restorer import RestoreSettings
from rnan_plugin.inference.results import write_untouched
from rnan_plugin.paper.tasks import TASKS, TaskAtLevel
from rnan_plugin.targets import check_file, expanded, is_file, real

__all__ = ["evaluate", "load_network", "load_released", "restore"]

_KEPT = 8  # networks that were named
_lock = Lock()  # a network restores one image at a time: its threads share the cores already


Photograph = NDArray[np.uint8] | NDArray[np.uint16] | PillowImage.Image | str | Path


def restore(  # noqa: PLR0913 - each is a flag of the command
    image: Photograph,
    task: str | None = AUTO,
    level: float | None = None,
    *,
    out: str | Path | None = None,
    option_file: str | None = None,
    weights: str | None = None,
    channels: OneChannel | None = None,
    policy: PolicyName | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    window: int | None = None,
    self_ensemble: bool = False,
    device: str = "auto",
    precision: AskedPrecision = "float32",
) -> Any:
    """Restore an image as the command does; networks are loaded once and kept. Safe to call from several threads.

    >>> import numpy as np, rnan_plugin
    >>> noisy = np.random.default_rng(0).normal(128, 50, (48, 64, 3)).clip(0, 255).astype(np.uint8)
    >>> restored = rnan_plugin.restore(noisy, task="colordn", level=50)
    >>> restored.shape, restored.dtype, bool(restored.std() < noisy.std())
    ((48, 64, 3), dtype('uint8'), True)

    >>> from PIL import Image
    >>> rnan_plugin.restore(Image.fromarray(noisy)).size  # what it needs is found
    (64, 48)

    Args:
        image: An array of 8 or 16 bits, (H, W, 3) RGB, (H, W, 4) with alpha, (H, W, 1) or (H, W) grey; a Pillow image;
            or the path of a file.
        task: What to restore from: "car", "colordn", "demosaic", "graydn", "sr", a task of yours, or "auto".
        level: JPEG quality, sigma (0..255) or scale; None finds it.
        out: File to write, with profile, camera data and captions of the input; its ending says the format. What is
            there of that name is replaced, unless it is the input.
        option_file: Take its network instead of the package's.
        weights: Take these instead of those that task and level stand for: a training's, an exported or a released
            checkpoint, or the name of a network in the package, such as "colordn_50_medium".
        channels: What a one-channel network restores of colour images: "y" (luma; chroma is kept) or "gray".
        policy: "auto", "whole", "tile" or "release"; see `rnan_plugin.inference.policy.Policy`. Left out, with the
            package's weights, what is fastest on a CPU.
        tile: Side of a tile in pixels of the input.
        overlap: Pixels that neighbouring tiles share.
        window: Side of the windows of a tile within which attention over the keys compares; None: all of the tile, but
            for "auto" where windows are faster.
        self_ensemble: Mean over the eight flips (RNAN+).
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        precision: Of the layers: "float32", "bfloat16", "float16", or "auto", which is bfloat16 where the device is
            faster in it, else float32.

    Returns:
        The restored image: of a Pillow image a Pillow image with its profile and camera data, of others an array of as
        many bits, (H*scale, W*scale, C), upright, two-dimensional where the input was. What nothing in the package
        gains on comes back as it is.

    Raises:
        UserError: The image is not of that form, or no such weights; one line that says what to do.
    """
    task = AUTO if task is None else task
    image = expanded(image) if isinstance(image, str | Path) else image
    out = None if out is None else expanded(out)
    _check(task, level, channels, image, out)
    photo, code = _photo_of(image)
    settings = RestoreSettings(
        named_policy(policy, tile, overlap, window, self_ensemble=self_ensemble), device, precision, channels=channels
    )
    says_policy = any(given is not None for given in (policy, tile, overlap, window))
    named = _task(None if task == AUTO else task, level) if option_file or weights or level is not None else None
    name = str(image) if isinstance(image, str | Path) else "image"
    with _lock:
        pick: Pick = PackagePick(settings, task, level, is_policy_named=says_policy)
        if option_file or weights:
            pick = _named_pick(option_file, weights, named, settings, _as_it_is_now(option_file, weights))
        worker, _ = pick(code, photo.pixels)
        if worker is not None and out is not None:
            check_holds(photo, out)
        result = photo if worker is None else restore_photo(photo, worker, name)[0]
    if out is not None:
        is_named = isinstance(image, str | Path)
        untouched = code if worker is None and is_named else b""
        with writing(out):
            write_untouched(untouched, result, Path(out), called=Path(str(image)).suffix if is_named else "")
    return _like(image, result.upright())


def _check(task: str, level: object, channels: object, image: object, out: str | Path | None) -> None:
    """What would be found only after the image has been restored, or never."""
    if task not in {AUTO, *TASKS}:
        raise UserError(f"task: no '{task}'{nearest(str(task), [AUTO, *TASKS])}")
    if level is not None and (isinstance(level, bool) or not isinstance(level, Real)):
        raise UserError(f"level: {shown(level)} is not a number")
    if channels not in {None, *ONE_CHANNEL}:
        raise UserError(f"channels: {shown(channels)} is not one of {', '.join(ONE_CHANNEL)}")
    if out is None:
        return
    named_format(out)
    if isinstance(image, str | Path) and real(out) == real(image):
        raise UserError(f"out: {out} would replace its input; name another")
    check_file(Path(out))


def _as_it_is_now(*files: str | None) -> tuple[object, ...]:
    """What changes when a file does: a training goes on writing its best weights under one name."""
    found = (Path(file).stat() for file in files if file is not None and is_file(Path(file)))
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in found)


def _photo_of(image: Photograph) -> tuple[Photo, bytes]:
    """An image as a photograph, and its file's content if it has one."""
    if isinstance(image, str | Path):
        code = read_file(Path(image))
        return read_photo(code, str(image)), code
    if isinstance(image, PillowImage.Image):
        return photo_of_pillow(image, "image")
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16) or image.ndim not in {2, 3}:
        raise UserError(
            "image: needs an array of 8 or 16 bits (uint8, uint16), (H, W, 3) RGB or (H, W) grey, a Pillow image, or "
            "the path of a file"
        )
    if image.size == 0 or (image.ndim == 3 and image.shape[2] not in {1, 2, 3, 4}):
        raise UserError(f"image: shape {image.shape} is not (H, W, 3), (H, W, 1) or (H, W) with pixels in it")
    return split_alpha(image if image.ndim == 3 else image[..., None]), b""


def _like(image: Photograph, photo: Photo) -> Any:
    """The restored photograph as its input was given."""
    pixels = with_alpha(photo)
    if isinstance(image, PillowImage.Image):
        result = PillowImage.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
        result.info |= {"icc_profile": photo.metadata.icc} if photo.metadata.icc else {}
        result.info |= {"exif": b"Exif\0\0" + photo.metadata.exif} if photo.metadata.exif else {}
        result.info |= {"dpi": photo.metadata.dpi} if photo.metadata.dpi else {}
        result.info |= {"xmp": photo.metadata.xmp} if photo.metadata.xmp else {}
        return result
    return pixels[..., 0] if isinstance(image, np.ndarray) and image.ndim == 2 and pixels.shape[2] == 1 else pixels


@lru_cache(maxsize=_KEPT)
def _named_pick(
    option_file: str | None,
    weights: str | None,
    task: TaskAtLevel | None,
    settings: RestoreSettings,
    _: tuple[object, ...],
) -> Pick:
    return NamedPick(build_worker(option_file, weights, task, settings))


def _task(task: str | None, level: float | None) -> TaskAtLevel | None:
    if task is None and level is not None:
        raise UserError("level: needs a task, whose level it is")
    return TaskAtLevel(task, level) if task is not None else None


def load_network(
    task: str | None = None, level: float | None = None, *, option_file: str | None = None, weights: str | None = None
) -> nn.Module:
    """Load a network: of the package for a task at a level, of an option file, or of a checkpoint.

    >>> import rnan_plugin
    >>> net = rnan_plugin.load_network("car", 10)
    >>> sum(weight.numel() for weight in net.parameters()), net.training
    (411761, False)

    Args:
        task: What it restores from, as of `restore` but "auto"; None where `option_file` or `weights` say what it is.
        level: JPEG quality, sigma or scale; None for tasks that have none.
        option_file: Any network of BasicSR that it describes, with its `path.pretrain_network_g`.
        weights: A checkpoint that says what its network is, a released one, or the name of a network in the package;
            with `option_file`, in its own's place.

    Returns:
        The network on the CPU, in eval mode; (B, C, H, W) in 0..1 to (B, C, H*scale, W*scale).

    Raises:
        UserError: Nothing is named, or a file is missing, damaged or of another kind.
    """
    return networks.load_network(option_file, weights, _task(task, level)).net


def evaluate(
    image_set: str,
    task: str,
    level: float | None = None,
    *,
    option_file: str | None = None,
    weights: str | None = None,
    seed: int = 0,
    **how: Any,
) -> Evaluation:
    """Score a network on an image set under the paper's protocol.

    Args:
        image_set: Folder or LMDB of ground truth.
        task: What to restore from, as of `restore` but "auto".
        level: JPEG quality, sigma or scale; None for tasks that have none.
        option_file: As of `load_network`.
        weights: As of `load_network`.
        seed: Of the noise.
        how: `policy` (default "tile"), `tile`, `overlap`, `window`, `self_ensemble` as of `restore`.

    Returns:
        Scores of each image and their mean, with everything they depend on.

    Raises:
        UserError: The image set or the network has something to mend.
        TypeError: Another word in `how`.
    """
    at_level = TaskAtLevel(task, level, seed)
    settings = RestoreSettings(named_policy(**{"policy": "tile", **how}))
    method = build_method(MethodSource("network", option_file, weights), at_level, settings, [])
    return evaluate_method(method, at_level, image_set)
