"""What a photograph's file says beside its pixels: colour profile, camera data, resolution, what its values mean."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from itertools import takewhile

from PIL import Image as PillowImage

from rnan_plugin.images import xmp
from rnan_plugin.images.codec import ORIENTATION, chunk_of, png_exif
from rnan_plugin.images.png_rows import chunks, read_header

Notes = tuple[str, ...]

_SIDES = (0xA002, 0xA003)  # EXIF's width and height of the image, in its own part of the data
_EXIF_PART, _GPS_PART, _INTEROP_PART = 0x8769, 0x8825, 0xA005
_TIFF_ICC, _TIFF_XMP = 34675, 700
_MOST_XMP = 2**24  # bytes, of a packet that is packed
_PNG_XMP = b"XML:com.adobe.xmp\0"
# Of a TIFF's tags those that tell of the photograph, not of how its pixels are stored.
_DESCRIBING = (
    *(0x010E, 0x010F, 0x0110, ORIENTATION, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298),
    *range(0x9C9B, 0x9CA0),
)
_PNG_COLOUR = frozenset({b"cICP", b"gAMA", b"cHRM", b"sRGB"})
_SPACES = {1: b"GRAY", 3: b"RGB "}  # in the head of a profile, by number of channels


@dataclass(frozen=True)
class Metadata:
    """What comes back with the pixels as it was.

    Args:
        icc: Colour profile.
        exif: Camera data as a TIFF structure, its orientation the one of upright pixels.
        dpi: Pixels an inch, across and down.
        colour: Kinds and contents of the chunks by which a PNG says what its values mean, beside a profile.
        xmp: Captions, keywords, rights: what `images.xmp` takes from a file's packet.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    colour: tuple[tuple[bytes, bytes], ...] = ()
    xmp: bytes | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the values mean what they mean in a file that says nothing, or a profile says it."""
        told = dict(self.colour)
        gamma = int.from_bytes(told.get(b"gAMA", b""), "big")
        return bool(self.icc) or b"sRGB" in told or not (b"cICP" in told or gamma not in (0, 45455))


def read_metadata(file: PillowImage.Image, code: bytes) -> tuple[Metadata, Notes]:
    """Metadata of a file that Pillow has opened; what can't be read of them is left out and told."""
    icc, dpi = file.info.get("icc_profile"), file.info.get("dpi")
    (exif, notes), (packet, more) = _readable_exif(file, code), _readable_xmp(file, code)
    if not (isinstance(dpi, tuple) and len(dpi) == 2 and all(1 < float(value) < 1e6 for value in dpi)):  # 1 is a ratio
        dpi = None
    dpi = dpi and (float(dpi[0]), float(dpi[1]))
    return Metadata(icc or None, exif, dpi, _png_colour(code), packet), (*notes, *more)


def tiff_metadata(code: bytes) -> tuple[Metadata, Notes]:
    """Metadata of a TIFF file whose pixels Pillow does not know; empty where they can't be read."""
    try:
        found = PillowImage.Exif()
        found.load(code)
        icc = found.get(_TIFF_ICC)
        packet, notes = readable_packet(found.get(_TIFF_XMP))
        return Metadata(icc if isinstance(icc, bytes) else None, _stored(describing(found)), xmp=packet), notes
    except Exception:  # metadata never fail an image
        return Metadata(), ()


def _png_colour(code: bytes) -> tuple[tuple[bytes, bytes], ...]:
    if read_header(code) is None:
        return ()
    before_pixels = takewhile(lambda chunk: chunk[0] != b"IDAT", chunks(code))
    return tuple((kind, code[start:end]) for kind, start, end in before_pixels if kind in _PNG_COLOUR)


def _readable_exif(file: PillowImage.Image, code: bytes) -> tuple[bytes | None, Notes]:
    try:
        if read_header(code) is not None:
            exif = PillowImage.Exif()
            exif.load(png_exif(code))
        else:
            exif = file.getexif()
        return _stored(describing(exif) if file.format == "TIFF" else exif), ()
    except Exception:  # any: it never fails the image
        return None, ("camera data can't be read and are left out",)


def _readable_xmp(file: PillowImage.Image, code: bytes) -> tuple[bytes | None, Notes]:
    return readable_packet(_png_xmp(code) if read_header(code) else file.info.get("xmp"))


def readable_packet(packet: bytes | str | None) -> tuple[bytes | None, Notes]:
    """What comes back of an XMP packet, if a file has one; a note where it can't be read."""
    if not packet:
        return None, ()
    try:
        return xmp.describing(packet.encode() if isinstance(packet, str) else packet), ()
    except Exception:  # any: it never fails the image
        return None, ("captions (XMP) can't be read and are left out",)


def _png_xmp(code: bytes) -> bytes:
    """The XMP packet of a PNG file, wherever it stands, or what is there instead; empty if there is nothing."""
    content = chunk_of(code, b"iTXt", _PNG_XMP)
    parts = content[2:].split(b"\0", 2)  # behind whether it is packed, and how: language, translated keyword, text
    if len(parts) < 3 or content[:1] != b"\1":
        return parts[-1]
    try:
        return zlib.decompressobj().decompress(parts[-1], _MOST_XMP)
    except zlib.error:
        return parts[-1]


def png_xmp_chunk(packet: bytes) -> tuple[bytes, bytes]:
    """Kind and content of the chunk of a PNG file that holds an XMP packet."""
    return b"iTXt", _PNG_XMP + b"\0\0\0\0" + packet


def _stored(exif: PillowImage.Exif) -> bytes | None:
    """As bytes, for upright pixels; None if they tell nothing."""
    if not set(exif) - {ORIENTATION}:
        return None
    if ORIENTATION in exif:
        exif[ORIENTATION] = 1
    return exif.tobytes().removeprefix(b"Exif\0\0")


def describing(exif: PillowImage.Exif) -> PillowImage.Exif:
    """Those of the data that a TIFF file can take: what says how pixels are stored is another file's."""
    kept = PillowImage.Exif()
    for tag in _DESCRIBING:
        if tag in exif:
            kept[tag] = exif[tag]
    for part in (_EXIF_PART, _GPS_PART):
        if part in exif:
            values = dict(exif.get_ifd(part))
            if _INTEROP_PART in values:
                values[_INTEROP_PART] = dict(exif.get_ifd(_INTEROP_PART))
            kept[part] = values
    return kept


def with_sides(exif: bytes, width: int, height: int) -> bytes:
    """EXIF data with the width and height of the image where they tell any."""
    found = PillowImage.Exif()
    found.load(exif)
    part = found.get_ifd(_EXIF_PART)
    for tag, side in zip(_SIDES, (width, height), strict=True):
        if tag in part:
            part[tag] = side
    return found.tobytes().removeprefix(b"Exif\0\0")


def fits_channels(icc: bytes, num_channel: int) -> bool:
    """Whether a colour profile is for an image of grey or colour: files of the other kind refuse it."""
    return len(icc) >= 128 and icc[36:40] == b"acsp" and icc[16:20] == _SPACES[num_channel]


def exif_of(data: bytes) -> PillowImage.Exif:
    """EXIF data as Pillow holds them."""
    exif = PillowImage.Exif()
    exif.load_from_fp(io.BytesIO(data))
    return exif
