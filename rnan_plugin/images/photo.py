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

from rnan_plugin.errors import UserError, said_by
from rnan_plugin.images.bmp_header import is_right_by_opencv
from rnan_plugin.images.codec import (
    ORIENTATION,
    SIDEWAYS,
    decode_samples,
    decoded_by_pillow,
    opened_by_pillow,
    orientation_of,
    samples_of,
    upright,
)
from rnan_plugin.images.color import Pixels, full_scale
from rnan_plugin.images.jpeg_segments import begins_with_luma, luma_steps
from rnan_plugin.images.photo_metadata import (
    Metadata,
    Notes,
    fits_channels,
    read_metadata,
    tiff_metadata,
)
from rnan_plugin.images.png_rows import Header, read_header, transparent_colour
from rnan_plugin.images.srgb import CONVERTED_TO_SRGB, to_srgb
from rnan_plugin.images.tiff_reader import Layout, decode_tiff, read_layout

_ONE_PICTURE = frozenset({"MPO"})  # whose further pictures are other views, or previews, of the first
_GREY_ALPHA, _RGB_ALPHA = 4, 6  # colour types of PNG
# By format, where more than 8 bits a sample are told: the decoder's configuration, a byte in it, and its bits.
_DEEP = {"AVIF": (b"av1C", 6, 0x40), "HEIF": (b"hvcC", 21, 0x07)}
_HEIF = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftyphevc", b"ftypheim")
# What Pillow has to decode, as grey or colour, with alpha or without; OpenCV, whose JPEG decoder made the training's
# inputs, does the others.
_CONVERTED = {"1": "L", "LA": "LA", "La": "LA", "PA": "RGBA", "RGBa": "RGBA", "YCbCr": "RGB"}
_IN_MEMORY = _CONVERTED | {"HSV": "RGB", "RGBX": "RGB"}  # which programs give images that no file holds


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
    notes: Notes = ()

    @property
    def visible(self) -> Pixels:
        """The pixels to restore: where alpha hides them, the nearest that it shows.

        Hidden pixels may hold anything, which a network would spread over the edges of what is seen.
        """
        return self.pixels if self.alpha is None else _filled(self.pixels, self.alpha)

    def restored(self, pixels: Pixels) -> Photo:
        """The photograph with restored pixels (H*scale, W*scale, C): alpha is enlarged.

        What it hides is as it was, if size and channels are.
        """
        scale, metadata = pixels.shape[0] // self.pixels.shape[0], self.metadata
        if pixels.shape[2] != self.pixels.shape[2]:  # a profile is for as many channels as the image has
            metadata = replace(metadata, icc=None)
        if self.alpha is None:
            return replace(self, pixels=pixels, metadata=metadata)
        if scale == 1 and pixels.shape == self.pixels.shape:
            pixels = np.where(self.alpha == 0, self.pixels, pixels)
        return replace(self, pixels=pixels, alpha=_enlarged(self.alpha, scale), metadata=metadata)

    def upright(self) -> Photo:
        """The photograph as a viewer shows it, its pixels turned."""
        alpha = None if self.alpha is None else upright(self.alpha, self.orientation)
        metadata = self.metadata.sideways() if self.orientation in SIDEWAYS else self.metadata
        return replace(
            self, pixels=upright(self.pixels, self.orientation), alpha=alpha, orientation=1, metadata=metadata
        )


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
    metadata: Metadata = field(default_factory=Metadata)
    notes: Notes = ()


def read_photo(code: bytes, name: str) -> Photo:
    """Decode a photograph.

    Args:
        code: The file's content.
        name: Of the file, for errors.

    Raises:
        UserError: Unreadable or truncated, several frames, samples of other than 8 or 16 bits, or a format that needs
            a package.
    """
    try:
        photo = _read(code, name)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # of any kind: what decoders make of a damaged file, and what that brings about
        raise UserError(f"{name}: can't be decoded ({said_by(error, 100)}); replace it or take it out") from None
    if not photo.pixels.size:
        raise UserError(f"{name}: no pixels in it; replace it or take it out")
    return photo


