"""Inspect the metadata of a picture: find the container, read its blocks, and collect findings.

Findings never enter the score of a detector, since anybody can write metadata.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from PIL import Image, ImageFile

from deepfake_detect._options import check_flag
from deepfake_detect.errors import ImageTooLarge, ImageUnreadable
from deepfake_detect.inputs.image import ImageInput, name_image
from deepfake_detect.inputs.source import describe_bytes, open_bytes
from deepfake_detect.provenance.blocks import Block, Blocks
from deepfake_detect.provenance.bmff import read_bmff
from deepfake_detect.provenance.c2pa_validation import (
    MIME_TYPES,
    Validation,
    describe_validation,
    is_installed,
    read_anchors,
    validate_manifest,
)
from deepfake_detect.provenance.containers import read_gif, read_png, read_tiff, read_webp
from deepfake_detect.provenance.double_compression import examine_compression
from deepfake_detect.provenance.exif import describe_exif, exif_texts
from deepfake_detect.provenance.findings import (
    C2paState,
    Findings,
    MetadataFinding,
    MetadataFindings,
    found_in,
    limit_findings,
    sort_findings,
)
from deepfake_detect.provenance.generators import Text, describe_texts
from deepfake_detect.provenance.iptc import describe_iptc
from deepfake_detect.provenance.jpeg_findings import describe_jpeg
from deepfake_detect.provenance.jpeg_structure import JpegStructure, read_jpeg
from deepfake_detect.provenance.manifest import ManifestError, describe_manifests, read_manifests
from deepfake_detect.provenance.thumbnail import describe_thumbnail
from deepfake_detect.provenance.tiff_tags import Tags, read_tags
from deepfake_detect.provenance.xmp import Xmp, describe_xmp, read_xmp

MAX_FILE_BYTES: Final = 256 * 2**20
"""Larger files are refused."""

_XMP_TEXTS = ("dc:description", "exif:UserComment", "photoshop:Credit", "TC260:AIGC")


def inspect_metadata(
    image: ImageInput,
    *,
    show_location: bool = False,
    trust_anchors: str | os.PathLike[str] | None = None,
) -> MetadataFindings:
    """Read what a picture file states of its own origin: software, camera, generators, C2PA, JPEG structure.

    The findings are statements of the file, and of how it is built. They never enter the score of a detector.

    Args:
        image: Path, http(s) URL, data URI, bytes, binary file, or a PIL image that was opened from a file, which is
            read again. Arrays and tensors hold no metadata.
        show_location: Give GPS coordinates, where there are some; otherwise only that there are.
        trust_anchors: PEM file with certificates of authorities whose C2PA signatures are trusted. Read for every
            picture, and used where it has a C2PA manifest and the extra ``[c2pa]`` is installed.

    Returns:
        The findings, the strongest first. A file without metadata gives findings that are neutral.

    Raises:
        ImageUnreadable: Not there, no picture, or pixels without a file.
        ImageTooLarge: A file of more than 256 MB.
        InvalidOption: ``trust_anchors`` cannot be read, or holds no certificate.

    Example:
        >>> inspect_metadata("examples/portrait.jpg").format
        'JPEG'
    """
    check_flag("show_location", show_location)
    anchors = None if trust_anchors is None else read_anchors(trust_anchors)
    name = name_image(image)
    data = _read_file(image, name)
    structure = read_jpeg(data) if data[:3] == b"\xff\xd8\xff" else None
    blocks = structure.blocks if structure is not None else _read_blocks(data, name)
    findings, state = _inspect_manifest(data, blocks, anchors)
    findings += _inspect_texts(blocks)
    findings += _inspect_exif(data, blocks, structure, show_location=show_location)
    if structure is not None:
        double = examine_compression(structure, data)
        findings += describe_jpeg(structure, data, double=double)
    findings += _describe_problems(blocks)
    findings += _describe_absence(blocks, is_silent=not findings)
    return MetadataFindings(
        name=name,
        format=blocks.format,
        size_hw=blocks.size_hw,
        file_bytes=len(data),
        c2pa=state,
        findings=sort_findings(findings),
    )


def _read_file(image: ImageInput, name: str) -> bytes:
    source: object = image
    if isinstance(image, ImageFile.ImageFile) and image.filename:
        source = image.filename
    elif isinstance(image, Image.Image) or not (isinstance(image, str | os.PathLike | bytes) or _holds_bytes(image)):
        raise ImageUnreadable(
            f"{name}: pixels without their file hold no metadata; pass the path or the bytes of the file"
        )
    with open_bytes(source, name=name) as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ImageTooLarge(f"{name}: more than {MAX_FILE_BYTES:,} bytes, the most that is inspected")
    return data


def _holds_bytes(image: object) -> bool:
    return isinstance(image, bytearray | memoryview) or hasattr(image, "read") or image is None


def _read_blocks(data: bytes, name: str) -> Blocks:
    """Read the blocks of any container but JPEG.

    Raises:
        ImageUnreadable: It is none that is known.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return read_png(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return read_webp(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return read_tiff(data)
    if data[:4] == b"GIF8":
        return read_gif(data)
    if data[4:8] == b"ftyp" and data[8:12] in _PICTURE_BRANDS:
        return read_bmff(data)
    kind = describe_bytes(data[:64]) if data else "empty"
    words = f"it is {kind}" if kind else "it begins like none of them"
    raise ImageUnreadable(f"{name}: expected JPEG, PNG, WebP, TIFF, GIF, AVIF or HEIF, but {words}")


_PICTURE_BRANDS = frozenset(
    {b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"MiHE"}
)


def _inspect_manifest(
    data: bytes, blocks: Blocks, trust_anchors: str | None
) -> tuple[list[MetadataFinding], C2paState]:
    manifest_blocks = blocks.of_kind("c2pa")
    if not manifest_blocks:
        return [], "absent"
    block = manifest_blocks[0]
    try:
        manifests = read_manifests(block.payload)
    except ManifestError as error:
        what = f"a C2PA manifest that cannot be read: {error}"
        return [found_in(block, "c2pa", what, not_proof="anything about the picture")], "present, not verified"
    checked = None
    findings: list[MetadataFinding] = []
    if is_installed() and blocks.format in MIME_TYPES:
        result = validate_manifest(data, format_name=blocks.format, trust_anchors=trust_anchors)
        if isinstance(result, Validation):
            checked = result
            findings += describe_validation(result, block)
        else:
            what = f"c2pa-python cannot validate the manifest: {result}"
            findings.append(found_in(block, "c2pa-validation", what, not_proof="anything about the picture"))
    stated = describe_manifests(manifests, block, checked=checked.is_right if checked is not None else None)
    findings += limit_findings(stated, block)
    return findings, checked.state if checked is not None else "present, not verified"


def _inspect_texts(blocks: Blocks) -> list[MetadataFinding]:
    """Collect the findings of XMP, IPTC and text chunks."""
    findings: list[MetadataFinding] = []
    texts = [Text(key=block.key, text=block.text, block=block) for block in blocks.of_kind("text")]
    for block in blocks.of_kind("xmp"):
        xmp = read_xmp(block.payload)
        findings += limit_findings(describe_xmp(xmp, block), block)
        texts += _xmp_texts(xmp, block)
    findings += describe_texts(texts)
    findings += describe_iptc(blocks)
    return findings


def _xmp_texts(xmp: Xmp, block: Block) -> Iterator[Text]:
    for name in _XMP_TEXTS:
        yield from (Text(key=name, text=value, block=block) for value in xmp.values.get(name, ()))


def _inspect_exif(
    data: bytes, blocks: Blocks, structure: JpegStructure | None, *, show_location: bool
) -> list[MetadataFinding]:
    findings: list[MetadataFinding] = []
    for block in blocks.of_kind("exif"):
        tags: Tags = read_tags(block.payload)
        size_hw = blocks.size_hw if structure is not None else None
        findings += describe_texts(exif_texts(tags, block))
        findings += describe_exif(tags, block, size_hw=size_hw, show_location=show_location)
        if structure is not None and "1" in tags.directories:
            findings += describe_thumbnail(structure, data, block, tags)
    return findings


def _describe_problems(blocks: Blocks) -> Findings:
    for problem in blocks.problems:
        yield MetadataFinding(
            code="unreadable",
            what=problem.what,
            segment=problem.segment,
            offset=problem.offset,
            not_proof="anything about the picture: damaged files are common",
        )


def _describe_absence(blocks: Blocks, *, is_silent: bool) -> Findings:
    """Report that there is no metadata, or none that is known."""
    if not any(block.payload for block in blocks.blocks):
        yield MetadataFinding(
            code="no-metadata",
            what="no EXIF, XMP, IPTC, text or C2PA",
            segment="file",
            not_proof="anything: platforms, messengers and screenshots remove metadata from most pictures",
        )
    elif is_silent:
        yield MetadataFinding(
            code="no-trace",
            what="metadata without any trace that is known",
            segment="file",
            not_proof="anything: most programs leave no trace that is known",
        )
