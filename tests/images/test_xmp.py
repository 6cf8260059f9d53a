"""XMP packets: what tells of the photograph stays, what is about the file goes, and odd ones never fail an image."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms, PngImagePlugin

import rnan_plugin
from rnan_plugin.images.photo import read_photo
from rnan_plugin.images.photo_metadata import Metadata
from rnan_plugin.images.photo_writer import encode_photo
from rnan_plugin.images.xmp import describing

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
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


def test_a_licence_and_a_place_stay() -> None:
    """Those of Creative Commons and of Adobe's copy of EXIF, whose rest is about the file."""
    packet = f"""<rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about="" xmlns:cc="http://creativecommons.org/ns#"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="47,22.5N" exif:PixelXDimension="4000">
<cc:license rdf:resource="https://creativecommons.org/licenses/by/4.0/"/><exif:GPSLongitude>8,33E</exif:GPSLongitude>
<exif:ISOSpeedRatings><rdf:Seq><rdf:li>200</rdf:li></rdf:Seq></exif:ISOSpeedRatings></rdf:Description></rdf:RDF>"""
    kept = (describing(packet.encode()) or b"").decode()
    assert '<cc:license rdf:resource="https://creativecommons.org/licenses/by/4.0/" />' in kept
    assert 'exif:GPSLatitude="47,22.5N"' in kept
    assert "<exif:GPSLongitude>8,33E</exif:GPSLongitude>" in kept
    assert not any(word in kept for word in ("Pixel", "ISO"))


def test_rdf_without_the_element_around_it_serves_too() -> None:
    bare = ATTRIBUTES.replace(b'<x:xmpmeta xmlns:x="adobe:ns:meta/">', b"").replace(b"</x:xmpmeta>", b"")
    assert describing(bare) == describing(ATTRIBUTES)


def test_without_captions_there_is_none() -> None:
    assert describing(WITHOUT_CAPTIONS) is None


def test_each_property_comes_back_once() -> None:
    """The first of several sources, as attribute or element."""
    twice = ATTRIBUTES.replace(b"<dc:subject>", b"<xmp:Rating>5</xmp:Rating><dc:subject>").replace(
        b'xmlns:dc="', b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="'
    )
    assert describing(twice) == describing(ATTRIBUTES)


def test_structures_in_other_namespaces_stay_whole() -> None:
    creator = b'<dc:creator xmlns:own="urn:own" own:of="x"><own:name rdf:parseType="Resource">A</own:name></dc:creator>'
    kept = describing(ATTRIBUTES.replace(b"<dc:subject>", creator + b"<dc:subject>"))
    assert kept is not None
    (found,) = ET.fromstring(kept.decode("utf-8-sig")).iter("{http://purl.org/dc/elements/1.1/}creator")
    assert found.attrib == {"{urn:own}of": "x"}
    assert [(item.tag, item.text, item.attrib) for item in found] == [
        ("{urn:own}name", "A", {f"{{{RDF}}}parseType": "Resource"})
    ]


def test_tables_of_other_programs_stay_as_they_are() -> None:
    ET.register_namespace("x", "urn:mine")
    describing(ATTRIBUTES)
    assert ET.tostring(ET.Element("{urn:mine}a")) == b'<x:a xmlns:x="urn:mine" />'


ENTITY = '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
DEEP = ATTRIBUTES.replace(b"<dc:subject>", b"<dc:a>" * 5000 + b"</dc:a>" * 5000 + b"<dc:subject>")


@pytest.mark.parametrize(
    "packet",
    [b"<x", b"\xff\xfe", ATTRIBUTES[:-40], ENTITY.encode(), ENTITY.encode("utf-16-be"), ENTITY.encode("utf-16"), DEEP],
    ids=["cut", "no text", "no end", "entities", "entities UTF-16-BE", "entities UTF-16-LE", "deep"],
)
def test_odd_packets_are_refused(packet: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        describing(packet)


def png_with(packet: bytes, *, is_packed: bool, **more: Any) -> bytes:
    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_itxt("XML:com.adobe.xmp", packet.decode("utf-8", "surrogateescape"), zip=is_packed)
    PillowImage.new("RGB", (9, 7)).save(buffer, "PNG", pnginfo=info, **more)
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


def test_a_damaged_chunk_is_told_and_costs_nothing_else() -> None:
    code = png_with(ATTRIBUTES, is_packed=True, icc_profile=SRGB)
    place = code.index(b"iTXt") + 40
    wrong = code[:place] + bytes(byte ^ 0x55 for byte in code[place : place + 40]) + code[place + 40 :]
    length = int.from_bytes(wrong[(start := wrong.index(b"iTXt")) - 4 : start], "big")
    end = start + 4 + length
    wrong = wrong[:end] + zlib.crc32(wrong[start:end]).to_bytes(4, "big") + wrong[end + 4 :]
    photo = read_photo(wrong, "a.png")
    assert photo.metadata == Metadata(SRGB)
    assert photo.notes == ("captions (XMP) can't be read and are left out",)
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


def test_both_camera_data_and_captions_too_long_cost_no_profile() -> None:
    exif = PillowImage.Exif()
    exif[0x9286] = "x" * 70_000
    packet = ATTRIBUTES.replace(b"a &amp; b", b"x" * 70_000)
    photo = read_photo(png_with(packet, is_packed=False, icc_profile=SRGB, exif=exif), "a.png")
    pieces, lost = encode_photo(photo, "a.jpg")
    assert lost == ["camera data and captions (XMP)"]
    with PillowImage.open(io.BytesIO(b"".join(pieces))) as image:
        assert image.info["icc_profile"] == SRGB


@pytest.mark.parametrize("kind", [bytes, str])
def test_pillow_s_images_keep_it(kind: type, tmp_path: Path) -> None:
    PillowImage.new("RGB", (8, 8)).save(tmp_path / "a.jpg", xmp=ATTRIBUTES)
    with PillowImage.open(tmp_path / "a.jpg") as image:
        image.load()
        image.info["xmp"] = ATTRIBUTES if kind is bytes else ATTRIBUTES.decode()
        restored = rnan_plugin.restore(image, task="car", level=10)
    assert restored.info["xmp"] == describing(ATTRIBUTES)
