"""Test that hostile files end in findings or in a named error, with bounded memory. Speed is measured in the docs."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfake_detect import DeepfakeDetectError, inspect_metadata
from deepfake_detect.provenance.cbor import CborError, decode_cbor
from deepfake_detect.provenance.jpeg_structure import read_jpeg
from deepfake_detect.provenance.manifest import ManifestError, read_manifests
from deepfake_detect.provenance.tiff_tags import read_tags
from deepfake_detect.provenance.xmp import read_xmp
from tests.provenance import made_files as made
from tests.provenance.test_inspector import CASES
from tests.provenance.test_thumbnail import exif_with_thumbnail, scene, with_thumbnail

BOUNDED = settings(max_examples=150, deadline=None, derandomize=True, database=None)
MOST_BYTES = 40 * 2**20

BOMB = zlib.compress(bytes(100 * 2**20), 1)
TINY_SCAN = made.encode(made.scene(16), progressive=True)
SOS = TINY_SCAN.index(b"\xff\xda")


def claim(content: bytes) -> bytes:
    """Write a manifest store with a claim of this content."""
    return made.superbox("c2pa", made.superbox("m", made.superbox("c2pa.claim", made.box(b"cbor", content))))


def huge_jpeg(width: int, height: int) -> bytes:
    """Claim another size in the header of a small JPEG."""
    data = bytearray(made.encode())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def packed_text(key: bytes, text: bytes) -> bytes:
    return made.chunk(b"zTXt", key + b"\0\0" + zlib.compress(text, 9))


def packed_xmp(packet: bytes) -> bytes:
    return made.chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet, 9))


def directories(count: int, *, entries: int = 500) -> bytes:
    """Write a TIFF structure of many directories, each of many tags."""
    size = 6 + 12 * entries
    body = b"II*\0\x08\0\0\0"
    for number in range(count):
        tags = b"".join(struct.pack("<HHII", tag, 4, 1, tag) for tag in range(entries))
        body += (
            struct.pack("<H", entries) + tags + struct.pack("<I", 8 + size * (number + 1) if number + 1 < count else 0)
        )
    return body


def shared_items(count: int, body: bytes) -> bytes:
    """Write an AVIF of many XMP items that all stand in the same bytes."""
    head = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"
    info = b"".join(
        made.box(b"infe", b"\2\0\0\0" + struct.pack(">HH", number, 0) + b"mime\0application/rdf+xml\0")
        for number in range(count)
    )
    size = 8 + 12 + 8 + 4 + 8 + len(info) + 6 + 14 * count
    places = b"".join(
        struct.pack(">HHHII", number, 0, 1, len(head) + size + 8 - 6, len(body)) for number in range(count)
    )
    items = made.box(b"iinf", bytes(4) + struct.pack(">H", count) + info)
    located = made.box(b"iloc", b"\0\0\0\0\x44\0" + struct.pack(">H", count) + places)
    return head + made.box(b"meta", bytes(4) + items + located) + made.box(b"mdat", body)


def many_assertions(count: int, content: bytes) -> bytes:
    """Write a manifest of many assertions of the same content."""
    parts = (made.superbox(f"c2pa.actions__{number}", made.box(b"cbor", content)) for number in range(count))
    claimed = made.superbox("c2pa.claim", made.box(b"cbor", made.write_cbor({})))
    return made.superbox("c2pa", made.superbox("m", made.superbox("c2pa.assertions", *parts), claimed))


EMPTY_TAGS = b"<a>" + b"<b/>" * (2**20 // 4 - 4)
NUMBERS = b"\x9b" + struct.pack(">Q", 8000) + b"\1" * 8000
THUMBNAIL = huge_jpeg(5_000, 5_000)
ACTIONS = [made.created(f"kind{number}", by=f"program {number} " * 9) for number in range(1500)]

HOSTILE = {
    "packed texts": made.encode(format_name="PNG")[:33]
    + b"".join(packed_text(b"k%d" % number, b"%d Steps" % number + b" " * 1_000_000) for number in range(60)),
    "thousands of bombs": made.encode(format_name="PNG")[:33] + packed_text(b"a", bytes(1_200_000)) * 100,
    "packed XMP": made.encode(format_name="PNG")[:33] + packed_xmp(EMPTY_TAGS) * 12,
    "empty XML": made.with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<a>" + b"<b/>" * 300_000),
    "lines of XML": made.with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<a>" + b"\n" * 4_000_000),
    "many EXIF blocks": made.encode()[:2] + made.segment(0xE1, b"Exif\0\0" + directories(10)) * 12 + made.encode()[2:],
    "many thumbnails": made.encode()[:2]
    + made.segment(0xE1, exif_with_thumbnail(THUMBNAIL)) * 8
    + made.encode()[2:],
    "fill bytes": made.encode()[:2] + b"\xff" * 2_000_000 + made.encode()[2:],
    "many tables": made.encode()[:2] + made.segment(0xDB, (b"\0" + b"\1" * 64) * 1000) * 20 + made.encode()[2:],
    "items that share bytes": shared_items(300, b"<a>" + b"<b>1</b>" * 50_000),
    "numbers in CBOR": made.with_chunk(b"caBX", many_assertions(500, NUMBERS)),
    "many actions": made.with_chunk(b"caBX", made.manifest_store(ACTIONS)),
    "many source types": made.with_chunk(
        b"iTXt",
        b"XML:com.adobe.xmp\0\0\0\0\0"
        + made.xmp(
            inside="".join(f"<ext:DigitalSourceType>x{number}</ext:DigitalSourceType>" for number in range(3_000))
        ),
    ),
    "many programs": made.jpeg_with_resources(
        made.resource(0x0404, b"".join(made.iptc_record(65, f"GIMP {number}") for number in range(400)))
    ),
    "many comments": made.encode()[:2]
    + b"".join(made.segment(0xFE, b"%d " % number + b"Steps: 1 " * 7000) for number in range(100))
    + made.encode()[2:],
    "zTXt bomb": made.with_chunk(b"zTXt", b"parameters\0\0" + BOMB),
    "iTXt bomb": made.with_chunk(b"iTXt", b"parameters\0\1\0\0\0" + BOMB),
    "XMP bomb": made.with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
    "iCCP bomb": made.with_chunk(b"iCCP", b"profile\0\0" + BOMB),
    "200 bombs": made.encode(format_name="PNG")[:33] + made.chunk(b"zTXt", b"a\0\0" + BOMB) * 20,
    "entities": made.jpeg_with_xmp(
        b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><x xmlns="http://ns.adobe.com/xap/1.0/">&b;</x>'
    ),
    "deep XML": made.with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<a>" * 300_000),
    "wide XML": made.with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<a>" + b"<b>1</b>" * 400_000),
    "deep JSON": made.png_text("prompt", '{"class_type":' + "[" * 400_000),
    "long text": made.png_text("parameters", "Steps: 1, " * 300_000),
    "many texts": made.encode(format_name="PNG")[:33] + made.chunk(b"tEXt", b"Software\0GIMP") * 5_000,
    "many segments": made.encode()[:2] + made.segment(0xFE, b"x") * 21_000 + made.encode()[2:],
    "many empty markers": made.encode()[:2] + b"\xff\xd8" * 21_000 + made.encode()[2:],
    "many scans": TINY_SCAN[:SOS] + TINY_SCAN[SOS:-2] * 400 + TINY_SCAN[-2:],
    "huge JPEG": huge_jpeg(65_000, 65_000),
    "wide JPEG": huge_jpeg(6_000, 6_000),
    "many boxes": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + made.box(b"free", b"") * 200_000,
    "deep boxes": made.with_chunk(b"caBX", b"\0\0\0\0jumb" * 50_000),
    "huge list in CBOR": made.with_chunk(
        b"caBX",
        claim(b"\x9b" + b"\xff" * 8),
    ),
    "string of numbers in CBOR": made.with_chunk(
        b"caBX",
        claim(b"\x5f\x1b\0\0\0\xff\xff\xff\xff\xff\xff"),
    ),
    "many items": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"
    + made.box(b"meta", bytes(4) + made.box(b"iinf", bytes(6)) + made.box(b"iloc", bytes(6) + b"\xff" * 60_000)),
    "chunk longer than the file": made.with_chunk(b"tEXt", b"a\0b")[:33] + struct.pack(">I4s", 2**31 - 1, b"tEXt"),
    "RIFF longer than the file": b"RIFF\xff\xff\xff\xffWEBPXMP \xff\xff\xff\x7f<a/>",
    "TIFF that points to itself": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_in_findings_with_bounded_memory(name: str) -> None:
    data = HOSTILE[name]
    tracemalloc.start()
    try:
        findings = inspect_metadata(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES + 4 * len(data)
    assert len(findings.findings) < 600
    assert all(len(finding.what) < 1000 and len(finding.value) <= 200 for finding in findings.findings)
    assert findings.to_json()


def test_bombs_and_limits_are_named() -> None:
    words = {
        "zTXt bomb": "more than 1,048,576 bytes",
        "many texts": "more than 512 blocks of text",
        "packed texts": "compressed texts of more than 4,194,304 bytes",
        "thousands of bombs": "compressed texts of more than 4,194,304 bytes",
        "packed XMP": "more than 4 blocks of xmp",
        "empty XML": "more than 50,000 elements",
        "many EXIF blocks": "more than 4 blocks of exif",
        "many tables": "more than 64 quantisation tables",
        "items that share bytes": "more than 4 blocks of xmp",
        "numbers in CBOR": "50,000 items",
        "many source types": "more than 64 findings in one block",
        "many programs": "more than 64 findings in one block",
        "many comments": "texts of more than 4,194,304 bytes",
        "many segments": "more than 20000 segments",
        "entities": "document type declaration",
        "chunk longer than the file": "longer than the file",
    }
    for name, text in words.items():
        assert any(text in finding.what for finding in inspect_metadata(HOSTILE[name]).findings), name


def test_mutations_of_every_made_file_end_in_findings_or_a_named_error() -> None:
    random = np.random.default_rng(0)
    originals = [*(case.data for case in CASES.values()), with_thumbnail(scene(), scene().resize((160, 120)))]
    originals += [made.with_chunk(b"caBX", made.manifest_store([made.created()]))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for original in originals:
            for _ in range(6):
                data = bytearray(original)
                for place in random.integers(3, min(len(data), 1500), random.integers(1, 12)):
                    data[place] = random.choice([0, 1, 0x7F, 0x80, 0xFF, random.integers(256)])
                end = len(data) if random.random() < 0.7 else random.integers(8, len(data))
                with contextlib.suppress(DeepfakeDetectError):
                    inspect_metadata(bytes(data[:end])).to_json()


@BOUNDED
@given(st.binary(max_size=300))
def test_any_bytes_as_cbor(data: bytes) -> None:
    with contextlib.suppress(CborError):
        decode_cbor(data)


@BOUNDED
@given(st.binary(max_size=300), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""]))
def test_any_bytes_as_tags(data: bytes, head: bytes) -> None:
    tags = read_tags(head + data)
    assert all(len(tag.value) <= 2 * len(head + data) for tags_ in tags.directories.values() for tag in tags_.values())


@BOUNDED
@given(st.binary(max_size=300))
def test_any_bytes_as_manifests(data: bytes) -> None:
    for store in (data, claim(data)):
        with contextlib.suppress(ManifestError):
            read_manifests(store)


@BOUNDED
@given(st.text(max_size=300), st.binary(max_size=50))
def test_any_text_as_xmp(text: str, raw: bytes) -> None:
    for packet in (text.encode("utf-8", "replace"), made.xmp(inside=text), raw):
        read_xmp(packet)


@BOUNDED
@given(st.lists(st.tuples(st.integers(0xC0, 0xFE), st.binary(max_size=60)), max_size=12))
def test_any_segments(parts: list[tuple[int, bytes]]) -> None:
    data = b"\xff\xd8" + b"".join(made.segment(marker, body) for marker, body in parts)
    read_jpeg(data)
    inspect_metadata(data + b"\xff\xd9").to_json()
