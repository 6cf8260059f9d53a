"""XMP packets: what tells of the photograph stays, what is about the file goes, and odd ones never fail an image."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import PngImagePlugin

from rnan_plugin.images.photo import photo_of_pillow, read_photo
from rnan_plugin.images.photo_writer import encode_photo
from rnan_plugin.images.xmp import describing

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
ATTRIBUTES = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" xmp:Rating="3" crs:Tint="+5" tiff:Orientation="6"/>
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:subject><rdf:Bag><rdf:li>b\u00e4r</rdf:li><rdf:li>a &amp; b</rdf:li></rdf:Bag></dc:subject>
<dc:format>image/jpeg</dc:format>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()
WITHOUT_CAPTIONS = ATTRIBUTES.replace(b"xmp:Rating", b"crs:Sharpness").replace(b"dc:subject", b"dc:format")


def test_captions_stay_and_the_rest_goes() -> None:
    kept = describing(ATTRIBUTES)
    assert kept is not None
    text = kept.decode()
    assert 'xmp:Rating="3"' in text
    assert "<dc:subject><rdf:Bag><rdf:li>b\u00e4r</rdf:li><rdf:li>a &amp; b</rdf:li></rdf:Bag></dc:subject>" in text
    assert not any(word in text for word in ("Tint", "Orientation", "format"))
    assert describing(kept) == kept


def test_rdf_without_the_element_around_it_serves_too() -> None:
    bare = ATTRIBUTES.replace(b'<x:xmpmeta xmlns:x="adobe:ns:meta/">', b"").replace(b"</x:xmpmeta>", b"")
    assert describing(bare) == describing(ATTRIBUTES)


def test_without_captions_there_is_none() -> None:
    assert describing(WITHOUT_CAPTIONS) is None


@pytest.mark.parametrize(
    "packet",
    [b"<x", b"\xff\xfe", ATTRIBUTES[:-40], b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'],
    ids=["cut", "no text", "no end", "entities"],
)
def test_odd_packets_are_refused(packet: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        describing(packet)


def png_with(packet: bytes, *, is_packed: bool) -> bytes:
    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_itxt("XML:com.adobe.xmp", packet.decode("utf-8", "surrogateescape"), zip=is_packed)
    PillowImage.new("RGB", (9, 7)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


@pytest.mark.parametrize("is_packed", [False, True])
def test_png_holds_it_packed_or_not(is_packed: bool) -> None:
    assert read_photo(png_with(ATTRIBUTES, is_packed=is_packed), "a.png").metadata.xmp == describing(ATTRIBUTES)


def test_what_unpacks_to_gigabytes_is_left_out() -> None:
    packed = png_with(b" " * 2**25, is_packed=True)
    assert len(packed) < 2**17
    photo = read_photo(packed, "a.png")
    assert photo.metadata.xmp is None
    assert photo.notes == ("captions (XMP) can't be read and are left out",)


def test_a_damaged_chunk_fails_nothing() -> None:
    code = png_with(ATTRIBUTES, is_packed=True)
    place = code.index(b"iTXt") + 40
    wrong = code[:place] + bytes(byte ^ 0x55 for byte in code[place : place + 40]) + code[place + 40 :]
    length = int.from_bytes(wrong[(start := wrong.index(b"iTXt")) - 4 : start], "big")
    end = start + 4 + length
    wrong = wrong[:end] + zlib.crc32(wrong[start:end]).to_bytes(4, "big") + wrong[end + 4 :]
    photo = read_photo(wrong, "a.png")
    assert photo.metadata.xmp is None
    assert np.array_equal(photo.pixels, np.zeros((7, 9, 3), np.uint8))


def test_more_than_a_jpeg_can_hold_is_told() -> None:
    """And costs nothing else: the profile stays."""
    packet = ATTRIBUTES.replace(b"a &amp; b", b"x" * 70_000)
    photo = read_photo(png_with(packet, is_packed=False), "a.png")
    pieces, lost = encode_photo(photo, "a.jpg")
    assert lost == ["captions (XMP)"]
    assert b"xpacket" not in b"".join(pieces)
    pieces, lost = encode_photo(photo, "a.webp")
    assert not lost
    with PillowImage.open(io.BytesIO(b"".join(pieces))) as image:
        assert image.info["xmp"] == describing(packet)


def test_pillow_s_images_keep_it(tmp_path: Path) -> None:
    PillowImage.new("RGB", (8, 8)).save(tmp_path / "a.jpg", xmp=ATTRIBUTES)
    with PillowImage.open(tmp_path / "a.jpg") as image:
        image.load()
        photo, _ = photo_of_pillow(image, "image")
    assert photo.metadata.xmp == describing(ATTRIBUTES)
