"""Files made in tests, each with one trace, and a certificate authority that signs C2PA manifests."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
UUID = "0b4e6d1a-7c55-4f0e-9a3b-5d0c1e2f3a4b"

A1111 = (
    "a portrait, studio light\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64"
)
COMFY_PROMPT = '{"3": {"class_type": "KSampler", "inputs": {"seed": 1}}}'
COMFY_WORKFLOW = '{"last_node_id": 9, "nodes": [{"id": 3, "type": "KSampler"}], "links": [[1, 4, 0, 3, 0, "MODEL"]]}'


@functools.cache
def scene(side: int = 64, *, seed: int = 0) -> Image.Image:
    """Draw smooth shapes with a little noise: something that compresses like a photograph."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (max(side // 12, 2), max(side // 12, 2), 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), np.float64)
    return Image.fromarray(np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8))


def encode(image: Image.Image | None = None, format_name: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    (image or scene()).save(file, format_name, **options)
    return file.getvalue()


def exif_of(
    ifd0: dict[int, Any] | None = None, exif: dict[int, Any] | None = None, gps: dict[int, Any] | None = None
) -> bytes:
    """Write EXIF with Pillow; begins with the six bytes that JPEG needs."""
    block = Image.Exif()
    block.update(ifd0 or {})
    block.get_ifd(0x8769).update(exif or {})
    if gps:
        block.get_ifd(0x8825).update(gps)
    return block.tobytes()


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """Put a segment behind the first two bytes of a JPEG."""
    return data[:2] + segment(marker, body) + data[2:]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunk(name: bytes, body: bytes, *, data: bytes | None = None) -> bytes:
    """Put a chunk behind the header of a PNG."""
    data = data or encode(format_name="PNG")
    return data[:33] + chunk(name, body) + data[33:]


def png_text(key: str, text: str) -> bytes:
    return with_chunk(b"tEXt", key.encode("latin-1") + b"\0" + text.encode("latin-1", "replace"))


def png_international(key: str, text: str, *, packed: bool = False) -> bytes:
    body = zlib.compress(text.encode()) if packed else text.encode()
    return with_chunk(b"iTXt", key.encode() + b"\0" + bytes((packed, 0)) + b"\0\0" + body)


def xmp(attributes: str = "", inside: str = "") -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
        'xmlns:ext="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:mm="http://ns.adobe.com/xap/1.0/mm/" '
        'xmlns:ev="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#" xmlns:t="http://www.tc260.org.cn/ns/AIGC/1.0/" '
        f'xmlns:terms="http://purl.org/dc/terms/" {attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()


def jpeg_with_xmp(packet: bytes) -> bytes:
    return with_segment(encode(), 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)


def iptc_record(number: int, text: str) -> bytes:
    return bytes((0x1C, 2, number)) + struct.pack(">H", len(text)) + text.encode()


def resource(number: int, body: bytes) -> bytes:
    return b"8BIM" + struct.pack(">H", number) + b"\0\0" + struct.pack(">I", len(body)) + body + b"\0" * (len(body) & 1)


def jpeg_with_resources(*resources: bytes) -> bytes:
    return with_segment(encode(), 0xED, b"Photoshop 3.0\0" + b"".join(resources))


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body


def superbox(label: str, *content: bytes) -> bytes:
    return box(b"jumb", box(b"jumd", bytes(16) + b"\x03" + label.encode() + b"\0") + b"".join(content))


def write_cbor(value: Any) -> bytes:
    """Write CBOR: the reverse of the reader, for texts, numbers, lists and dictionaries."""
    if isinstance(value, dict):
        items = b"".join(write_cbor(key) + write_cbor(item) for key, item in value.items())
        return _head(5, len(value)) + items
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(map(write_cbor, value))
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    return _head(0, value)


def _head(kind: int, length: int) -> bytes:
    return bytes((kind << 5 | 27,)) + struct.pack(">Q", length)


def manifest_store(actions: list[dict[str, Any]], *, generator: str = "Test", label: str = "urn:c2pa:1") -> bytes:
    """Write an unsigned C2PA manifest store."""
    assertions = superbox(
        "c2pa.assertions", superbox("c2pa.actions.v2", box(b"cbor", write_cbor({"actions": actions})))
    )
    claim = superbox("c2pa.claim.v2", box(b"cbor", write_cbor({"claim_generator_info": {"name": generator}})))
    return superbox("c2pa", superbox(label, assertions, claim))


def created(source_type: str = "trainedAlgorithmicMedia", *, by: str = "GPT-4o") -> dict[str, Any]:
    return {"action": "c2pa.created", "softwareAgent": {"name": by}, "digitalSourceType": SOURCE_TYPE + source_type}
