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

from rnan_plugin.images.degradations import Image
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.errors import UserError, nearest
from rnan_plugin.evaluation.methods import Method, unrestored

Denoiser = Callable[[NDArray[np.float64], float], NDArray[np.float64]]


@dataclass(frozen=True)
class Classical:
    """One method: the tasks it is for, how to get it at a level, what it is, and the module it is of."""

    tasks: frozenset[str]
    build: Callable[[TaskAtLevel], Method]
    source: str
    module: str

    def describe(self) -> dict[str, str]:
        """What its results depend on, beside the input."""
        package = packages_distributions()[self.module][0]  # opencv-python or one of its siblings
        return {"source": self.source, "package": f"{package} {version(package)}"}


def classical(name: str, setting: TaskAtLevel) -> Method:
    """The method of that name for a task at a level.

    Raises:
        UserError: The name is unknown, the method is not for the task, or its package is missing.
    """
    if name not in CLASSICAL:
        raise UserError(f"no classical method '{name}'{nearest(name, CLASSICAL)}")
    method = CLASSICAL[name]
    if setting.name not in method.tasks:
        raise UserError(f"{name} is not for {setting}; it is for {', '.join(sorted(method.tasks))}")
    return method.build(setting)


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"needs the package {name.split('.')[0]}: pip install 'rnan_plugin[compare]'") from None


def _to_image(values: NDArray[np.floating]) -> Image:
    return (np.clip(values, 0, 1) * 255).round().astype(np.uint8)


def _opencv_nlm(setting: TaskAtLevel) -> Method:
    """Non-local means; its strength h is sigma."""
    strength = float(setting.level or 0)

    def restore(lq: Image, _: str) -> Image:
        if lq.shape[2] == 1:
            return cv2.fastNlMeansDenoising(lq, None, strength)[..., None].astype(np.uint8, copy=False)
        bgr = cv2.fastNlMeansDenoisingColored(np.ascontiguousarray(lq[..., ::-1]), None, strength, strength)
        return bgr[..., ::-1].astype(np.uint8, copy=False)

    return restore


def _denoiser(build: Callable[[], Denoiser], setting: TaskAtLevel) -> Method:
    """A method that takes an image in 0..1, (H, W) or (H, W, 3), and sigma in the same range."""
    denoise, sigma = build(), float(setting.level or 0) / 255

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


def _demosaicing(name: str, _: TaskAtLevel) -> Method:
    demosaic = getattr(_package(_DEMOSAICING), f"demosaicing_CFA_Bayer_{name}")
    # A mosaic has one value other than zero a pixel.
    return lambda lq, _: _to_image(demosaic(lq.max(axis=2) / 255, "GRBG"))


_DEMOSAICING = "colour_demosaicing"
_DENOISING = frozenset({"graydn", "colordn"})
_ALL = frozenset({"car", "graydn", "colordn", "demosaic", "sr"})
CLASSICAL = {
    "input": Classical(_ALL - {"sr"}, unrestored, "the degraded image", "rnan_plugin"),
    "bicubic": Classical(frozenset({"sr"}), unrestored, "the toolbox's imresize", "basicsr"),
    "opencv_nlm": Classical(_DENOISING, _opencv_nlm, "fastNlMeansDenoising(Colored)", "cv2"),
    "skimage_wavelet": Classical(_DENOISING, partial(_denoiser, _wavelet), "denoise_wavelet", "skimage"),
    "skimage_tv": Classical(_DENOISING, partial(_denoiser, _total_variation), "denoise_tv_chambolle", "skimage"),
    "bm3d": Classical(_DENOISING, partial(_denoiser, _bm3d), "Tampere University (not for commercial use)", "bm3d"),
    "malvar": Classical(frozenset({"demosaic"}), partial(_demosaicing, "Malvar2004"), "Malvar 2004", _DEMOSAICING),
    "menon": Classical(frozenset({"demosaic"}), partial(_demosaicing, "Menon2007"), "Menon 2007", _DEMOSAICING),
}
