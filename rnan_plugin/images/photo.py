"""Photographs as files hold them: pixels of 8 or 16 bits, alpha, colour profile and camera data."""

from __future__ import annotations

import importlib
import io
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageCms

from rnan_plugin.errors import UserError
from rnan_plugin.images.codec import (
    IMAGE_ENDINGS,
    ORIENTATION,
    check_whole,
    decode_samples,
    opened_by_pillow,
    orientation_of,
    png_exif,
    upright,
)
from rnan_plugin.images.color import Pixels, full_scale
from rnan_plugin.images.png_rows import read_header

# Beside those of data sets: other names of JPEG, and what Pillow decodes.
PHOTO_ENDINGS = IMAGE_ENDINGS | {".jpe", ".jfif", ".gif", ".avif", ".heic", ".heif"}

_SIDES = (0xA002, 0xA003)  # EXIF's width and height of the image, in its own part of the data
_EXIF_PART = 0x8769
_ONE_PICTURE = frozenset({"MPO"})  # whose further pictures are other views, or previews, of the first
_HEIF = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftyphevc", b"ftypheim")
# What Pillow has to decode, as grey or colour, with alpha or without; OpenCV, whose JPEG decoder made the training's
# inputs, does the others.
_CONVERTED = {"1": "L", "LA": "LA", "La": "LA", "PA": "RGBA", "RGBa": "RGBA", "YCbCr": "RGB"}


@dataclass(frozen=True)
class Metadata:
    """What comes back with the pixels as it was.

    Args:
        icc: Colour profile.
        exif: Camera data as a TIFF structure, its orientation the one of upright pixels.
        dpi: Pixels an inch, across and down.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True)
class Photo:
    """A decoded image file.

    Args:
        pixels: (H, W, 3) RGB or (H, W, 1) grey, uint8 or uint16.
        alpha: (H, W, 1) of the same type, or None.
        orientation: As EXIF numbers them, 1 to 8: how to turn the pixels for a viewer.
        metadata: What comes back as it was.
        notes: What had to be changed, for the user.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    orientation: int = 1
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()

    @property
    def visible(self) -> Pixels:
        """The pixels to restore: where alpha hides them, the nearest that it shows.

        Hidden pixels may hold anything, which a network would spread over the edges of what is seen.
        """
        return self.pixels if self.alpha is None else _filled(self.pixels, self.alpha)

    def restored(self, pixels: Pixels) -> Photo:
        """The photograph with restored pixels (H*scale, W*scale, C): alpha is enlarged, what it hides is as it was."""
        scale = pixels.shape[0] // self.pixels.shape[0]
        metadata, notes = self.metadata, self.notes
        if pixels.shape[2] != self.pixels.shape[2]:  # a profile is for as many channels as the image has
            metadata = replace(metadata, icc=None)
        if self.alpha is None:
            return replace(self, pixels=pixels, metadata=metadata)
        if scale == 1 and pixels.shape == self.pixels.shape:
            pixels = np.where(self.alpha == 0, self.pixels, pixels)
        return replace(self, pixels=pixels, alpha=_enlarged(self.alpha, scale), metadata=metadata, notes=notes)

    def upright(self) -> Photo:
        """The photograph as a viewer shows it, its pixels turned."""
        alpha = None if self.alpha is None else upright(self.alpha, self.orientation)
        return replace(self, pixels=upright(self.pixels, self.orientation), alpha=alpha, orientation=1)


