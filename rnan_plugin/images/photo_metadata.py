"""What a photograph's file says beside its pixels: colour profile, camera data, resolution, what its values mean."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from PIL import Image as PillowImage

from rnan_plugin.images import xmp
from rnan_plugin.images.codec import ORIENTATION, chunk_of, png_exif
from rnan_plugin.images.png_rows import chunks, read_header

Notes = tuple[str, ...]

_SIDES = (0xA002, 0xA003)  # EXIF's width and height of the image, in its own part of the data
_ASCII, _UTF8 = 2, 129  # types of texts
_RESOLUTION, _INCH, _CENTIMETRE = (0x011A, 0x011B, 0x0128), 2, 3  # EXIF's, across and down, and its units
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
_CHRM = struct.Struct(">8I")
_SRGB_PRIMARIES = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)  # and white before them, as in cHRM
_UNLIKE = 100  # of 100,000: from here on they are others
# What stands before primaries and transfer curve in AVIF and HEIC, which number them as H.273 and PNG do.
_NCLX, _CICP = b"colrnclx", struct.Struct(">HH")
_SRGB_CODES, _UNSAID_CODES = b"\1\x0d", b"\2\2"
_DAMAGED_PROFILE = ("colour profile is damaged, and left out",)
_SPACES = {1: b"GRAY", 3: b"RGB "}  # in the head of a profile, by number of channels


@dataclass(frozen=True)
class Metadata:
    """What comes back with the pixels as it was.

    Args:
        icc: Colour profile.
        exif: Camera data as a TIFF structure, its orientation the one of upright pixels.
        dpi: Pixels an inch, across and down.
        colour: Kinds and contents of the chunks by which a PNG says what the values mean, beside a profile.
        xmp: Captions, keywords, rights: what `images.xmp` takes from a file's packet.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    colour: tuple[tuple[bytes, bytes], ...] = ()
    xmp: bytes | None = None

    def sideways(self) -> Metadata:
        """As it is for pixels that are turned by a quarter: what is told across and down is exchanged."""
        return replace(self, dpi=self.dpi and self.dpi[::-1], exif=self.exif and _resolution_exchanged(self.exif))

    @property
    def is_plain(self) -> bool:
        """Whether the values mean what they mean in a file that says nothing, or a profile says it."""
        told = dict(self.colour)
        if self.icc or b"cICP" in told:
            return bool(self.icc) or told[b"cICP"][:2] == _SRGB_CODES
        gamma = int.from_bytes(told.get(b"gAMA", b""), "big")
        return b"sRGB" in told or (gamma in (0, 45455) and _are_srgb(told.get(b"cHRM", b"")))


def _are_srgb(primaries: bytes) -> bool:
    """Whether a PNG's primaries, if it names any, are those of sRGB."""
    if len(primaries) != _CHRM.size:
        return True
    pairs = zip(_CHRM.unpack(primaries), _SRGB_PRIMARIES, strict=True)
    return all(abs(value - usual) < _UNLIKE for value, usual in pairs)


def read_metadata(file: PillowImage.Image, code: bytes) -> tuple[Metadata, Notes]:
    """Metadata of a file that Pillow has opened; what can't be read of them is left out and told.

    Args:
        file: As Pillow has it.
        code: The file's content, as far as there is one.
    """
    (icc, told), dpi = _readable_profile(file), file.info.get("dpi") or _dpi_of_camera_data(file)
    (exif, notes), (packet, more) = _readable_exif(file, code), _readable_xmp(file, code)
    if not (isinstance(dpi, tuple) and len(dpi) == 2 and all(1 < float(value) < 1e6 for value in dpi)):  # 1 is a ratio
        dpi = None
    dpi = dpi and (float(dpi[0]), float(dpi[1]))
    colour = _png_colour(code) or (_coded_colour(code) if file.format in {"AVIF", "HEIF"} and not icc else ())
    return Metadata(icc, exif, dpi, colour, packet), (*told, *notes, *more)


def _dpi_of_camera_data(file: PillowImage.Image) -> tuple[float, float] | None:
    """Pixels an inch of formats that have no other place for them, and of which Pillow therefore gives none."""
    with suppress(Exception):  # odd data never fail an image
        tags: Mapping[int, Any] = file.getexif() if file.format in {"WEBP", "AVIF", "HEIF"} else {}
        across, down, unit = (tags[tag] for tag in _RESOLUTION)
        factor = 2.54 if unit == _CENTIMETRE else 1.0
        return float(across) * factor, float(down) * factor
    return None


def _readable_profile(file: PillowImage.Image) -> tuple[bytes | None, Notes]:
    """The colour profile that Pillow has read, if there is one; a note where it could not."""
    icc = file.info.get("icc_profile")
    return icc or None, () if icc or "icc_profile" not in file.info else _DAMAGED_PROFILE


def tiff_metadata(code: bytes) -> tuple[Metadata, Notes]:
    """Metadata of a TIFF file whose pixels Pillow does not know; empty where they can't be read."""
    try:
        found = exif_of(_with_known_texts(code) or code)
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


