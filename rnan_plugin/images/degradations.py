"""What the paper's five tasks degrade images by, as small objects: 8-bit image in, degraded image out.

Each object also says what a crop of its output needs of its input (`scale`, `margin`, `grid`), so that
`degrade_crop` computes a training patch at the cost of the patch, equal to cropping the degraded whole image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from rnan_plugin.errors import UserError
from rnan_plugin.images import bicubic

Image = NDArray[np.uint8]
# (H, W, C) on the 0..255 scale: 8 bits, or float32 where noise is not quantised.
Degraded = NDArray[np.uint8] | NDArray[np.float32]
Array = TypeVar("Array", NDArray[np.uint8], Degraded)
Box = tuple[int, int, int, int]  # top, left, bottom, right


class Degradation(Protocol):
    """A degradation of whole images; frozen, without state or randomness of its own."""

    @property
    def scale(self) -> int:
        """Input pixels per output pixel, in each direction."""

    @property
    def margin(self) -> int:
        """Input pixels around a window that its output depends on."""

    def grid(self, num_channel: int) -> int:
        """Period, in input pixels, of the degradation's phase."""

    def __call__(self, img: Image, rng: np.random.Generator) -> Degraded:
        """Degrade (H, W, C), 0..255; the caller owns the source of randomness."""


@dataclass(frozen=True)
class Awgn:
    """Additive white Gaussian noise.

    Args:
        sigma: Standard deviation on the 0..255 scale, 0 or more.
        quantize: Round to 8 bits and clip, as in RNAN's test sets (the released Kodak24 input); False keeps
            float32 values, also below 0 and above 255 (DnCNN-style protocols).

    Raises:
        UserError: `sigma` is negative or not finite.

    Source: RNAN, section 4.2.
    """

    sigma: float
    quantize: bool = True
    level = "sigma"  # the argument that a range may stand for in training
    scale = 1
    margin = 0

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise UserError(f"sigma is {self.sigma}, must be 0 or more (on the 0..255 scale)")

    def grid(self, num_channel: int) -> int:  # noqa: ARG002
        """Noise has no phase."""
        return 1

    def __call__(self, img: Image, rng: np.random.Generator) -> Degraded:
        """Add noise to (H, W, C)."""
        noisy = rng.standard_normal(img.shape, dtype=np.float32)
        noisy *= self.sigma
        noisy += img
        if not self.quantize:
            return noisy
        noisy += np.float32(0.5)
        np.clip(np.floor(noisy, out=noisy), 0, 255, out=noisy)
        return noisy.astype(np.uint8)


BayerPattern = Literal["GRBG", "RGGB", "BGGR", "GBRG"]


