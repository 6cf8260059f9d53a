"""What an XMP packet says of the photograph itself: captions, keywords, rights, rating, place.

The rest of a packet is about the file it was in (its history, its thumbnail, how a raw converter developed it, regions
of its pixels, a film or a gain map behind them) or repeats EXIF, and would be wrong beside restored, upright pixels:
properties of some namespaces come back, no others. Of what repeats EXIF the place alone may stand here only, and stays
right.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import count

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
# ISO 16684-1 and 16684-2, the IPTC photo metadata standard, PLUS, and what programs for collections write.
_KEPT = {
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/xap/1.0/rights/": "xmpRights",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
    "http://ns.useplus.org/ldf/xmp/1.0/": "plus",
    "http://ns.adobe.com/lightroom/1.0/": "lr",
    "http://www.digikam.org/ns/1.0/": "digiKam",
    "http://ns.microsoft.com/photo/1.0/": "MicrosoftPhoto",
    "http://creativecommons.org/ns#": "cc",
    "http://ns.adobe.com/exif/1.0/": "exif",
}
# Of these namespaces, what is about the file.
_OF_THE_FILE = {
    "dc": {"format"},
    "xmp": {"Thumbnails", "Identifier", "ModifyDate", "MetadataDate"},
    "photoshop": {
        *{"ColorMode", "ICCProfile", "DocumentAncestors", "History", "TextLayers"},
        *{"LegacyIPTCDigest", "EmbeddedXMPDigest"},
    },
    "Iptc4xmpExt": {"ImageRegion"},
    "digiKam": {"ImageHistory"},
}
_PREFIXES = {"adobe:ns:meta/": "x", _RDF: "rdf", "http://www.w3.org/XML/1998/namespace": "xml", **_KEPT}
_HEAD, _TAIL = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>', '<?xpacket end="w"?>'


def describing(packet: bytes) -> bytes | None:
    """Those properties of a packet that tell of the photograph, as a packet of their own; None if there are none.

    Raises:
        ValueError: It is no XML in UTF-8, or defines entities, which XMP does not.
    """
    kept = ET.Element(f"{{{_RDF}}}Description", {f"{{{_RDF}}}about": ""})
    names = set()
    for description in _parsed(packet).iterfind(f".//{{{_RDF}}}RDF/{{{_RDF}}}Description"):
        for name, value in description.items():
            if _is_kept(name) and name not in names:  # a packet has each property once
                names.add(name)
                kept.set(name, value)
        for item in description:
            if _is_kept(item.tag) and item.tag not in names:
                names.add(item.tag)
                kept.append(item)
    return _packet(kept) if names else None


def _parsed(packet: bytes) -> ET.Element:
    text = packet.decode("utf-8-sig").strip("\0 \r\n\t")
    if "\0" in text or "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("XMP in files has one byte a letter and defines no entities")
    root = ET.Element("file")  # above rdf:RDF, with or without x:xmpmeta
    try:
        root.append(ET.fromstring(text))
    except ET.ParseError as error:
        raise ValueError(str(error)) from None
    return root


def _is_kept(name: str) -> bool:
    namespace, _, local = name.removeprefix("{").partition("}")
    prefix = _KEPT.get(namespace)
    if prefix == "exif":
        return local.startswith("GPS")
    return prefix is not None and local not in _OF_THE_FILE.get(prefix, ())


def _packet(description: ET.Element) -> bytes:
    """A whole packet of a description.

    With prefixes of our own: programs expect the usual ones, and ElementTree's table of them is the whole process's.
    """
    prefixes, numbers = dict(_PREFIXES), count()

    def prefixed(name: str) -> str:
        namespace, _, local = name.removeprefix("{").partition("}")
        if not local:
            return name
        return f"{prefixes.setdefault(namespace, f'ns{next(numbers)}')}:{local}"

    for element in description.iter():
        element.tag = prefixed(element.tag)
        attributes = {prefixed(name): value for name, value in element.items()}
        element.attrib.clear()
        element.attrib.update(attributes)
    meta = ET.Element("x:xmpmeta", {f"xmlns:{prefix}": uri for uri, prefix in prefixes.items() if prefix != "xml"})
    ET.SubElement(meta, "rdf:RDF").append(description)
    try:
        return f"{_HEAD}{ET.tostring(meta, encoding='unicode')}{_TAIL}".encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