def _coded_colour(code: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The chunk by which a PNG says what an AVIF or HEIC file says of its colours, if that is not sRGB."""
    place = code.find(_NCLX) + len(_NCLX)
    if place < len(_NCLX) or len(code) < place + _CICP.size:
        return ()
    codes = bytes(min(number, 255) for number in _CICP.unpack_from(code, place))
    return () if codes in {_SRGB_CODES, _UNSAID_CODES} else ((b"cICP", codes + b"\0\1"),)  # RGB, of full range


def _readable_exif(file: PillowImage.Image, code: bytes) -> tuple[bytes | None, Notes]:
    try:
        exif, notes = _loaded_exif(file, code)
        return _stored(describing(exif) if file.format == "TIFF" else exif), notes
    except Exception:  # any: it never fails the image
        return None, ("camera data can't be read and are left out",)


def _loaded_exif(file: PillowImage.Image, code: bytes) -> tuple[PillowImage.Exif, Notes]:
    is_png = read_header(code) is not None
    data = png_exif(code) if is_png else code if file.format == "TIFF" else file.info.get("exif", b"")
    with_texts = _with_known_texts(data)
    if code and (is_png or with_texts is not None):
        return exif_of(with_texts or data), ()
    notes = () if with_texts is None else ("texts of the camera data in UTF-8 are left out",)
    return file.getexif(), notes  # as a program may have changed them


def _with_known_texts(data: bytes) -> bytes | None:
    """EXIF data, or a TIFF file, with texts in UTF-8 (EXIF 3.0) as such of ASCII, since Pillow leaves out the others.

    None where they hold no such texts.
    """
    data = data.removeprefix(b"Exif\0\0")
    if not (places := list(_utf8_places(data))):
        return None
    changed = bytearray(data)
    for order, place in places:
        struct.pack_into(f"{order}H", changed, place, _ASCII)
    return bytes(changed)


def _utf8_places(data: bytes) -> Iterator[tuple[str, int]]:
    """Yield the order of bytes, and where the entry of a text says that it is in UTF-8."""
    order, parts = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4], ""), {_EXIF_PART, _GPS_PART, _INTEROP_PART}
    with suppress(struct.error):  # the data end within a directory
        ahead = list(struct.unpack_from(f"{order}I", data, 4)) if order else []
        while ahead:
            start = ahead.pop()
            (count,) = struct.unpack_from(f"{order}H", data, start)
            for place in range(start + 2, start + 2 + 12 * count, 12):
                tag, kind, _, value = struct.unpack_from(f"{order}HHII", data, place)
                if kind == _UTF8:
                    yield order, place + 2
                elif tag in parts:
                    parts.remove(tag)  # each once
                    ahead.append(value)


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
    return exif_bytes(exif, {ORIENTATION: 1} if ORIENTATION in exif else {})


class _Text(str):
    """A text that Pillow writes as the bytes which it was read from: it takes any for Latin-1, and writes ASCII."""

    __slots__ = ()

    def encode(self, encoding: str = "latin-1", errors: str = "strict") -> bytes:  # noqa: ARG002
        try:
            return super().encode("latin-1")
        except UnicodeEncodeError:  # a program's own
            return super().encode("utf-8", "replace")


def as_they_were(values: Mapping[int, Any]) -> dict[int, Any]:
    """EXIF data by tag, of which Pillow writes every text as the file had it, in its parts too."""
    return {tag: _as_it_was(value) for tag, value in values.items()}


def _as_it_was(value: Any) -> Any:
    if isinstance(value, Mapping):
        return as_they_were(value)
    return _Text(value) if isinstance(value, str) else value


def exif_bytes(exif: PillowImage.Exif, changed: Mapping[int, Any]) -> bytes:
    """EXIF data as a TIFF structure, with other values of some tags."""
    written = PillowImage.Exif()
    written.endian = exif.endian
    for tag, value in as_they_were({**exif, **_parts(exif), **changed}).items():
        written[tag] = value
    return written.tobytes().removeprefix(b"Exif\0\0")


def _parts(exif: PillowImage.Exif) -> dict[int, dict[int, Any]]:
    """Those of the data that have a directory of their own."""
    parts = {}
    for part in (_EXIF_PART, _GPS_PART):
        own = exif.get(part)
        values = dict(own if isinstance(own, Mapping) else exif.get_ifd(part))
        if _INTEROP_PART in values and not isinstance(values[_INTEROP_PART], Mapping):
            values[_INTEROP_PART] = dict(exif.get_ifd(_INTEROP_PART))
        if values or part in exif:
            parts[part] = values
    return parts


def describing(exif: PillowImage.Exif) -> PillowImage.Exif:
    """Those of the data that a TIFF file can take: what says how pixels are stored is another file's."""
    kept = PillowImage.Exif()
    for tag in _DESCRIBING:
        if tag in exif:
            kept[tag] = exif[tag]
    for part, values in _parts(exif).items():
        kept[part] = values
    return kept


def with_sides(exif: bytes, width: int, height: int) -> bytes:
    """EXIF data with the width and height of the image where they tell any."""
    found = exif_of(exif)
    part = found.get_ifd(_EXIF_PART)
    for tag, side in zip(_SIDES, (width, height), strict=True):
        if tag in part:
            part[tag] = side
    return exif_bytes(found, {})


def with_resolution(exif: bytes | None, dpi: tuple[float, float]) -> bytes:
    """EXIF data that tell the pixels an inch, across and down."""
    told = dict(zip(_RESOLUTION, (*dpi, _INCH), strict=True))
    return exif_bytes(exif_of(exif) if exif else PillowImage.Exif(), told)


def _resolution_exchanged(exif: bytes) -> bytes:
    across, down, _ = _RESOLUTION
    with suppress(Exception):  # odd data never fail an image
        found = exif_of(exif)
        if found.get(across) != found.get(down):
            return exif_bytes(found, {across: found[down], down: found[across]})
    return exif


def fits_channels(icc: bytes, num_channel: int) -> bool:
    """Whether a colour profile is for an image of grey or colour: files of the other kind refuse it."""
    return len(icc) >= 128 and icc[36:40] == b"acsp" and icc[16:20] == _SPACES[num_channel]


def exif_of(data: bytes) -> PillowImage.Exif:
    """EXIF data as Pillow holds them."""
    exif = PillowImage.Exif()
    exif.load(data)
    return exif