@dataclass(frozen=True)
class BayerMosaic:
    """One colour sample per pixel, zeros in the other two channels.

    Args:
        pattern: Colours of the top left 2×2 pixels in reading order; "GRBG" as in the released files.

    Raises:
        UserError: The pattern is unknown.

    Source: RNAN, section 4.3.
    """

    pattern: BayerPattern = "GRBG"
    scale = 1
    margin = 0

    def __post_init__(self) -> None:
        if self.pattern not in get_args(BayerPattern):
            raise UserError(f"pattern is '{self.pattern}', legal are {', '.join(get_args(BayerPattern))}")

    def grid(self, num_channel: int) -> int:  # noqa: ARG002
        """The mosaic repeats every 2 pixels."""
        return 2

    def __call__(self, img: Image, rng: np.random.Generator) -> Degraded:  # noqa: ARG002
        """Sample (H, W, 3)."""
        if img.shape[2] != 3:
            raise UserError("a mosaic needs colour images; set channels: rgb")
        out = np.zeros_like(img)
        for index, colour in enumerate(self.pattern):
            site = (slice(index // 2, None, 2), slice(index % 2, None, 2), "RGB".index(colour))
            out[site] = img[site]
        return out


@dataclass(frozen=True)
class Jpeg:
    """JPEG compression by libjpeg through OpenCV, equal to the paper's inputs on grey and Y images.

    Args:
        quality: 1 (worst) to 100.

    Raises:
        UserError: `quality` is not an integer from 1 to 100.

    Source: RNAN, section 4.4.
    """

    quality: int
    level = "quality"
    scale = 1

    def __post_init__(self) -> None:
        if isinstance(self.quality, bool) or not isinstance(self.quality, int) or not 1 <= self.quality <= 100:
            raise UserError(f"quality is {self.quality}, must be an integer from 1 to 100")

    @property
    def margin(self) -> int:
        """Colour has half-resolution chroma, interpolated across blocks; grey blocks are independent."""
        return 2

    def grid(self, num_channel: int) -> int:
        """Blocks are 8×8; with half-resolution chroma the unit is 16×16."""
        return 8 if num_channel == 1 else 16

    def __call__(self, img: Image, rng: np.random.Generator) -> Degraded:  # noqa: ARG002
        """Compress and decompress (H, W, 1) or (H, W, 3)."""
        bgr = np.ascontiguousarray(img[..., ::-1])
        _, code = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        out = np.asarray(cv2.imdecode(code, cv2.IMREAD_UNCHANGED), dtype=np.uint8)
        return out.reshape(img.shape)[..., ::-1]


@dataclass(frozen=True)
class BicubicDown:
    """Bicubic downsampling by MATLAB's rule; see `rnan_plugin.images.bicubic`.

    Args:
        scale: 2 or more.
        border: "replicate" as the released files, "mirror" as newer MATLAB versions.

    Raises:
        UserError: A scale below 2 or an unknown border.

    Source: RNAN, section 4.5.
    """

    scale: int
    border: bicubic.Border = "replicate"

    def __post_init__(self) -> None:
        if isinstance(self.scale, bool) or not isinstance(self.scale, int) or self.scale < 2:
            raise UserError(f"scale is {self.scale}, must be an integer of 2 or more")
        if self.border not in get_args(bicubic.Border):
            raise UserError(f"border is '{self.border}', legal are {', '.join(get_args(bicubic.Border))}")

    @property
    def margin(self) -> int:
        """The stretched cubic reaches 2·scale pixels."""
        return 2 * self.scale

    def grid(self, num_channel: int) -> int:  # noqa: ARG002
        """Output pixels lie every `scale` pixels."""
        return self.scale

    def __call__(self, img: Image, rng: np.random.Generator) -> Degraded:  # noqa: ARG002
        """Shrink (H, W, C); H and W are multiples of the scale."""
        return bicubic.downsample(img, self.scale, self.border)


class _Scaled(Protocol):
    @property
    def scale(self) -> int: ...


def total_scale(chain: Sequence[_Scaled]) -> int:
    """Scale of a chain of degradations."""
    return int(np.prod([degradation.scale for degradation in chain], dtype=int))


def degrade(img: Image, chain: Sequence[Degradation], rng: np.random.Generator) -> Degraded:
    """Degrade a whole image (H, W, C) by each member of the chain in turn."""
    out: Degraded = img
    for degradation in chain:
        out = degradation(_as_image(out), rng)
    return out


def degrade_crop(img: Image, chain: Sequence[Degradation], box: Box, rng: np.random.Generator) -> Degraded:
    """Compute `degrade(img, chain, rng)[top:bottom, left:right]` from the pixels it depends on.

    The two are equal for every degradation without noise; noise is drawn for the window alone.

    Args:
        img: (H, W, C), H and W multiples of the chain's scale. May be a view: only a window is read.
        chain: The degradations, in order.
        box: Of the degraded image.
        rng: Source of randomness.
    """
    windows = crop_windows(chain, box, img.shape)
    return degrade_window(cut(img, windows[0]), chain, windows, rng)


def crop_windows(chain: Sequence[Degradation], box: Box, shape: Sequence[int]) -> list[Box]:
    """Windows that a box of the degraded image depends on: of the image itself, of each degradation's output, the box.

    Args:
        chain: The degradations, in order.
        box: Of the degraded image.
        shape: (H, W, C) of the image, H and W multiples of the chain's scale.
    """
    height, width, num_channel = shape
    shrink = total_scale(chain)
    windows = [box]  # from the last degradation's output back to the image
    for degradation in reversed(chain):
        shrink //= degradation.scale
        windows.insert(0, _input_window(windows[0], degradation, num_channel, (height // shrink, width // shrink)))
    return windows


def degrade_window(
    img: Image, chain: Sequence[Degradation], windows: Sequence[Box], rng: np.random.Generator
) -> Degraded:
    """Degrade the first of `crop_windows`, cut out of the image, and return the last."""
    out: Degraded = img
    for degradation, window, wanted in zip(chain, windows, windows[1:], strict=False):
        origin = (window[0] // degradation.scale, window[1] // degradation.scale)
        out = cut(degradation(_as_image(out), rng), wanted, origin)
    return out


def _input_window(box: Box, degradation: Degradation, num_channel: int, size: tuple[int, int]) -> Box:
    """Window of the input, aligned to the phase grid, on which a box of the output depends."""
    grid, margin, scale = degradation.grid(num_channel), degradation.margin, degradation.scale
    starts = [max(0, (edge * scale - margin) // grid * grid) for edge in box[:2]]
    ends = [min(limit, -(-(edge * scale + margin) // grid) * grid) for edge, limit in zip(box[2:], size, strict=True)]
    return starts[0], starts[1], ends[0], ends[1]


def cut(img: Array, box: Box, origin: tuple[int, int] = (0, 0)) -> Array:
    """View of a box of an image whose top left pixel is at `origin`."""
    top, left, bottom, right = box
    return img[top - origin[0] : bottom - origin[0], left - origin[1] : right - origin[1]]


def _as_image(img: Degraded) -> Image:
    if img.dtype != np.uint8:
        raise UserError("quantize: false is legal only for the last degradation of a chain")
    return img  # type: ignore[return-value]


DEGRADATIONS: dict[str, Callable[..., Degradation]] = {
    "awgn": Awgn,
    "mosaic": BayerMosaic,
    "jpeg": Jpeg,
    "bicubic": BicubicDown,
}


def image_stream(img: Image, seed: int) -> np.random.Generator:
    """Random stream that depends on the seed and the image's content alone."""
    digest = hashlib.sha256(img.tobytes()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, np.uint32).tolist()])
