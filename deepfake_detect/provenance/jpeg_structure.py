"""Read the segments of a JPEG file: metadata, tables, scans, and where the picture ends."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Final

from deepfake_detect.provenance.blocks import Blocks

MAX_SEGMENTS: Final = 20_000
MAX_TABLES: Final = 64

ZIGZAG: Final = (
    *(0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21),
    *(28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61),
    *(54, 47, 55, 62, 63),
)
"""Place in an 8x8 block, row by row, of each coefficient in the order of the file."""

_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_FILL = re.compile(rb"\xff*(?=\xff)")  # a marker may have any number of these before it
_EXIF, _XMP, _PHOTOSHOP = b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00", b"Photoshop 3.0\x00"
_LONG_XMP = b"http://ns.adobe.com/xmp/extension/\x00"


@dataclass(slots=True, kw_only=True)
class JpegStructure:
    """How a JPEG was encoded.

    Attributes:
        blocks: Its metadata.
        tables: Quantisation tables by their number: offset in the file, and 64 steps row by row.
        components: For each colour channel: identifier, horizontal and vertical sampling, number of its table.
        progressive: Whether the frame is progressive.
        scans: How many scans there are.
        adobe_offset: Where the APP14 segment of Adobe's encoders stands; None without one.
        has_more_pictures: Whether a directory of further pictures (CIPA's multi-picture format) is there.
        spans: Where the segments stand that a decoder needs: all but metadata.
        tables_read: How many quantisation tables were read, those that were replaced later included.
    """

    blocks: Blocks
    tables: dict[int, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    components: tuple[tuple[int, int, int, int], ...] = ()
    progressive: bool = False
    scans: int = 0
    adobe_offset: int | None = None
    has_more_pictures: bool = False
    spans: list[tuple[int, int]] = field(default_factory=list)
    tables_read: int = 0

    def picture_bytes(self, data: bytes) -> bytes:
        """Return the file without its metadata, so that no decoder reads them."""
        return b"".join([b"\xff\xd8", *(data[start:end] for start, end in self.spans), b"\xff\xd9"])


def read_jpeg(data: bytes) -> JpegStructure:
    """Read the structure of a JPEG file; the entropy-coded data is skipped, not decoded.

    Args:
        data: Begins with the bytes FF D8.
    """
    structure, boxes = JpegStructure(blocks=Blocks(format="JPEG")), _JumbfParts()
    place, segments = 2, 0
    while (found := _marker_at(data, place)) is not None:
        offset, marker = found
        place, segments = offset + 2, segments + 1
        if segments > MAX_SEGMENTS:
            structure.blocks.report(f"more than {MAX_SEGMENTS} segments; the others are not read", "JPEG", offset)
            break
        if marker == 0xD9:
            structure.blocks.end = place
            break
        if marker in _BARE or marker == 0xD8:
            continue
        length = int.from_bytes(data[place : place + 2], "big")
        if length < 2 or place + length > len(data):
            structure.blocks.report("a segment that is longer than the file", "JPEG", offset)
            break
        _take_segment(structure, boxes, marker, offset, data[place + 2 : place + length])
        place = _after_scan(data, place + length) if marker == 0xDA else place + length
        if not 0xE0 <= marker < 0xEE and marker not in (0xEF, 0xFE):
            structure.spans.append((offset, place))
    boxes.add_to(structure.blocks)
    return structure


def _marker_at(data: bytes, place: int) -> tuple[int, int] | None:
    """Return where the next marker stands and its code; stray bytes before it are skipped, as by decoders."""
    match = _NEXT_MARKER.search(data, place) if data[place : place + 1] != b"\xff" else None
    offset = match.end() - 2 if match else place
    if fill := _FILL.match(data, offset):
        offset = fill.end()
    if offset + 2 > len(data) or data[offset] != 0xFF:
        return None
    return offset, data[offset + 1]


def _after_scan(data: bytes, place: int) -> int:
    match = _NEXT_MARKER.search(data, place)
    return match.end() - 2 if match else len(data)


def _take_segment(structure: JpegStructure, boxes: _JumbfParts, marker: int, offset: int, body: bytes) -> None:
    if marker == 0xDA:
        structure.scans += 1
    elif marker == 0xDB:
        _take_tables(structure, offset, body)
    elif marker in _FRAMES:
        _take_frame(structure, marker, body)
    elif marker == 0xEB:
        boxes.take(offset, body)
    elif marker == 0xEE and body.startswith(b"Adobe"):
        structure.adobe_offset = offset
    elif marker == 0xE2 and body.startswith(b"MPF\x00"):
        structure.has_more_pictures = True
    else:
        _take_metadata(structure.blocks, marker, offset, body)


def _take_metadata(blocks: Blocks, marker: int, offset: int, body: bytes) -> None:
    if marker == 0xE1 and body.startswith(_EXIF):
        blocks.add("exif", "APP1 EXIF", offset, body[len(_EXIF) :])
    elif marker == 0xE1 and body.startswith(_XMP):
        blocks.add("xmp", "APP1 XMP", offset, body[len(_XMP) :])
    elif marker == 0xE1 and body.startswith(_LONG_XMP):
        blocks.report("extended XMP, which is not read", "APP1 XMP", offset)
    elif marker == 0xED and body.startswith(_PHOTOSHOP):
        blocks.add("photoshop", "APP13 Photoshop", offset, body[len(_PHOTOSHOP) :])
    elif marker == 0xFE:
        blocks.add("text", "COM", offset, body, key="comment")
    elif 0xE0 <= marker <= 0xEF and b"AIGC{" in body[:4096]:
        blocks.add("text", f"APP{marker - 0xE0}", offset, body[body.index(b"AIGC{") + 4 :], key="AIGC")


def _take_tables(structure: JpegStructure, offset: int, body: bytes) -> None:
    place = 0
    while place < len(body):
        structure.tables_read += 1
        if structure.tables_read > MAX_TABLES:
            structure.blocks.report(f"more than {MAX_TABLES} quantisation tables; not read", "DQT", offset)
            return
        wide, number = body[place] >> 4, body[place] & 15
        size = 128 if wide else 64
        raw = body[place + 1 : place + 1 + size]
        if len(raw) < size or number > 3:
            structure.blocks.report("a damaged quantisation table", "DQT", offset)
            return
        steps = [0] * 64
        for at, step in zip(ZIGZAG, struct.unpack(">64H", raw) if wide else raw, strict=True):
            steps[at] = step
        structure.tables[number] = (offset, tuple(steps))
        place += 1 + size


def _take_frame(structure: JpegStructure, marker: int, body: bytes) -> None:
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        return
    height, width = struct.unpack_from(">HH", body, 1)
    parts = [body[6 + 3 * number : 9 + 3 * number] for number in range(body[5])]
    if structure.blocks.size_hw is None:
        structure.blocks.size_hw = (height, width)
        structure.components = tuple((part[0], part[1] >> 4, part[1] & 15, part[2]) for part in parts)
        structure.progressive = marker in _PROGRESSIVE


@dataclass(slots=True)
class _JumbfParts:
    """JUMBF boxes, put together from the APP11 segments that they are cut into (ISO/IEC 19566-5, D.2)."""

    parts: dict[tuple[int, bytes], list[tuple[int, int, bytes]]] = field(default_factory=dict)

    def take(self, offset: int, body: bytes) -> None:
        if body.startswith(b"JP") and len(body) >= 16:
            instance, sequence = struct.unpack_from(">HI", body, 2)
            self.parts.setdefault((instance, body[12:16]), []).append((sequence, offset, body[8:]))

    def add_to(self, blocks: Blocks) -> None:
        for pieces in self.parts.values():
            ordered = sorted(pieces)
            header = 16 if ordered[0][2][:4] == b"\0\0\0\1" else 8  # each piece repeats the header of the box
            payload = b"".join(piece if number == 0 else piece[header:] for number, (_, _, piece) in enumerate(ordered))
            blocks.add("c2pa", "APP11 JUMBF", ordered[0][1], payload)