def _read(code: bytes, name: str) -> Photo:
    head, layout = _head(code), read_layout(code, name)
    _refuse_what_is_no_picture(code, name, head, layout)
    orientation = orientation_of(code)
    if head.mode in CONVERTED_TO_SRGB:
        samples, icc, how = to_srgb(code, name, head.metadata.icc)
        metadata, notes = replace(head.metadata, icc=icc), (*_notes(code, head, layout), how)
        return Photo(samples, orientation=orientation, metadata=metadata, notes=notes)
    samples = _samples(code, name, head, layout)
    if samples.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{name}: samples of type {samples.dtype}; save it with 8 or 16 bits")
    metadata, more = (head.metadata, ()) if layout is None or head.kind else tiff_metadata(code)
    if layout is not None and layout.orientation in SIDEWAYS:  # its reader has turned it
        metadata = metadata.sideways()
    notes = (*_notes(code, head, layout), *more)
    photo = replace(split_alpha(samples), orientation=orientation, metadata=metadata, notes=notes)
    return _with_fitting_profile(photo)


def _refuse_what_is_no_picture(code: bytes, name: str, head: _Head, layout: Layout | None) -> None:
    if layout is not None and layout.is_reduced and not layout.is_raw:
        raise UserError(f"{name}: its first page is a smaller copy of the image; save the image as a file of its own")
    frames = head.frames if layout is None else layout.pages
    if frames > 1 and head.kind not in _ONE_PICTURE:
        kind = head.kind or "TIFF"
        raise UserError(f"{name}: {frames} pages or frames ({kind}); save those that you want as images of their own")
    if layout is not None and layout.is_raw:
        raise UserError(f"{name}: a camera's raw data; develop them, and save the photograph as TIFF, PNG or JPEG")
    if not head.kind and "HEIF" not in PillowImage.OPEN and any(brand in code[:16] for brand in _HEIF):
        raise UserError(f"{name}: HEIC needs a package: pip install pillow-heif, or convert it to JPEG or PNG")


def _samples(code: bytes, name: str, head: _Head, layout: Layout | None) -> NDArray[Any]:
    """(H, W, C), the last alpha where C is even: by whichever decoder loses nothing of such a file."""
    if head.mode in {"P", "PA"} or head.kind in {"GIF", "AVIF", "HEIF"}:
        return _grey_if_it_is(_by_pillow(code, name), head)
    if layout is not None and (layout.is_grey_or_rgb or not head.kind):
        return decode_tiff(code, name, layout)
    if (header := read_header(code)) is not None:
        return _with_key(decode_samples(code, name), code, header)
    by_pillow = head.mode in _CONVERTED or not is_right_by_opencv(code)
    return _by_pillow(code, name) if by_pillow else decode_samples(code, name)


def _grey_if_it_is(samples: NDArray[np.uint8], head: _Head) -> NDArray[np.uint8]:
    """One channel of a palette that holds nothing but greys, which no colour profile makes colours."""
    is_grey = head.mode == "P" and head.metadata.icc is None and samples.shape[2] == 3
    return samples[..., :1] if is_grey and (samples == samples[..., :1]).all() else samples


def _with_key(samples: NDArray[Any], code: bytes, header: Header) -> NDArray[Any]:
    """Pixels of a PNG, of grey or RGB; where it names a transparent colour, with alpha."""
    if header.colour == _GREY_ALPHA:
        return samples[..., [0, -1]]
    if header.colour == _RGB_ALPHA or (key := transparent_colour(code, header)) is None:
        return samples
    samples = samples[..., : len(key)]
    shown = (samples != np.array(key)).any(axis=2, keepdims=True)
    return np.concatenate([samples, shown.astype(samples.dtype) * samples.dtype.type(full_scale(samples))], axis=2)


def _notes(code: bytes, head: _Head, layout: Layout | None) -> Notes:
    notes = [*head.notes]
    if not head.kind and layout is None:
        notes.append("what stands beside its pixels can't be read, and is left out")
    if head.mode in {"P", "PA"}:
        notes.append("palette, comes back in full colour")
    if head.mode == "1":
        notes.append("black and white alone, comes back in grey")
    if layout is not None and head.mode == "CMYK" and layout.num_channel > len("CMYK"):
        notes.append("a channel beside its inks, left out")
    if layout is not None and layout.has_unknown_channel:
        notes.append("a channel beside its colours that is not said to be alpha, taken for it")
    if _is_deep(code, head.kind) or (head.mode == "CMYK" and layout and layout.bits > 8):
        notes.append("more than 8 bits, of which 8 come back")
    return tuple(notes)


