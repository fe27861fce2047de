"""Read XMP packets, and describe the origin of a picture by them.

The packet is read with the standard library's expat. A document type declaration ends the reading: XMP has none, and
without one there are no entities that could be expanded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from deepfake_detect.provenance.blocks import Block
from deepfake_detect.provenance.findings import Findings, PointsTo, Strength, cut, found_in
from deepfake_detect.provenance.software import describe_software

MAX_PACKET_BYTES: Final = 4 * 2**20
MAX_DEPTH: Final = 64
MAX_PROPERTIES: Final = 20_000
MAX_ELEMENTS: Final = 50_000
MAX_VALUE_CHARACTERS: Final = 2**16

_PREFIXES = {
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#": "rdf",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/xap/1.0/mm/": "xmpMM",
    "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#": "stEvt",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
    "http://purl.org/dc/terms/": "dcterms",
    "http://www.tc260.org.cn/ns/AIGC/1.0/": "TC260",
}

SOURCE_TYPES: Final[dict[str, tuple[str, Strength, PointsTo | None]]] = {
    "trainedAlgorithmicMedia": ("made by a trained model", "strong", "generated"),
    "compositeWithTrainedAlgorithmicMedia": ("changed in part by a trained model", "strong", "edited"),
    "compositeSynthetic": ("put together from parts, some of them synthetic", "strong", "edited"),
    "algorithmicMedia": ("made by an algorithm that was not trained on pictures", "moderate", "generated"),
    "algorithmicallyEnhanced": ("enhanced by an algorithm", "weak", "edited"),
    "composite": ("put together from several parts", "moderate", "edited"),
    "compositeCapture": ("put together from several photographs", "weak", "edited"),
    "humanEdits": ("edited by a person", "moderate", "edited"),
    "minorHumanEdits": ("edited by a person in small ways", "weak", "edited"),
    "digitalCapture": ("taken with a digital camera", "weak", "captured"),
    "computationalCapture": ("taken with a digital camera, from several frames", "weak", "captured"),
    "negativeFilm": ("scanned from a negative", "weak", "captured"),
    "positiveFilm": ("scanned from a slide", "weak", "captured"),
    "print": ("scanned from a print", "weak", "captured"),
    "digitalArt": ("drawn by a person with software", "moderate", "edited"),
    "digitalCreation": ("made by a person with software", "moderate", "edited"),
    "dataDrivenMedia": ("drawn from data", "neutral", None),
    "screenCapture": ("a screenshot", "neutral", None),
    "virtualRecording": ("a recording of a virtual scene", "moderate", "generated"),
    "softwareImage": ("made with software", "weak", "edited"),
}
"""Codes of IPTC's vocabulary Digital Source Type: what they mean, how strong the statement is, what it points to."""

_AI_FIELDS = ("AISystemUsed", "AISystemVersionUsed", "AIPromptInformation", "AIPromptWriterName")
_LABEL_NOT_PROOF = "that it is true: anybody can write or remove this label; it is not signed"


@dataclass(slots=True)
class Xmp:
    """The properties of a packet.

    Attributes:
        values: Name with its usual prefix, such as ``"xmp:CreatorTool"``, to its values in their order.
        problem: Why the packet could not be read to its end; empty where it was.
    """

    values: dict[str, list[str]] = field(default_factory=dict)
    problem: str = ""

    def first(self, name: str) -> str:
        """Return the first value of a property; empty where there is none."""
        return next((value for value in self.values.get(name, ()) if value), "")


class _Unreadable(Exception):
    """The packet breaks a limit or a rule."""


def read_xmp(packet: bytes) -> Xmp:
    """Read the properties of an XMP packet.

    Args:
        packet: XML in UTF-8.

    Example:
        >>> read_xmp(b'<a xmlns:x="http://ns.adobe.com/xap/1.0/" x:CreatorTool="GIMP 2.10"/>').first("xmp:CreatorTool")
        'GIMP 2.10'
    """
    xmp = Xmp()
    if len(packet) > MAX_PACKET_BYTES:
        xmp.problem = f"an XMP packet of {len(packet):,} bytes, more than {MAX_PACKET_BYTES:,}; not read"
        return xmp
    try:
        _Collector(xmp).parse(packet.strip(b"\0 \r\n\t"))
    except _Unreadable as error:
        xmp.problem = f"an XMP packet with {error}; read up to there"
    except expat.ExpatError as error:
        xmp.problem = f"an XMP packet that is no XML ({error}); read up to there"
    return xmp


