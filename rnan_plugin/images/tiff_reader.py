"""TIFF files: what their samples stand for, and whoever decodes them.

OpenCV multiplies colours by alpha, drops the alpha of grey images of 16 bits, takes planes for rows and white for
black, and refuses tiles; tifffile gives the samples, but knows few compressions by itself.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnan_plugin.errors import UserError
from rnan_plugin.images.codec import UNREADABLE, decode_samples, decoded_by_pillow, samples_of, upright
from rnan_plugin.images.color import Pixels, full_scale, in_strips, scaled

_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WHITE_IS_ZERO, _GREY, _RGB = 0, 1, 2
_ASSOCIATED, _UNKNOWN, _FLOATS = 1, 0, 3
_RAW = {32803, 34892}  # samples behind a colour filter array, and those of all colours made of them
_OPENCVS = {"NONE", "LZW", "PACKBITS", "DEFLATE", "ADOBE_DEFLATE"}  # compressions it has everywhere
_BY_PILLOW = {"La": "LA", "RGBa": "RGBA", "LA": "LA", "RGBA": "RGBA", "L": "L", "1": "L", "RGB": "RGB"}


@dataclass(frozen=True)
class Layout:
    """How a TIFF file's first page stores its samples.

    Args:
        bits: Of a sample.
        photometric: What the samples are, as TIFF numbers it: 0 and 1 are grey, 2 is RGB.
        num_channel: Samples of a pixel.
        extra: What those beyond grey or RGB are: 1 is alpha by which the others are multiplied, 0 nobody knows.
        is_planar: Each channel stands for itself.
        orientation: As EXIF numbers them.
        pages: Without smaller copies of the first.
        compression: Its name.
        is_float: Samples are floating-point numbers.
        is_raw: What the file is about are a camera's raw data, of which the first page is a preview.
        is_reduced: The first page is a smaller copy of an image that stands elsewhere in the file.
    """

    bits: int
    photometric: int
    num_channel: int
    extra: tuple[int, ...]
    is_planar: bool
    orientation: int
    pages: int
    compression: str
    is_float: bool
    is_raw: bool
    is_reduced: bool

    @property
    def is_grey_or_rgb(self) -> bool:
        """Whether the samples, those beside alpha, are grey or RGB, without a palette."""
        return self.photometric in {_WHITE_IS_ZERO, _GREY, _RGB}

    @property
    def num_colour(self) -> int:
        """Samples of a pixel without those beyond grey or RGB."""
        return 3 if self.photometric == _RGB else 1

    @property
    def has_unknown_channel(self) -> bool:
        """Whether there is one beyond them that is not said to be alpha; without a word OpenCV writes alpha."""
        return self.is_grey_or_rgb and self.num_channel == self.num_colour + 1 and self.extra[:1] == (_UNKNOWN,)


def read_layout(code: bytes, name: str) -> Layout | None:
    """The layout of a TIFF file; None if it is none.

    Raises:
        UserError: It is damaged; other decoders would pass over what they can't read.
    """
    if not code.startswith(_BEGINNINGS):
        return None
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(code)) as file:
            page = file.pages.first
            orientation = page.tags.get(274)
            return Layout(
                bits=int(page.bitspersample),
                photometric=int(page.photometric),
                num_channel=int(page.samplesperpixel),
                extra=tuple(int(kind) for kind in page.extrasamples),
                is_planar=int(page.planarconfig) == 2 and page.samplesperpixel > 1,
                orientation=int(orientation.value) if orientation is not None else 1,
                pages=1 + sum(not other.aspage().is_reduced for other in file.pages[1:]),
                compression=getattr(page.compression, "name", str(page.compression)),
                is_float=int(page.sampleformat) == _FLOATS,
                is_reduced=bool(page.is_reduced),
                is_raw=any(int(part.aspage().photometric) in _RAW for part in (page, *(page.pages or ()))),
            )
    except Exception:  # of any kind, of a damaged file
        raise UserError(f"{name}: {UNREADABLE}") from None


def decode_tiff(code: bytes, name: str, layout: Layout) -> NDArray[Any]:
    """Decode grey or RGB, with alpha or without: (H, W, C), upright, no sample multiplied by alpha.

    Raises:
        UserError: Unreadable, truncated, too many channels, or a compression that needs a package.
    """
    if not layout.is_grey_or_rgb:
        raise UserError(f"{name}: {layout.num_channel} channels, neither grey nor RGB; convert it to one of them")
    if layout.is_float:
        raise UserError(f"{name}: samples are floating-point numbers; save it with 8 or 16 bits")
    if layout.num_channel - layout.num_colour > 1:
        raise UserError(f"{name}: {layout.num_channel} channels; save it with one beside grey or colour, or without")
    if layout.bits < 8:
        return _by_pillow(code, name)
    samples = _by_tifffile(code, name, layout)
    if samples is not None:
        return samples
    if layout.bits == 8:
        return _of_8_bits(code, name, layout)
    if layout.is_planar or layout.num_channel == 2 or layout.compression not in _OPENCVS:
        how = ", in planes or grey with alpha," if layout.compression in _OPENCVS else ""
        raise _cannot_be_read(name, layout, how)
    samples = decode_samples(code, name)
    highest = 2**16 - 2 ** (16 - layout.bits)  # of 10 to 14 bits OpenCV makes the upper ones of 16
    return _meant(scaled(samples, highest) if samples.dtype == np.uint16 else samples, layout)


def _of_8_bits(code: bytes, name: str, layout: Layout) -> NDArray[Any]:
    """What tifffile can't read alone; libraries may, depending on how they were built."""
    try:  # Pillow drops channels that it does not know
        return decode_samples(code, name) if layout.has_unknown_channel else _by_pillow(code, name)
    except UserError:
        if layout.compression in _OPENCVS:
            raise
        raise _cannot_be_read(name, layout) from None