def _filled(pixels: Pixels, alpha: Pixels) -> Pixels:
    hidden = (alpha[..., 0] == 0).astype(np.uint8)
    if not hidden.any() or hidden.all():
        return pixels
    _, nearest = cv2.distanceTransformWithLabels(hidden, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    shown = hidden == 0
    place_of = np.zeros(int(nearest.max()) + 1, np.int64)
    place_of[nearest[shown]] = np.flatnonzero(shown)
    filled: Pixels = pixels.reshape(-1, pixels.shape[2])[place_of[nearest]]
    return filled


def _enlarged(alpha: Pixels, scale: int) -> Pixels:
    if scale == 1:
        return alpha
    size = (alpha.shape[1] * scale, alpha.shape[0] * scale)
    smooth = cv2.resize(alpha[..., 0].astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    enlarged: Pixels = np.clip(np.rint(smooth), 0, full_scale(alpha)).astype(alpha.dtype)[..., None]
    return enlarged


@dataclass(frozen=True)
class _Head:
    """What Pillow says of a file without decoding its pixels; nothing where it can't read it."""

    mode: str = ""
    kind: str = ""
    frames: int = 1
    is_keyed: bool = False  # one of its colours is transparent
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()


def read_photo(code: bytes, name: str) -> Photo:
    """Decode a photograph.

    Args:
        code: The file's content.
        name: Of the file, for errors.

    Raises:
        UserError: Unreadable or truncated, several frames, samples of other than 8 or 16 bits, or a format that needs
            a package.
    """
    check_whole(code, name)
    head = _head(code)
    if head.frames > 1 and head.kind not in _ONE_PICTURE:
        raise UserError(
            f"{name}: {head.frames} pages or frames ({head.kind}); save those that you want as images of their own"
        )
    if not head.kind and any(brand in code[:16] for brand in _HEIF):
        raise UserError(f"{name}: HEIC needs a package: pip install pillow-heif, or convert it to JPEG or PNG")
    orientation = orientation_of(code)
    if head.mode == "CMYK":
        return _from_cmyk(code, name, head, orientation)
    if head.mode in _CONVERTED or head.mode == "P" or head.is_keyed or head.kind in {"GIF", "AVIF", "HEIF"}:
        samples: NDArray[Any] = _by_pillow(code, name, head)
    else:
        samples = decode_samples(code, name)
    if samples.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{name}: samples of type {samples.dtype}; save it with 8 or 16 bits")
    notes = (*head.notes, *(["palette, comes back in full colour"] if head.mode in {"P", "PA"} else []))
    return replace(split_alpha(samples), orientation=orientation, metadata=head.metadata, notes=notes)


def photo_of_pillow(image: PillowImage.Image, name: str) -> Photo:
    """The photograph that Pillow has read; it has no metadata."""
    buffer = io.BytesIO()
    try:
        image.save(buffer, "TIFF" if image.mode == "CMYK" else "PNG", icc_profile=image.info.get("icc_profile"))
    except Exception as error:  # of a mode that is no picture
        raise UserError(f"{name}: mode {image.mode} ({' '.join(str(error).split())[:100]}); convert it") from None
    return read_photo(buffer.getvalue(), name)


def split_alpha(samples: NDArray[Any]) -> Photo:
    """(H, W, C) of grey or RGB, with alpha where C is 2 or 4; colour whose channels are equal beside alpha is grey."""
    num_channel = samples.shape[2]
    if num_channel in (1, 3):
        return Photo(samples)
    colour, alpha = samples[..., :-1], samples[..., -1:]
    if num_channel == 4 and (colour == colour[..., :1]).all():  # OpenCV gives grey with alpha so
        colour = colour[..., :1]
    return Photo(np.ascontiguousarray(colour), np.ascontiguousarray(alpha))


def _head(code: bytes) -> _Head:
    if any(brand in code[:16] for brand in _HEIF):
        with suppress(ImportError):
            importlib.import_module("pillow_heif").register_heif_opener()
    try:
        with opened_by_pillow(io.BytesIO(code)) as file:
            metadata, notes = _metadata(file, code)
            is_keyed = "transparency" in file.info and read_header(code) is not None
            frames = getattr(file, "n_frames", 1)
            return _Head(file.mode, file.format or "", frames, is_keyed, metadata, notes)
    except Exception:  # Pillow's readers let out anything; OpenCV may know the format
        return _Head()


def _metadata(file: PillowImage.Image, code: bytes) -> tuple[Metadata, tuple[str, ...]]:
    """What a file says beside its pixels; what can't be read of it is left out and told."""
    icc, dpi, exif = file.info.get("icc_profile"), file.info.get("dpi"), None
    notes = []
    try:
        exif = _upright_exif(file, code)
    except Exception:  # any: it never fails the image
        notes.append("camera data can't be read and are left out")
    if not (isinstance(dpi, tuple) and len(dpi) == 2 and all(0 < float(value) < 1e6 for value in dpi)):
        dpi = None
    return Metadata(icc or None, exif, dpi and (float(dpi[0]), float(dpi[1]))), tuple(notes)


def _upright_exif(file: PillowImage.Image, code: bytes) -> bytes | None:
    if read_header(code) is not None:
        exif = PillowImage.Exif()
        exif.load(png_exif(code))
    elif file.format == "TIFF":  # whose tags are how it is stored, and turned by its decoder
        return None
    else:
        exif = file.getexif()
    if not len(exif):
        return None
    if ORIENTATION in exif:
        exif[ORIENTATION] = 1
    return exif.tobytes().removeprefix(b"Exif\0\0")


def with_sides(exif: bytes, width: int, height: int) -> bytes:
    """EXIF data with the width and height of the image where they tell any."""
    found = PillowImage.Exif()
    found.load(exif)
    part = found.get_ifd(_EXIF_PART)
    for tag, side in zip(_SIDES, (width, height), strict=True):
        if tag in part:
            part[tag] = side
    return found.tobytes().removeprefix(b"Exif\0\0")


def _by_pillow(code: bytes, name: str, head: _Head) -> NDArray[np.uint8]:
    """(H, W, C) of what OpenCV can't decode, or not without losing something."""
    try:
        with opened_by_pillow(io.BytesIO(code)) as file:
            target = _CONVERTED.get(file.mode, file.mode)
            if file.mode in {"P", "PA"} or "transparency" in file.info:
                has_alpha = "transparency" in file.info or file.mode == "PA"
                target = ("LA" if file.mode == "L" else "RGBA") if has_alpha else "RGB"
            samples = np.asarray(file.convert(target))
    except Exception as error:  # any, of a damaged file
        said = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(f"{name}: unreadable or truncated image ({said}); replace it or take it out") from None
    samples = samples.reshape(*samples.shape[:2], -1)
    if head.mode == "P" and samples.shape[2] == 3 and (samples == samples[..., :1]).all():
        samples = samples[..., :1]
    return samples


def _from_cmyk(code: bytes, name: str, head: _Head, orientation: int) -> Photo:
    """RGB of a file for printing: through its colour profile, else by Pillow's plain formula."""
    how = "CMYK, comes back as sRGB, converted through its profile"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    try:
        with opened_by_pillow(io.BytesIO(code)) as file:
            file.load()
            try:
                profile = ImageCms.getOpenProfile(io.BytesIO(head.metadata.icc or b""))
                rgb = ImageCms.profileToProfile(file, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
            except Exception:  # no profile, or a damaged one
                how, rgb = "CMYK without a profile that can be read, comes back as RGB by a plain formula", None
            samples = np.asarray(rgb if rgb is not None else file.convert("RGB"))
    except Exception as error:
        said = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(f"{name}: unreadable or truncated image ({said}); replace it or take it out") from None
    metadata = replace(head.metadata, icc=icc if "through" in how else None)
    return Photo(samples, None, orientation, metadata, (*head.notes, how))
