"""Read PNG files chunk by chunk: check what they hold, and leave out their metadata."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_PIXELS = (b"IHDR", b"PLTE", b"IDAT")
_KEPT = (*_PIXELS, b"tRNS", b"eXIf", b"IEND")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def check_png(content: bytes) -> None:
    """Check the chunks that pixels come from.

    Raises:
        OSError: The checksum of one of them is wrong.
    """
    for kind, start, end in _chunks(content):
        if kind in _PIXELS and zlib.crc32(content[start - 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise OSError(f"the checksum of chunk {kind.decode()} at byte {start - 8:,} is wrong")


def refuse_many_chunks(file: BinaryIO) -> None:
    """Refuse a PNG of many tiny chunks, each of which costs its readers as much as one of common size.

    Raises:
        DecompressionBombError: More than 10,000 chunks, and fewer than a thousand bytes in the mean of them.
    """
    size = file.seek(0, io.SEEK_END)
    most, chunks, at = 10_000 + size // 1000, 0, len(SIGNATURE)
    while at + 12 <= size:
        file.seek(at)
        at += 12 + int.from_bytes(file.read(4), "big")
        chunks += 1
        if chunks > most:
            raise Image.DecompressionBombError(f"more than {most:,} chunks in {size:,} bytes of PNG")


def strip(content: bytes | BinaryIO) -> BinaryIO:
    """Copy a PNG without what is neither pixels, palette, transparency nor orientation.

    Pillow refuses whole pictures whose text or colour profile is large or damaged.

    Args:
        content: A PNG file, or its bytes.

    Returns:
        A PNG file of the same pixels, in memory.
    """
    if not isinstance(content, bytes):
        content.seek(0)
        content = content.read()
    kept = [content[start - 8 : end + 4] for kind, start, end in _chunks(content) if kind in _KEPT]
    return io.BytesIO(b"".join((SIGNATURE, *kept)))


def count_missing_rows(content: bytes) -> int:
    """Count the rows that the compressed data end before, 0 where all are there.

    Args:
        content: A PNG file with a sound header.

    Returns:
        Rows, of a picture that is not interlaced; else an estimate, at least 1 where anything is missing.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content[16:29])
    bits = depth * _CHANNELS.get(colour, 1)
    expected = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in _passes(width, height, interlaced))
    missing = expected - _inflated_size(content, limit=expected)
    return -(-missing * height // expected) if missing > 0 else 0


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the data of every whole chunk."""
    at = len(SIGNATURE)
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        if at + 12 + length > len(content):
            return
        yield content[at + 4 : at + 8], at + 8, at + 8 + length
        at += 12 + length


def _passes(width: int, height: int, interlaced: int) -> Iterator[tuple[int, int]]:
    """Yield columns and rows of each pass that is not empty."""
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-max(0, width - left) // across), -(-max(0, height - top) // down)
        if columns and rows:
            yield columns, rows


def _inflated_size(content: bytes, *, limit: int) -> int:
    """Count the bytes that the compressed data hold, up to a limit; what follows damage does not count."""
    inflater, size = zlib.decompressobj(), 0
    try:
        for kind, start, end in _chunks(content):
            waiting = content[start:end] if kind == b"IDAT" else b""
            while waiting and size < limit and not inflater.eof:
                size += len(inflater.decompress(waiting, 2**20))
                waiting = inflater.unconsumed_tail
    except zlib.error:
        return size
    return size