def _cannot_be_read(name: str, layout: Layout, how: str = "") -> UserError:
    told = f"{layout.compression} of {layout.bits} bits{how} can't be read"
    return UserError(f"{name}: {told}; save it with deflate or without compression")


def _by_tifffile(code: bytes, name: str, layout: Layout) -> NDArray[Any] | None:
    """None where the file is damaged, or its compression is one that needs a package."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(code)) as file:
            page = file.pages.first
            ends = [sum(place) for place in zip(page.dataoffsets, page.databytecounts, strict=True)]
            samples = page.asarray() if max(ends) <= len(code) else None
            size = (int(page.imagelength), int(page.imagewidth), layout.num_channel)
    except Exception:  # any, of a damaged file; it is told by who tries next
        return None
    if samples is None:
        raise UserError(f"{name}: {UNREADABLE}")
    samples = np.moveaxis(samples, 0, -1) if layout.is_planar else samples
    if samples.size != np.prod(size):
        return None
    samples = samples.reshape(size)
    if samples.dtype == np.uint16:
        samples = scaled(samples, 2**layout.bits - 1)
    return np.ascontiguousarray(upright(_meant(samples, layout), layout.orientation))


def _by_pillow(code: bytes, name: str) -> NDArray[np.uint8]:
    """Upright, by Pillow."""
    with decoded_by_pillow(code, name) as file:
        return samples_of(file, _BY_PILLOW[file.mode])


def _meant(samples: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """What raw samples stand for: white is not zero, and none is multiplied by alpha."""
    if samples.dtype not in (np.uint8, np.uint16):
        return samples
    if layout.photometric == _WHITE_IS_ZERO:
        samples = samples.copy()
        samples[..., 0] = full_scale(samples) - samples[..., 0]
    if layout.extra[:1] == (_ASSOCIATED,):
        return in_strips(_divided, samples)
    return samples


def _divided(samples: Pixels) -> Pixels:
    """Colours without the alpha by which they are multiplied; what it hides is black."""
    white, alpha = full_scale(samples), samples[..., -1:].astype(np.float64)
    colours = np.clip(np.rint(samples[..., :-1] * (white / np.maximum(alpha, 1))), 0, white)
    divided: Pixels = np.concatenate([colours.astype(samples.dtype), samples[..., -1:]], axis=2)
    return divided
