"""Classical restoration methods from well-kept libraries, to compare with; strengths follow the noise level.

BM3D and the demosaicing methods need packages of their own: `pip install 'rnan_plugin[compare]'`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import packages_distributions, version
from types import ModuleType

import cv2
import numpy as np
from numpy.typing import NDArray

from rnan_plugin.errors import UserError, nearest
from rnan_plugin.evaluation.protocol import Restore
from rnan_plugin.images.degradations import Image
from rnan_plugin.paper.tasks import TASKS, Task, TaskAtLevel

Denoiser = Callable[[NDArray[np.float64], float], NDArray[np.float64]]


@dataclass(frozen=True)
class Classical:
    """One method: which tasks it is for, how to get it at a level, what it is, and the module it is of."""

    fits: Callable[[Task], bool]
    build: Callable[[TaskAtLevel], Restore]
    source: str
    module: str

    def describe(self) -> dict[str, str]:
        """What its results depend on, beside the input."""
        package = packages_distributions()[self.module][0]  # opencv-python or one of its siblings
        return {"source": self.source, "package": f"{package} {version(package)}"}


def classical(name: str, task: TaskAtLevel) -> Restore:
    """The method of that name for a task at a level.

    Raises:
        UserError: The name is unknown, the method is not for the task, or its package is missing.
    """
    if name not in CLASSICAL:
        raise UserError(f"no classical method '{name}'{nearest(name, CLASSICAL)}")
    method = CLASSICAL[name]
    if not method.fits(task.row):
        fitting = sorted(other for other, row in TASKS.items() if method.fits(row))
        raise UserError(f"{name} is not for {task}; it is for {', '.join(fitting)}")
    return method.build(task)


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"needs the package {name.split('.')[0]}: pip install 'rnan_plugin[compare]'") from None


def _to_image(values: NDArray[np.floating]) -> Image:
    return (np.clip(values, 0, 1) * 255).round().astype(np.uint8)


def unrestored(task: TaskAtLevel) -> Restore:
    """The input itself, the first row of the paper's tables; enlarged by bicubic interpolation in super-resolution."""
    if not task.row.enlarges:
        return lambda lq, _: lq
    from rnan_plugin.toolbox.api import imresize  # what does not enlarge needs no BasicSR

    def enlarge(lq: Image, _: str) -> Image:
        return _to_image(imresize(lq.astype(np.float32) / 255, task.scale))

    return enlarge


def _opencv_nlm(task: TaskAtLevel) -> Restore:
    """Non-local means; its strength h is sigma."""
    strength = float(task.level or 0)

    def restore(lq: Image, _: str) -> Image:
        if lq.shape[2] == 1:
            return cv2.fastNlMeansDenoising(lq, None, strength)[..., None].astype(np.uint8, copy=False)
        bgr = cv2.fastNlMeansDenoisingColored(np.ascontiguousarray(lq[..., ::-1]), None, strength, strength)
        return bgr[..., ::-1].astype(np.uint8, copy=False)

    return restore


def _denoiser(build: Callable[[], Denoiser], task: TaskAtLevel) -> Restore:
    """A method that takes an image in 0..1, (H, W) or (H, W, 3), and sigma in the same range."""
    denoise, sigma = build(), float(task.level or 0) / 255

    def restore(lq: Image, _: str) -> Image:
        img = lq[..., 0] if lq.shape[2] == 1 else lq
        return _to_image(denoise(img / 255, sigma)).reshape(lq.shape)

    return restore


def _wavelet() -> Denoiser:
    library = _package("skimage.restoration")

    def denoise(img: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
        axis = -1 if img.ndim == 3 else None
        result: NDArray[np.float64] = library.denoise_wavelet(
            img, sigma, channel_axis=axis, convert2ycbcr=axis is not None, method="BayesShrink", rescale_sigma=True
        )
        return result

    return denoise


def _total_variation() -> Denoiser:
    library = _package("skimage.restoration")

    def denoise(img: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
        axis = -1 if img.ndim == 3 else None
        result: NDArray[np.float64] = library.denoise_tv_chambolle(img, weight=sigma, channel_axis=axis)
        return result

    return denoise


def _bm3d() -> Denoiser:
    library = _package("bm3d")

    def denoise(img: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
        run = library.bm3d_rgb if img.ndim == 3 else library.bm3d
        result: NDArray[np.float64] = run(img, sigma)
        return result

    return denoise


def _demosaicing(name: str, _: TaskAtLevel) -> Restore:
    demosaic = getattr(_package(_DEMOSAICING), f"demosaicing_CFA_Bayer_{name}")
    # A mosaic has one value other than zero a pixel.
    return lambda lq, _: _to_image(demosaic(lq.max(axis=2) / 255, "GRBG"))


def _denoises(task: Task) -> bool:
    return task.degradation == "awgn"


def _demosaics(task: Task) -> bool:
    return task.degradation == "mosaic"


def _enlarges(task: Task) -> bool:
    return task.enlarges


def _keeps_size(task: Task) -> bool:
    return not task.enlarges


_DEMOSAICING = "colour_demosaicing"
CLASSICAL = {
    "input": Classical(_keeps_size, unrestored, "the degraded image", "rnan_plugin"),
    "bicubic": Classical(_enlarges, unrestored, "BasicSR's imresize", "basicsr"),
    "opencv_nlm": Classical(_denoises, _opencv_nlm, "fastNlMeansDenoising(Colored)", "cv2"),
    "skimage_wavelet": Classical(_denoises, partial(_denoiser, _wavelet), "denoise_wavelet", "skimage"),
    "skimage_tv": Classical(_denoises, partial(_denoiser, _total_variation), "denoise_tv_chambolle", "skimage"),
    "bm3d": Classical(_denoises, partial(_denoiser, _bm3d), "Tampere University (not for commercial use)", "bm3d"),
    "malvar": Classical(_demosaics, partial(_demosaicing, "Malvar2004"), "Malvar 2004", _DEMOSAICING),
    "menon": Classical(_demosaics, partial(_demosaicing, "Menon2007"), "Menon 2007", _DEMOSAICING),
}
