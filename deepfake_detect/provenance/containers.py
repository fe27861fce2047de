"""Read the metadata blocks of PNG, WebP, TIFF, GIF, AVIF and HEIF files, with the place of each in the file."""

from __future__ import annotations

import struct
import zlib
from typing import Final

from deepfake_detect.provenance.blocks import Blocks
from deepfake_detect.provenance.tiff_tags import read_tags

MAX_CHUNKS: Final = 200_000
"""Chunks of a PNG or WebP that are skipped; a large PNG has some ten thousand."""

MAX_UNPACKED_BYTES: Final = 2**20
"""Most bytes that a compressed text may become; larger ones are not a text but a bomb."""

MAX_UNPACKED_TEXTS: Final = 4 * 2**20
"""Most bytes that all compressed texts of a file may become, those that are refused included."""

_PNG_XMP = "XML:com.adobe.xmp"


def read_png(data: bytes) -> Blocks:
    """Read the chunks of a PNG file.

    Args:
        data: Begins with the PNG signature.
    """
    blocks, place = Blocks(format="PNG"), 8
    for _ in range(MAX_CHUNKS):
        if place + 8 > len(data):
            return blocks
        (length,) = struct.unpack_from(">I", data, place)
        name, offset = data[place + 4 : place + 8], place
        place += 12 + length
        if name == b"IEND":
            blocks.end = min(place, len(data))
            return blocks
        if name in _PNG_CHUNKS:
            if place > len(data):
                blocks.report("a chunk that is longer than the file", f"PNG {name.decode('latin-1')}", offset)
                return blocks
            _PNG_CHUNKS[name](blocks, offset, data[offset + 8 : offset + 8 + length])
    blocks.report(f"more than {MAX_CHUNKS:,} chunks; the others are not read", "PNG", place)
    return blocks


def _png_header(blocks: Blocks, offset: int, body: bytes) -> None:
    if len(body) >= 8:
        width, height = struct.unpack_from(">II", body)
        blocks.size_hw = (height, width)


def _png_exif(blocks: Blocks, offset: int, body: bytes) -> None:
    blocks.add("exif", "PNG eXIf", offset, body.removeprefix(b"Exif\x00\x00"))


def _png_manifest(blocks: Blocks, offset: int, body: bytes) -> None:
    blocks.add("c2pa", "PNG caBX", offset, body)


def _png_text(blocks: Blocks, offset: int, body: bytes) -> None:
    key, _, text = body.partition(b"\0")
    _add_text(blocks, "PNG tEXt", offset, key.decode("latin-1"), text.decode("latin-1").encode())


def _png_compressed_text(blocks: Blocks, offset: int, body: bytes) -> None:
    key, _, rest = body.partition(b"\0")
    text = _inflate(blocks, "PNG zTXt", offset, rest[1:])
    if text is not None:
        _add_text(blocks, "PNG zTXt", offset, key.decode("latin-1"), text.decode("latin-1").encode())


def _png_international_text(blocks: Blocks, offset: int, body: bytes) -> None:
    key, _, rest = body.partition(b"\0")
    flag, fields = rest[:1], rest[2:].split(b"\0", 2)  # language, translated keyword, text
    text = fields[-1] if len(fields) == 3 else b""
    unpacked = _inflate(blocks, "PNG iTXt", offset, text) if flag == b"\1" else text
    if unpacked is not None:
        _add_text(blocks, "PNG iTXt", offset, key.decode("latin-1"), unpacked)


def _add_text(blocks: Blocks, segment: str, offset: int, key: str, text: bytes) -> None:
    if key == _PNG_XMP:
        blocks.add("xmp", f"{segment} XMP", offset, text)
    else:
        blocks.add("text", segment, offset, text, key=key)


