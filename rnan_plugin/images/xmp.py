"""What an XMP packet says of the photograph itself: captions, keywords, rights, rating, place.

The rest of a packet is about the file it was in (its history, its thumbnail, how a raw converter developed it, a film
or a gain map behind its pixels) or repeats EXIF, and would be wrong beside restored, upright pixels: properties of
some namespaces come back, no others.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
# ISO 16684-1 and 16684-2, the IPTC photo metadata standard, PLUS, and what programs for collections write.
_KEPT = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "MicrosoftPhoto": "http://ns.microsoft.com/photo/1.0/",
}
# Of these namespaces, what is about the file.
_OF_THE_FILE = {
    "dc": {"format"},
    "xmp": {"Thumbnails", "Identifier"},
    "photoshop": {"ColorMode", "ICCProfile", "DocumentAncestors", "History", "TextLayers"},
}
_NAMES_LEFT_OUT = {f"{{{_KEPT[prefix]}}}{name}" for prefix, names in _OF_THE_FILE.items() for name in names}
_HEAD, _TAIL = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>', '<?xpacket end="w"?>'

for _prefix, _uri in {"x": _META, "rdf": _RDF, **_KEPT}.items():  # programs expect these prefixes
    ET.register_namespace(_prefix, _uri)


def describing(packet: bytes) -> bytes | None:
    """Those properties of a packet that tell of the photograph, as a packet of their own; None if there are none.

    Raises:
        ValueError: It is no XML, or defines entities, which XMP does not.
    """
    if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        raise ValueError("XMP defines no entities")
    try:
        root = ET.Element("file")  # above rdf:RDF, with or without x:xmpmeta
        root.append(ET.fromstring(packet.strip(b"\0 \r\n\t")))
    except ET.ParseError as error:
        raise ValueError(str(error)) from None
    meta = ET.Element(f"{{{_META}}}xmpmeta")
    rdf = ET.SubElement(meta, f"{{{_RDF}}}RDF")
    kept = ET.SubElement(rdf, f"{{{_RDF}}}Description", {f"{{{_RDF}}}about": ""})
    for description in root.iterfind(f".//{{{_RDF}}}RDF/{{{_RDF}}}Description"):
        kept.attrib.update({name: value for name, value in description.items() if _is_kept(name)})
        kept.extend([item for item in description if _is_kept(item.tag)])
    if len(kept) == 0 and len(kept.attrib) == 1:  # rdf:about
        return None
    return f"{_HEAD}{ET.tostring(meta, encoding='unicode')}{_TAIL}".encode()


def _is_kept(name: str) -> bool:
    namespace = name[1:].partition("}")[0]
    return namespace in _KEPT.values() and name not in _NAMES_LEFT_OUT
