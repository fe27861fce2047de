"""Read IPTC records (Information Interchange Model), which stand in Photoshop's resources or in a TIFF tag."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deepfake_detect.provenance.blocks import Block, Blocks
from deepfake_detect.provenance.findings import Findings, cut, found_in, limit_findings
from deepfake_detect.provenance.software import describe_software, find_generator

MAX_RECORDS: Final = 4096

_IPTC_RESOURCE, _IPTC_DIGEST = 0x0404, 0x0425
_PROGRAM, _CREDIT, _SOURCE, _HEADLINE, _INSTRUCTIONS = 65, 110, 115, 105, 40


def read_records(data: bytes) -> dict[int, list[str]]:
    """Read the data sets of record 2, the one about the picture.

    Args:
        data: IPTC IIM: each data set begins with the byte 1C.

    Returns:
        Number of the data set to its texts.

    Example:
        >>> read_records(bytes((0x1C, 2, 65, 0, 4)) + b"GIMP")
        {65: ['GIMP']}
    """
    records: dict[int, list[str]] = {}
    place = 0
    for _ in range(MAX_RECORDS):
        if place + 5 > len(data) or data[place] != 0x1C:
            break
        record, number, length = data[place + 1], data[place + 2], int.from_bytes(data[place + 3 : place + 5], "big")
        if length & 0x8000:  # extended length, which pictures do not use
            break
        if record == 2:
            text = data[place + 5 : place + 5 + length].decode("utf-8", "replace").strip()
            records.setdefault(number, []).append(text)
        place += 5 + length
    return records


def iterate_resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each of Photoshop's image resources."""
    place = 0
    for _ in range(MAX_RECORDS):
        if data[place : place + 4] != b"8BIM" or place + 8 > len(data):
            return
        number = int.from_bytes(data[place + 4 : place + 6], "big")
        at = place + 6 + 2 * ((data[place + 6] + 2) // 2)  # a name, padded to an even length
        length = int.from_bytes(data[at : at + 4], "big")
        yield number, data[at + 4 : at + 4 + length]
        place = at + 4 + length + (length & 1)


def describe_iptc(blocks: Blocks) -> Findings:
    """Describe the origin of a picture by its IPTC records and Photoshop's resources."""
    for block in blocks.of_kind("iptc"):
        yield from limit_findings(_describe_records(read_records(block.payload), block), block)
    for block in blocks.of_kind("photoshop"):
        resources = dict(iterate_resources(block.payload))
        others = [number for number in resources if number not in (_IPTC_RESOURCE, _IPTC_DIGEST)]
        if others:
            yield found_in(
                block,
                "photoshop-segment",
                f"image resources in Photoshop's form: {cut(', '.join(map(str, others)), 80)}",
                strength="weak",
                points_to="edited",
                not_proof="that Photoshop was used: other programs write this form, too, and exporting does not forge",
            )
        records = read_records(resources.get(_IPTC_RESOURCE, b""))
        yield from limit_findings(_describe_records(records, block), block)


def _describe_records(records: dict[int, list[str]], block: Block) -> Findings:
    for program in records.get(_PROGRAM, ()):
        yield from describe_software(program, block=block, field="IPTC originating program")
    for number in (_CREDIT, _SOURCE, _HEADLINE, _INSTRUCTIONS):
        for text in records.get(number, ()):
            if find_generator(text):
                yield from describe_software(text, block=block, field="IPTC credit, source or headline")
            elif text.startswith("FBMD"):
                not_proof = "anything about the picture; Facebook removes other metadata"
                yield found_in(block, "platform", "the mark of a picture that Facebook delivered", not_proof=not_proof)