def _inflate(blocks: Blocks, segment: str, offset: int, packed: bytes) -> bytes | None:
    """Decompress a text, but never more than the limits."""
    if blocks.unpacked > MAX_UNPACKED_TEXTS:
        blocks.report(f"compressed texts of more than {MAX_UNPACKED_TEXTS:,} bytes in all; not read", segment, offset)
        return None
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(packed, MAX_UNPACKED_BYTES + 1)
    except zlib.error:
        blocks.unpacked += 2**14  # it took time, too
        blocks.report("a compressed text that is damaged", segment, offset)
        return None
    blocks.unpacked += len(text)
    if len(text) > MAX_UNPACKED_BYTES:
        blocks.report(f"a compressed text of more than {MAX_UNPACKED_BYTES:,} bytes; not read", segment, offset)
        return None
    return text


_PNG_CHUNKS = {
    b"IHDR": _png_header,
    b"eXIf": _png_exif,
    b"tEXt": _png_text,
    b"zTXt": _png_compressed_text,
    b"iTXt": _png_international_text,
    b"caBX": _png_manifest,
}


def read_webp(data: bytes) -> Blocks:
    """Read the chunks of a WebP file.

    Args:
        data: Begins with ``RIFF``, four bytes, ``WEBP``.
    """
    blocks, place = Blocks(format="WEBP"), 12
    end = min(8 + int.from_bytes(data[4:8], "little"), len(data))
    for _ in range(MAX_CHUNKS):
        if place + 8 > end:
            break
        name, (length,) = data[place : place + 4], struct.unpack_from("<I", data, place + 4)
        offset, place = place, place + 8 + length + (length & 1)
        if offset + 8 + length > len(data):
            blocks.report("a chunk that is longer than the file", "WebP", offset)
            break
        _take_webp(blocks, name, offset, data[offset + 8 : offset + 8 + (length if name in _WEBP else 16)])
    blocks.end = end
    return blocks


_WEBP = {b"EXIF": "exif", b"XMP ": "xmp", b"C2PA": "c2pa"}


def _take_webp(blocks: Blocks, name: bytes, offset: int, body: bytes) -> None:
    if name == b"EXIF":
        blocks.add("exif", "WebP EXIF", offset, body.removeprefix(b"Exif\x00\x00"))
    elif name == b"XMP ":
        blocks.add("xmp", "WebP XMP", offset, body)
    elif name == b"C2PA":
        blocks.add("c2pa", "WebP C2PA", offset, body)
    elif blocks.size_hw is None:
        blocks.size_hw = _webp_size(name, body)


def _webp_size(name: bytes, body: bytes) -> tuple[int, int] | None:
    if name == b"VP8X" and len(body) >= 10:
        return int.from_bytes(body[7:10], "little") + 1, int.from_bytes(body[4:7], "little") + 1
    if name == b"VP8 " and len(body) >= 10:
        width, height = struct.unpack_from("<HH", body, 6)
        return height & 0x3FFF, width & 0x3FFF
    if name == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return ((bits >> 14) & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    return None


def read_tiff(data: bytes) -> Blocks:
    """Read the tags of a TIFF file.

    Args:
        data: Begins with ``II*`` or ``MM`` and a zero.
    """
    blocks, tags = Blocks(format="TIFF"), read_tags(data)
    height, width = tags.number("0", 257), tags.number("0", 256)
    blocks.size_hw = None if height is None or width is None else (height, width)
    for problem in tags.problems:
        blocks.report(problem, "TIFF", 0)
    blocks.add("exif", "TIFF tags", 0, data)
    for number, kind, segment in (
        (700, "xmp", "TIFF tag 700 XMP"),
        (33723, "iptc", "TIFF tag 33723 IPTC"),
        (34377, "photoshop", "TIFF tag 34377 Photoshop"),
        (52545, "c2pa", "TIFF tag 52545 C2PA"),
    ):
        tag = tags.directories.get("0", {}).get(number)
        if tag is not None and isinstance(tag.value, bytes):
            blocks.add(kind, segment, tag.offset, tag.value)  # type: ignore[arg-type]
    return blocks


def read_gif(data: bytes) -> Blocks:
    """Read the size of a GIF file; its comments are not read.

    Args:
        data: Begins with ``GIF8``.
    """
    width, height = struct.unpack_from("<HH", data.ljust(10, b"\0"), 6)
    return Blocks(format="GIF", size_hw=(height, width))
