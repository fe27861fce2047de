"""Blocks of metadata in a file: the common form in which every container reader hands them on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

BlockKind = Literal["exif", "xmp", "iptc", "text", "c2pa", "photoshop"]
"""What a block holds: a TIFF structure, an XMP packet, IPTC records, one text, a JUMBF box, Photoshop resources."""

MAX_BLOCK_BYTES = 16 * 2**20
"""Blocks above this size are named, and not read."""

MAX_BLOCKS = {"exif": 4, "xmp": 4, "iptc": 4, "text": 512, "c2pa": 4, "photoshop": 16}
"""Blocks of each kind that are read of one file; further ones are named and not read."""

MAX_TEXT_BYTES = 4 * 2**20
"""Bytes of all texts of one file that are read."""

MAX_PROBLEMS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of metadata.

    Attributes:
        kind: See `BlockKind`.
        segment: Name of its place, such as ``"APP1 EXIF"``.
        offset: First byte of the segment in the file.
        payload: The bytes, without the header of the segment; UTF-8 for a text.
        key: Keyword of a text.
    """

    kind: BlockKind
    segment: str
    offset: int
    payload: bytes
    key: str = ""

    @property
    def text(self) -> str:
        """The payload as text."""
        return self.payload.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something in the structure of a file that could not be read.

    Attributes:
        what: What is wrong, in a sentence.
        segment: Where.
        offset: First byte of the segment in the file.
    """

    what: str
    segment: str
    offset: int


@dataclass(slots=True, kw_only=True)
class Blocks:
    """The blocks of one file, filled by the reader of its container.

    Attributes:
        format: Name of the container, as Pillow calls it.
        size_hw: Height and width in pixels as stored; None where the header does not say.
        blocks: In the order of the file.
        problems: What could not be read.
        end: First byte after the picture; None where the container has no end marker.
        kept: How many blocks of each kind there are.
        text_bytes: How long all texts are.
        unpacked: How many bytes compressed texts have become so far, those that were refused included.
    """

    format: str
    size_hw: tuple[int, int] | None = None
    blocks: list[Block] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    end: int | None = None
    kept: Counter[BlockKind] = field(default_factory=Counter)
    text_bytes: int = 0
    unpacked: int = 0

    def add(self, kind: BlockKind, segment: str, offset: int, payload: bytes, *, key: str = "") -> None:
        """Keep a block, or a problem in its place where there is no room for it."""
        if self.has_room(kind, segment, offset, len(payload)):
            self.blocks.append(Block(kind=kind, segment=segment, offset=offset, payload=payload, key=key))
            self.kept[kind] += 1
            self.text_bytes += len(payload) if kind == "text" else 0

    def has_room(self, kind: BlockKind, segment: str, offset: int, size: int) -> bool:
        """Return whether a block of this size would be kept; where not, keep a problem in its place.

        Readers ask before they copy: many entries of a file may stand for the same bytes.
        """
        if size > MAX_BLOCK_BYTES:
            self.report(f"{size:,} bytes, more than {MAX_BLOCK_BYTES:,}; not read", segment, offset)
        elif self.kept[kind] >= MAX_BLOCKS[kind]:
            self.report(f"more than {MAX_BLOCKS[kind]} blocks of {kind}; the others are not read", segment, offset)
        elif kind == "text" and size + self.text_bytes > MAX_TEXT_BYTES:
            self.report(f"texts of more than {MAX_TEXT_BYTES:,} bytes; the others are not read", segment, offset)
        else:
            return True
        return False

    def report(self, what: str, segment: str, offset: int) -> None:
        """Keep a problem, unless the same was reported before."""
        if all(problem.what != what for problem in self.problems) and len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(what=what, segment=segment, offset=offset))

    def of_kind(self, kind: BlockKind) -> list[Block]:
        """Return the blocks of one kind, in the order of the file."""
        return [block for block in self.blocks if block.kind == kind]
