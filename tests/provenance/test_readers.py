"""Test the small readers against Pillow, against published examples, and against closed forms."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, JpegPresets

from deepfake_detect.provenance.cbor import CborError, decode_cbor
from deepfake_detect.provenance.containers import read_png, read_webp
from deepfake_detect.provenance.double_compression import examine_compression, reachable_values, transform_blocks
from deepfake_detect.provenance.exif import decode_comment, parse_date
from deepfake_detect.provenance.iptc import iterate_resources, read_records
from deepfake_detect.provenance.jpeg_findings import chroma_subsampling
from deepfake_detect.provenance.jpeg_structure import read_jpeg
from deepfake_detect.provenance.quantization import identify_encoder
from deepfake_detect.provenance.tiff_tags import read_tags
from deepfake_detect.provenance.xmp import read_xmp
from tests.provenance import made_files as made

RFC_8949 = {  # appendix A
    "00": 0, "1818": 24, "1903e8": 1000, "1b000000e8d4a51000": 10**12, "20": -1, "3903e7": -1000, "f93c00": 1.0,
    "f90001": 5.960464477539063e-08, "fa47c35000": 100000.0, "fb3ff199999999999a": 1.1, "f4": False, "f5": True,
    "f6": None, "c11a514b67b0": 1363896240, "4401020304": b"\1\2\3\4", "6449455446": "IETF", "62c3bc": "ü",
    "83010203": [1, 2, 3], "8301820203820405": [1, [2, 3], [4, 5]], "a26161016162820203": {"a": 1, "b": [2, 3]},
    "5f42010243030405ff": b"\1\2\3\4\5", "7f657374726561646d696e67ff": "streaming", "9fff": [],
    "9f018202039f0405ffff": [1, [2, 3], [4, 5]], "bf61610161629f0203ffff": {"a": 1, "b": [2, 3]},
}  # fmt: skip


@pytest.mark.parametrize("text", RFC_8949)
def test_cbor_is_decoded_as_the_standard_says(text: str) -> None:
    assert decode_cbor(bytes.fromhex(text)) == RFC_8949[text]


@pytest.mark.parametrize(
    "text", ["", "18", "62c3", "1c", "1f", "5f01ff", "81ff", "bf6161ff", "81" * 40, "9b" + "ff" * 8]
)
def test_damaged_cbor_is_refused(text: str) -> None:
    with pytest.raises(CborError):
        decode_cbor(bytes.fromhex(text))


def test_exif_is_read_as_pillow_reads_it() -> None:
    ifd0 = {0x010F: "Nikon", 0x0131: "a program", 0x0112: 6, 0x011A: 72.0}
    block = made.exif_of(ifd0, {0x9003: "2024:01:02 03:04:05", 0x8827: 400, 0xA002: 640})
    tags, pillow = read_tags(block[6:]), Image.Exif()
    pillow.load(block)
    for number in ifd0:
        ours = tags.directories["0"][number].value
        theirs = pillow[number]
        assert (ours[0] if isinstance(ours, tuple) else ours) in (theirs, (72, 1))
    inner = pillow.get_ifd(0x8769)
    assert tags.text("exif", 0x9003) == inner[0x9003]
    assert tags.number("exif", 0x8827) == inner[0x8827] and tags.number("exif", 0xA002) == inner[0xA002]
    assert tags.problems == []


@pytest.mark.parametrize("order", ["<", ">"])
def test_tags_stand_where_they_say(order: str) -> None:
    text = b"a long text\0"
    entry = struct.pack(f"{order}HHII", 0x0131, 2, len(text), 26)
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    data = header + struct.pack(f"{order}H", 1) + entry + struct.pack(f"{order}I", 0) + text
    tag = read_tags(data).directories["0"][0x0131]
    assert (tag.value, tag.offset) == ("a long text", 10)


def test_directories_that_point_to_one_another_are_read_once() -> None:
    pointers = [struct.pack("<HHII", number, 4, 1, 8) for number in (0x8769, 0x8825)]
    data = b"II*\0" + struct.pack("<IH", 8, 2) + b"".join(pointers) + struct.pack("<I", 8)
    tags = read_tags(data)
    assert "directories that point to one another" in tags.problems
    assert set(tags.directories) == {"0"}


def test_tags_that_share_their_bytes_do_not_multiply_them() -> None:
    size = 2**20
    entries = b"".join(struct.pack("<HHII", number, 7, size, 8) for number in range(500))
    data = b"II*\0" + struct.pack("<I", size + 8) + bytes(size) + struct.pack("<H", 500) + entries + bytes(4)
    kept = read_tags(data).directories["0"]
    assert sum(len(tag.value) for tag in kept.values() if isinstance(tag.value, bytes)) <= 2 * len(data)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"ASCII\0\0\0plain", "plain"),
        (b"UNICODE\0" + "größe".encode("utf-16-be"), "größe"),
        (b"UNICODE\0" + "größe".encode("utf-16-le"), "größe"),
        (bytes(8) + b"without a name", "without a name"),
        (b"", ""),
    ],
)
def test_comments_are_read_in_their_character_set(raw: bytes, text: str) -> None:
    assert decode_comment(raw) == text


def test_dates() -> None:
    assert str(parse_date("2024:02:29 23:59:59")) == "2024-02-29 23:59:59"
    assert parse_date("0000:00:00 00:00:00") is None and parse_date("") is None


def test_png_and_webp_texts_are_read_as_pillow_reads_them() -> None:
    info = {"plain": "Größe", "packed": "long " * 50}
    data = made.png_text("plain", info["plain"])
    data = made.with_chunk(b"zTXt", b"packed\0\0" + __import__("zlib").compress(info["packed"].encode()), data=data)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.info == info
    assert {block.key: block.text for block in read_png(data).blocks} == info
    for options in ({"lossless": True}, {"lossless": False}, {"exif": made.exif_of({0x0131: "x"})}):
        data = made.encode(made.scene(50).resize((50, 34)), "WEBP", **options)
        assert read_webp(data).size_hw == (34, 50)


def test_iptc_is_read_as_pillow_reads_it() -> None:
    from PIL import IptcImagePlugin

    records = made.iptc_record(5, "a title") + made.iptc_record(65, "a program")
    data = made.jpeg_with_resources(made.resource(0x0404, records))
    with Image.open(io.BytesIO(data)) as image:
        theirs = IptcImagePlugin.getiptcinfo(image)
    assert theirs is not None
    assert {(2, number): texts[0].encode() for number, texts in read_records(records).items()} == theirs
    resources = made.resource(0x0404, records) + made.resource(0x03ED, b"odd")
    assert dict(iterate_resources(resources)) == {0x0404: records, 0x03ED: b"odd"}


def test_xmp_lists_and_attributes_become_properties() -> None:
    packet = made.xmp(
        'xmp:CreatorTool="A"',
        "<dc:description><rdf:Alt><rdf:li xml:lang='x-default'>one</rdf:li><rdf:li>two</rdf:li></rdf:Alt>"
        "</dc:description>",
    )
    xmp = read_xmp(packet)
    assert xmp.problem == ""
    assert xmp.values["xmp:CreatorTool"] == ["A"] and xmp.values["dc:description"] == ["one", "two"]


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (f"{LAUGHS}]><x>&h;</x>".encode(), "document type declaration"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>', "document type declaration"),
        (b"<a>" * 200, "more than 64 levels"),
        (b"<a " + b" ".join(b'x%d="1"' % number for number in range(20_001)) + b"/>", "more than 20,000 properties"),
        (b"<a", "no XML"),
        (b" " * (4 * 2**20 + 1), "bytes, more than"),
    ],
)
def test_hostile_xmp_is_not_read_on(packet: bytes, words: str) -> None:
    xmp = read_xmp(packet)
    assert words in xmp.problem
    assert "ha" * 10 not in str(xmp.values) and "root:" not in str(xmp.values)


@pytest.mark.parametrize("encoding", ["no-such", "utf-7", "utf-16", "hex"])
def test_the_encoding_that_a_packet_declares_is_not_looked_up(encoding: str) -> None:
    packet = f"<?xml version='1.0' encoding='{encoding}'?><a>größe</a>".encode()
    assert read_xmp(packet).values == {"a": ["größe"]}


@pytest.mark.parametrize("quality", range(1, 101))
def test_the_quality_of_libjpeg_is_told_exactly(quality: int) -> None:
    structure = read_jpeg(made.encode(quality=quality))
    encoder = identify_encoder({number: steps for number, (_, steps) in structure.tables.items()})
    assert encoder is not None
    assert (encoder.name, encoder.quality) == ("libjpeg", quality)


def test_tables_are_read_as_pillow_reads_them() -> None:
    data = made.encode(quality=61)
    with Image.open(io.BytesIO(data)) as image:
        assert {number: list(steps) for number, (_, steps) in read_jpeg(data).tables.items()} == image.quantization  # type: ignore[attr-defined]


@pytest.mark.parametrize("preset", JpegPresets.presets)
def test_the_tables_of_photoshop_are_told(preset: Any) -> None:
    structure = read_jpeg(made.encode(quality=preset))
    encoder = identify_encoder({number: steps for number, (_, steps) in structure.tables.items()})
    assert encoder is not None and encoder.name == "Photoshop" and preset in encoder.preset


def test_unknown_tables_have_a_nearest_quality() -> None:
    with Image.open(io.BytesIO(made.encode(quality=80))) as image:
        tables = [[step + 1 for step in table] for table in image.quantization.values()]  # type: ignore[attr-defined]
    encoder = identify_encoder({n: s for n, (_, s) in read_jpeg(made.encode(qtables=tables)).tables.items()})
    assert encoder is not None and encoder.name == "" and encoder.quality in range(76, 81)


@pytest.mark.parametrize(("option", "name"), [(0, "4:4:4"), (1, "4:2:2"), (2, "4:2:0")])
def test_chroma_subsampling(option: int, name: str) -> None:
    assert chroma_subsampling(read_jpeg(made.encode(subsampling=option))) == name
    assert chroma_subsampling(read_jpeg(made.encode(made.scene().convert("L")))) == "greyscale"


def test_the_end_of_the_picture_is_found_behind_every_scan() -> None:
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        data = made.encode(**options)
        structure = read_jpeg(data + b"more")
        assert structure.blocks.end == len(data)
        assert structure.scans == (10 if "progressive" in options else 1)
        assert structure.progressive == ("progressive" in options)


def test_the_picture_without_its_metadata_is_the_same_picture() -> None:
    data = made.with_segment(made.encode(exif=made.exif_of({0x0131: "x"})), 0xE2, b"MPF\0nonsense")
    bare = read_jpeg(data).picture_bytes(data)
    assert b"Exif" not in bare and b"MPF" not in bare
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(bare))), np.asarray(Image.open(io.BytesIO(made.encode()))))


def test_the_transform_is_that_of_opencv() -> None:
    grey = np.asarray(made.scene(16).convert("L"))
    ours = transform_blocks(grey).reshape(2, 2, 8, 8)
    for row in range(2):
        for column in range(2):
            block = grey[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].astype(np.float64) - 128
            assert np.allclose(ours[row, column], cv2.dct(block))


def test_reachable_values_by_brute_force() -> None:
    for first in range(1, 13):
        for second in range(1, 13):
            values = [int(np.floor(k * first / second + 0.5)) for k in range(200)]
            assert reachable_values(first, second, 9).tolist() == [values.count(value) for value in range(1, 10)]


@pytest.mark.parametrize("second", [75, 85, 90])
def test_a_second_compression_is_seen_and_a_single_one_is_not(second: int) -> None:
    scene = made.scene(400, seed=5)
    once = made.encode(scene, quality=second)
    with Image.open(io.BytesIO(made.encode(scene, quality=60))) as image:
        twice = made.encode(image, quality=second)
    single, double = examine_compression(read_jpeg(once), once), examine_compression(read_jpeg(twice), twice)
    assert single is not None and single.examined >= 5 and single.modes == 0 and not single.found
    assert double is not None and double.found and double.modes >= double.examined // 2


@pytest.mark.parametrize("wide", [False, True])
def test_boxes_are_put_together_from_segments_in_any_order(wide: bool) -> None:
    content = bytes(range(200))
    size = len(content) + (16 if wide else 8)
    header = struct.pack(">I4sQ", 1, b"jumb", size) if wide else struct.pack(">I4s", size, b"jumb")
    pieces = {1: content[:90], 2: content[90:]}
    data = made.encode()
    for number in (1, 2):  # each goes before the last, so that the second piece stands first
        data = made.with_segment(data, 0xEB, b"JP" + struct.pack(">HI", 1, number) + header + pieces[number])
    (block,) = read_jpeg(data).blocks.of_kind("c2pa")
    assert block.payload == header + content
