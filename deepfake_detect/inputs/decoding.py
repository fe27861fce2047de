"""Decode the pixels of a picture file, and refuse files of which a part is missing or damaged.

What the host process has set in Pillow makes no difference: with ``ImageFile.LOAD_TRUNCATED_IMAGES`` Pillow itself
would hand out half pictures. JPEGs are decoded by libjpeg-turbo in strict mode, to the bytes that Pillow makes of them;
it lets other threads work meanwhile.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from types import FunctionType
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageFile, UnidentifiedImageError

from deepfake_detect.inputs import png_file

_DAMAGE = ("Corrupt JPEG data", "Premature end of")  # libjpeg also warns of headers that matter to nobody
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # within coded data: neither an escaped 255 nor a restart
_PROGRESSIVE, _START_OF_SCAN, _END = 0xC2, 0xDA, 0xD9
_SCAN: Final = bytes((0xFF, _START_OF_SCAN))
_SCANS, _PIXELS_IN_ALL_SCANS = 24, 4_000_000_000  # no encoder writes more than 24; some seconds of a processor
_HOLE: Final = bytes(4096)  # a page that was never written; entropy coding gives no such run of zeros
_PAYLOAD = (b"VP8 ", b"VP8L", b"mdat")
_OWN_LOADERS = ("WEBP", "AVIF", "JXL")  # whose decoders take the whole file, and refuse a part of one
_JPEG_IN_TIFF, _DEFLATE, _PACK_BITS = 7, (8, 32946), 32773

_load = FunctionType(  # Pillow's loader, as it is where the host has not asked for half pictures
    ImageFile.ImageFile.load.__code__, {**vars(ImageFile), "LOAD_TRUNCATED_IMAGES": False}
)


def decode(image: ImageFile.ImageFile, file: BinaryIO) -> ImageFile.ImageFile | npt.NDArray[np.uint8]:
    """Decode a file that was opened, at the scale that `Image.draft` has set.

    Args:
        image: What `open_file` gave.
        file: The file it was opened from.

    Returns:
        [H, W, 3] uint8 RGB of a JPEG in colour or grey; else the image, loaded.

    Raises:
        Exception: The file is damaged, or ends early. Decoders raise a dozen types.
    """
    if image.format in ("JPEG", "MPO"):
        pixels = _decode_jpeg(image, _content(file))
        return image if pixels is None else pixels
    if image.format == "PNG":
        return _decode_png(image, _content(file))
    if image.format == "TIFF":
        _check_tiff(image, file)
    elif image.format in ("WEBP", "AVIF"):
        _refuse_holes(_content(file))
    _load_all(image)
    return image


def _content(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _load_all(image: ImageFile.ImageFile) -> None:
    if image.format in _OWN_LOADERS or getattr(image, "use_load_libtiff", False):
        image.load()
    else:
        _load(image)


def _decode_jpeg(image: ImageFile.ImageFile, content: bytes) -> npt.NDArray[np.uint8] | None:
    """Decode strictly; what libjpeg-turbo cannot give in RGB or grey is checked, and left to Pillow."""
    full_hw = _jpeg_size(content)
    _refuse_many_scans(content, max(full_hw[0] * full_hw[1], image.width * image.height))
    _refuse_missing_scans(content)
    scale = next((s for s in (1, 2, 4, 8) if image.size[::-1] == tuple(-(-side // s) for side in full_hw)), 1)
    colours = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}.get(image.mode)
    pixels = None
    try:
        if colours:
            pixels = simplejpeg.decode_jpeg(content, colorspace=colours, min_factor=scale, strict=True)
    except ValueError as error:
        if str(error).startswith(_DAMAGE):
            raise
    if pixels is None or colours == "CMYK" or pixels.shape[:2] != image.size[::-1]:
        _load(image)
        return None
    return np.repeat(pixels, 3, axis=2) if colours == "GRAY" else np.asarray(pixels)


def _jpeg_size(content: bytes) -> tuple[int, int]:
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return 0, 0
    return int(height), int(width)


def _refuse_many_scans(content: bytes, pixels: int) -> None:
    """Refuse a JPEG whose scans would take the decoder much longer than its size says: each passes over all pixels."""
    most = max(_SCANS, _PIXELS_IN_ALL_SCANS // max(1, pixels))
    if content.count(_SCAN) <= most:  # also counts those of thumbnails
        return
    scans = sum(kind == _START_OF_SCAN for kind, _ in _jpeg_segments(content))
    if scans > most:
        raise Image.DecompressionBombError(f"{scans:,} scans of {pixels:,} pixels, expected at most {most:,}")


def _refuse_missing_scans(content: bytes) -> None:
    """Refuse a progressive JPEG that lacks scans: it is whole to libjpeg, but blurred."""
    missing: dict[tuple[int, int], int] = {}  # component and coefficient: bits that are still to come
    for kind, body in _jpeg_segments(content):
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC, _PROGRESSIVE):
            break
        if kind == _PROGRESSIVE:
            missing = {(component, k): 16 for component in body[6::3] for k in range(64)}
        elif kind == _START_OF_SCAN and len(body) >= 6:
            components, (first, last, bits) = body[1:-3:2], body[-3:]
            missing.update({(component, k): bits & 15 for component in components for k in range(first, last + 1)})
    if any(missing.values()):
        share = sum(1 for bits in missing.values() if bits) / len(missing)
        raise OSError(f"{share:.0%} of the coefficients are missing or coarse")


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of every segment up to the end of the first picture; coded data are skipped."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        kind, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if kind == _END:
            return
        body = content[at + 4 : at + 2 + length]
        at += 2 + length
        if kind == _START_OF_SCAN and len(body) >= 6:
            marker = _MARKER.search(content, at)
            at = marker.start(1) - 1 if marker else len(content)
        yield kind, body


def _decode_png(image: ImageFile.ImageFile, content: bytes) -> ImageFile.ImageFile:
    png_file.check_png(content)
    try:
        _load(image)
    except Exception:
        image = type(image)(png_file.strip(content), "")  # text behind the pixels may be all that is wrong
        _load(image)
    last_row = image.crop((0, image.height - 1, image.width, image.height))
    if image.info.get("interlace") or last_row.getbbox(alpha_only=False) is None:  # Pillow begins with zeros
        missing = png_file.count_missing_rows(content)
        if missing:
            raise OSError(f"the data end {missing:,} rows early")
    return image


def _refuse_holes(content: bytes) -> None:
    """Refuse WebP and AVIF with a page of zeros in the coded pixels, which have no checksum."""
    at = content.find(_HOLE)
    if at >= 0 and max(content.rfind(kind, 0, at) for kind in _PAYLOAD) >= 0:
        raise OSError(f"nothing but zeros from byte {at:,} on")


def _check_tiff(image: Any, file: BinaryIO) -> None:
    """Check what libtiff only warns of, on stderr."""
    tags = image.tag_v2
    counts, offsets = tags.get(279) or tags.get(325) or (), tags.get(273) or tags.get(324) or ()
    if any(count == 0 for count in counts) or any(offset == 0 for offset in offsets):
        raise UnidentifiedImageError("strips of the picture are missing")
    compression = tags.get(259, 1)
    for place, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
        if compression not in (_JPEG_IN_TIFF, *_DEFLATE, _PACK_BITS):
            return
        file.seek(offset)
        data = file.read(count)
        if compression == _JPEG_IN_TIFF:
            tables = bytes(tags.get(347, b""))[:-2]
            simplejpeg.decode_jpeg(tables + data[2:] if tables else data, colorspace="GRAY", strict=True)
            continue
        size = _pack_bits_size(data) if compression == _PACK_BITS else len(zlib.decompress(data))
        if size < _strip_size(image, place):
            raise OSError(f"strip {place} ends early")


def _strip_size(image: Any, place: int) -> int:
    tags = image.tag_v2
    bits = sum(tags.get(258, (1,))) if tags.get(284, 1) == 1 else tags[258][0]
    if 322 in tags:
        return int(-(-tags[322] * bits // 8) * tags[323])
    rows_per_strip = min(tags.get(278, tags[257]), tags[257])
    strips = -(-tags[257] // rows_per_strip)
    rows = min(rows_per_strip, tags[257] - place % strips * rows_per_strip)
    return int(-(-tags[256] * bits // 8) * rows)


def _pack_bits_size(data: bytes) -> int:
    """Count the bytes that PackBits data unpack to."""
    at = size = 0
    while at < len(data):
        code = data[at]
        if code < 128:
            size += min(code + 1, len(data) - at - 1)
            at += code + 2
        else:
            size += 257 - code if code > 128 and at + 1 < len(data) else 0
            at += 2 if code > 128 else 1
    return size