def _is_deep(code: bytes, kind: str) -> bool:
    """Whether an AVIF or HEIC file has more than 8 bits a sample, by its record of the decoder's configuration."""
    if kind not in _DEEP:
        return False
    record, place, bits = _DEEP[kind]
    start = code.find(record, 0, 2**16)
    return 0 < start < len(code) - place and bool(code[start + place] & bits)


def _with_fitting_profile(photo: Photo) -> Photo:
    icc = photo.metadata.icc
    if icc is None or fits_channels(icc, photo.pixels.shape[2]):
        return photo
    notes = (*photo.notes, "colour profile is damaged or not for such pixels, and left out")
    return replace(photo, metadata=replace(photo.metadata, icc=None), notes=notes)


def photo_of_pillow(image: PillowImage.Image, name: str) -> tuple[Photo, bytes]:
    """The photograph that Pillow has read, and of an untouched JPEG a file that tells how it was quantised.

    Raises:
        UserError: An image of a mode that is no picture.
    """
    icc, buffer = image.info.get("icc_profile"), io.BytesIO()
    try:
        how = {"format": "TIFF"} if image.mode in CONVERTED_TO_SRGB else {"format": "PNG", "compress_level": 0}
        pixels = image.convert(_IN_MEMORY[image.mode]) if image.mode in _IN_MEMORY else image
        pixels.save(buffer, icc_profile=icc, **how)
    except Exception as error:  # of a mode that PNG has not
        raise UserError(f"{name}: mode {image.mode} ({said_by(error, 100)}); convert it") from None
    photo = read_photo(buffer.getvalue(), name)
    steps = luma_steps(image) if image.format == "JPEG" else []
    found, notes = read_metadata(image, b"")
    metadata = replace(photo.metadata, exif=found.exif, xmp=found.xmp, dpi=found.dpi)
    orientation = _exif_of_pillow(image).get(ORIENTATION, 1)
    photo = replace(photo, orientation=orientation, metadata=metadata, notes=(*photo.notes, *notes))
    return photo, _quantised_so(steps, "L" if begins_with_luma(image) else "CMYK") if steps else b""


def _exif_of_pillow(image: PillowImage.Image) -> PillowImage.Exif:
    try:
        return image.getexif()
    except Exception:  # odd data never fail an image
        return PillowImage.Exif()


def _quantised_so(steps: list[int], mode: str) -> bytes:
    """A small JPEG file with the luminance table of another, of grey or, where that was not luma, of ink."""
    buffer = io.BytesIO()
    PillowImage.new(mode, (8, 8)).save(buffer, "JPEG", qtables=[steps])
    return buffer.getvalue()


def split_alpha(samples: NDArray[Any]) -> Photo:
    """(H, W, C) of grey or RGB, with alpha where C is 2 or 4."""
    if samples.shape[2] in (1, 3):
        return Photo(samples)
    return Photo(np.ascontiguousarray(samples[..., :-1]), np.ascontiguousarray(samples[..., -1:]))


def _head(code: bytes) -> _Head:
    if any(brand in code[:16] for brand in _HEIF):
        with suppress(ImportError):
            importlib.import_module("pillow_heif").register_heif_opener()
    try:
        with opened_by_pillow(io.BytesIO(code)) as file:
            metadata, notes = read_metadata(file, code)
            return _Head(file.mode, file.format or "", getattr(file, "n_frames", 1), metadata, notes)
    except Exception:  # Pillow's readers let out anything; OpenCV may know the format
        return _Head()


def _by_pillow(code: bytes, name: str) -> NDArray[np.uint8]:
    """(H, W, C) of what OpenCV can't decode, or not without losing something."""
    with decoded_by_pillow(code, name) as file:
        target = _CONVERTED.get(file.mode, file.mode)
        if file.mode in {"P", "PA"} or "transparency" in file.info:
            has_alpha = "transparency" in file.info or file.mode == "PA"
            target = ("LA" if file.mode == "L" else "RGBA") if has_alpha else "RGB"
        return samples_of(file, target)