class _Collector:
    """Collects attributes and texts of an XML document as properties."""

    def __init__(self, xmp: Xmp) -> None:
        self._xmp, self._count, self._elements = xmp, 0, 0
        self._path: list[tuple[str, list[str]]] = []
        self._parser = expat.ParserCreate("utf-8", " ")  # whatever it declares: Python would look for its own codecs
        self._parser.buffer_text = True  # one call for a text, not one for each of its lines
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def parse(self, packet: bytes) -> None:
        self._parser.Parse(packet, True)

    def _refuse(self, *_: object) -> None:
        raise _Unreadable("a document type declaration, which XMP does not have")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._path) >= MAX_DEPTH:
            raise _Unreadable(f"more than {MAX_DEPTH} levels")
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise _Unreadable(f"more than {MAX_ELEMENTS:,} elements")
        self._path.append((_short(name), []))
        for key, value in attributes.items():
            self._add(_short(key), value)

    def _text(self, text: str) -> None:
        if self._path:
            self._path[-1][1].append(text)

    def _end(self, _: str) -> None:
        name, texts = self._path.pop()
        value = "".join(texts).strip()
        if not value:
            return
        names = [name, *(outer for outer, _ in reversed(self._path))]
        named = next((name for name in names if not name.startswith("rdf:")), name)  # lists stand in rdf:li
        self._add(named, value)

    def _add(self, name: str, value: str) -> None:
        self._count += 1
        if self._count > MAX_PROPERTIES:
            raise _Unreadable(f"more than {MAX_PROPERTIES:,} properties")
        self._xmp.values.setdefault(name, []).append(value[:MAX_VALUE_CHARACTERS])


def _short(name: str) -> str:
    space, _, local = name.rpartition(" ")
    prefix = _PREFIXES.get(space) or space.rstrip("/#").rpartition("/")[2]
    return f"{prefix}:{local}" if prefix else local


def describe_xmp(xmp: Xmp, block: Block) -> Findings:
    """Describe the origin of a picture by a packet."""
    if xmp.problem:
        yield found_in(block, "unreadable", f"{xmp.problem}", not_proof="anything: damaged metadata is common")
    for source_type in dict.fromkeys(xmp.values.get("Iptc4xmpExt:DigitalSourceType", ())):
        yield from describe_source_type(source_type, block)
    for name in _AI_FIELDS:
        if value := xmp.first(f"Iptc4xmpExt:{name}"):
            yield found_in(
                block,
                "ai-fields",
                f"IPTC's field {name} names an AI system or its prompt: {cut(value)}",
                strength="strong",
                points_to="generated",
                value=value,
                not_proof=_LABEL_NOT_PROOF,
            )
    yield from _describe_tools(xmp, block)
    if link := xmp.first("dcterms:provenance"):
        what = f"a C2PA manifest is said to be kept elsewhere: {cut(link)}; it is not fetched"
        yield found_in(block, "c2pa-link", what, value=link, not_proof="that there is such a manifest")


def describe_source_type(source_type: str, block: Block) -> Findings:
    """Describe an IPTC Digital Source Type."""
    code = source_type.rstrip("/").rpartition("/")[2]
    meaning, strength, points_to = SOURCE_TYPES.get(code, ("a code that IPTC does not list", "neutral", None))
    yield found_in(
        block,
        "source-type",
        f"IPTC DigitalSourceType {cut(code, 60)}: {meaning}",
        strength=strength,
        points_to=points_to,
        value=source_type,
        not_proof=_LABEL_NOT_PROOF,
    )


def _describe_tools(xmp: Xmp, block: Block) -> Findings:
    tools = [*xmp.values.get("xmp:CreatorTool", ()), *xmp.values.get("stEvt:softwareAgent", ())]
    for tool in dict.fromkeys(tools):
        yield from describe_software(tool, block=block, field="XMP CreatorTool or history")
    events = xmp.values.get("stEvt:action", ())
    if len(events) > 1:
        what = f"an editing history of {len(events)} steps: {cut(', '.join(events), 120)}"
        not_proof = "what was changed: opening and saving a photograph writes such steps, too"
        yield found_in(block, "history", what, strength="weak", points_to="edited", not_proof=not_proof)
