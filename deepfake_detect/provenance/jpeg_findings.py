"""Describe the structure of a JPEG: encoder and quality, chroma subsampling, scans, what follows the picture."""

from __future__ import annotations

from typing import Final

from deepfake_detect.provenance.double_compression import DoubleCompression
from deepfake_detect.provenance.findings import Findings, MetadataFinding
from deepfake_detect.provenance.jpeg_structure import JpegStructure
from deepfake_detect.provenance.quantization import Encoder, identify_encoder

_SUBSAMPLING: Final = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (4, 1): "4:1:1", (1, 2): "4:4:0"}
_TRAILERS: Final = (
    (b"\xff\xd8\xff", "another JPEG, such as a depth map or a preview"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG picture"),
    (b"Rar!", "a RAR archive"),
)
_TABLES_NOT_PROOF = "which program saved the picture last: many programs and cameras share these tables"


def describe_jpeg(structure: JpegStructure, data: bytes, *, double: DoubleCompression | None) -> Findings:
    """Describe the history of a JPEG by its structure.

    Args:
        structure: As read from the file.
        data: The whole file.
        double: Evidence of an earlier compression; None where that was not examined.
    """
    encoder = identify_encoder({number: steps for number, (_, steps) in structure.tables.items()})
    if encoder is not None:
        yield _describe_encoder(structure, encoder)
    if structure.adobe_offset is not None:
        yield MetadataFinding(
            code="adobe-segment",
            what="an APP14 segment in the form of Adobe's encoders",
            segment="APP14 Adobe",
            offset=structure.adobe_offset,
            not_proof="that an Adobe program was used: libjpeg writes it for CMYK and RGB pictures, too",
        )
    if double is not None and double.found:
        yield _describe_double(structure, double)
    yield from _describe_trailer(structure, data)


def _describe_encoder(structure: JpegStructure, encoder: Encoder) -> MetadataFinding:
    kind = "progressive" if structure.progressive else "sequential"
    details = f"{chroma_subsampling(structure)}, {kind}, {structure.scans} scan{'s' if structure.scans != 1 else ''}"
    if encoder.name == "Photoshop":
        words = f"quantisation tables of Photoshop ({encoder.preset})"
    elif encoder.name:
        words = f"quantisation tables of {encoder.name}, quality {encoder.quality}"
    else:
        words = f"quantisation tables of no known encoder, near libjpeg's quality {encoder.quality}"
    is_photoshop = encoder.name == "Photoshop"
    return MetadataFinding(
        code="jpeg-encoder",
        what=f"{words}; {details}",
        segment="DQT",
        offset=structure.tables[0][0],
        strength="weak" if is_photoshop else "neutral",
        points_to="edited" if is_photoshop else None,
        not_proof="that anything was changed: exporting a photograph writes them"
        if is_photoshop
        else _TABLES_NOT_PROOF,
        value=encoder.name or "unknown",
    )


def chroma_subsampling(structure: JpegStructure) -> str:
    """Name the chroma subsampling, such as ``"4:2:0"``; ``"greyscale"`` without colour."""
    if len(structure.components) < 3:
        return "greyscale"
    (_, across, down, _), (_, chroma_across, chroma_down, _) = structure.components[:2]
    if not chroma_across or not chroma_down:
        return "damaged sampling"
    ratio = (across // chroma_across, down // chroma_down)
    return _SUBSAMPLING.get(ratio, f"chroma {ratio[0]} x {ratio[1]} times smaller")


def _describe_double(structure: JpegStructure, double: DoubleCompression) -> MetadataFinding:
    return MetadataFinding(
        code="double-compression",
        what=f"{double.modes} of {double.examined} DCT coefficients are distributed as after two JPEG compressions",
        segment="DQT",
        offset=structure.tables[0][0] if 0 in structure.tables else None,
        strength="weak",
        points_to="edited",
        not_proof=(
            "that anything was changed: every platform that compresses uploads leaves this; nor is its absence a "
            "proof, since scaling, cropping or a stronger last compression remove it"
        ),
    )


def _describe_trailer(structure: JpegStructure, data: bytes) -> Findings:
    end = structure.blocks.end
    if end is None:
        yield MetadataFinding(
            code="no-end",
            what="the file ends without the end marker of a JPEG",
            segment="end of file",
            offset=len(data),
            not_proof="anything: downloads that were cut off look like this",
        )
        return
    trailer = data[end : end + 4096]
    if not trailer or not data[end:].strip(b"\0"):
        return
    known = next((words for start, words in _TRAILERS if trailer.startswith(start)), "")
    if not known and trailer[4:8] == b"ftyp":
        known = "a video, as phones add to moving pictures"
    if structure.has_more_pictures and trailer.startswith(b"\xff\xd8\xff"):
        known = "further pictures that the file lists, as cameras and phones write them"
    yield MetadataFinding(
        code="trailing-bytes",
        what=f"{len(data) - end:,} bytes after the end of the picture: {known or 'of an unknown kind'}",
        segment="end of picture",
        offset=end,
        not_proof="that the picture was changed: phones and platforms add data there",
    )
