"""Recognise the format of a picture file and open it, or say what the file is instead."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

from PIL import Image, ImageFile

from deepfake_detect.errors import DeepfakeDetectError, ImageTooLarge, ImageUnreadable, MissingExtra
from deepfake_detect.inputs import png_file
from deepfake_detect.inputs.raw_photo import REMEDY, name_raw_photo
from deepfake_detect.inputs.source import describe_bytes

EXPECTED: Final = "expected a picture: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC, JPEG 2000 or PNM"
"""The formats that are read, as the end of an error message."""

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "JXL")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_JPEG = b"\xff\xd8\xff"  # the start of no raw photograph
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")


def open_file(file: BinaryIO, head: bytes, name: str) -> Any:
    """Open a picture file; nothing but its header is decoded.

    Formats that would start another program, such as Ghostscript, are not tried.

    Args:
        file: A file that can seek.
        head: Its first 64 bytes.
        name: Stands for it in error messages.

    Returns:
        A file image of Pillow; for HEIC what `pillow_heif.open_heif` gives. Both have ``size``.

    Raises:
        ImageUnreadable: No picture, a raw photograph, or one with a damaged header.
        MissingExtra: HEIC, and pillow-heif is not installed.
    """
    raw_photo = None if head.startswith(_JPEG) else name_raw_photo(file)
    if raw_photo:
        kind = f"a raw photograph ({raw_photo})" if "raw" not in raw_photo else raw_photo
        raise ImageUnreadable(f"{name}: {kind}, of which only the camera's thumbnail could be read; {REMEDY}")
    if head.startswith(_JPEG_XL):
        _load_jpeg_xl(name)
    content = f"starts with the bytes {head[:8].hex(' ')}"
    for format_name, factory in _openers(head).items():
        try:
            return _open(factory, format_name, file)
        except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise
        except Exception as error:
            content = f"{format_name} whose header is damaged or cut off ({error})"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return _open_heif(file, name)
    looks_like = describe_bytes(head)
    raise ImageUnreadable(f"{name}: {f'looks like {looks_like}' if looks_like else content}; {EXPECTED}")


@contextlib.contextmanager
def named_errors(name: str, what: str) -> Iterator[None]:
    """Turn what decoders raise into `ImageUnreadable` or `ImageTooLarge`.

    Args:
        name: Of the picture.
        what: What it should have been, such as ``"JPEG of 40 x 30 pixels"``.
    """
    try:
        yield
    except (DeepfakeDetectError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(f"{name}: {error}; make the picture smaller") from error
    except Exception as error:  # decoders answer foreign bytes with a dozen types of exception
        reason = str(error) or type(error).__name__
        raise ImageUnreadable(f"{name}: damaged or truncated {what} ({reason}); get a whole copy of it") from error


def _open(factory: Callable[..., ImageFile.ImageFile], format_name: str, file: BinaryIO) -> ImageFile.ImageFile:
    # Image.open() would warn of a pixel limit of its own, and try formats that start other programs.
    if format_name == "PNG":
        png_file.refuse_many_chunks(file)
    file.seek(0)
    try:
        return factory(file, "")
    except Exception:
        if format_name != "PNG":
            raise
        return factory(png_file.strip(file), "")


def _openers(head: bytes) -> dict[str, Callable[..., ImageFile.ImageFile]]:
    """Return Pillow's plugins for a file that begins so."""
    Image.preinit()  # the common formats; all others take longer to load than a photograph to open
    chosen = _matching(head)
    if not chosen:
        Image.init()
        chosen = _matching(head)
    return chosen


def _matching(head: bytes) -> dict[str, Callable[..., ImageFile.ImageFile]]:
    known = {name: Image.OPEN[name] for name in _FORMATS if name in Image.OPEN}
    return {name: factory for name, (factory, accept) in known.items() if accept and accept(head[:16]) is True}


def _open_heif(file: BinaryIO, name: str) -> Any:
    """Open HEIC without registering it in Pillow, which belongs to the host."""
    try:
        import pillow_heif
    except ImportError:
        raise MissingExtra(f"{name}: HEIC needs pillow-heif; run: pip install 'deepfake-detect[heif]'") from None
    file.seek(0)
    return pillow_heif.open_heif(file, convert_hdr_to_8bit=True)


def _load_jpeg_xl(name: str) -> None:
    if "JXL" not in Image.OPEN:
        try:
            importlib.import_module("pillow_jxl")  # registers itself in Pillow; there is no other way to it
        except ImportError:
            raise ImageUnreadable(
                f"{name}: JPEG XL, which is read where Pillow has a plugin for it; run: pip install pillow-jxl-plugin"
            ) from None
