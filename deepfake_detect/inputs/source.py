"""Open a path, URL, data URI, bytes or file object as a binary file, and describe files that are no pictures."""

from __future__ import annotations

import base64
import binascii
import codecs
import contextlib
import io
import os
import re
import stat
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

from deepfake_detect.errors import DeepfakeDetectError, ImageUnreadable
from deepfake_detect.inputs.download import read_url

INPUTS = "expected a path, URL, data URI, bytes, binary file, PIL image, RGB HWC uint8 array or CHW tensor"
"""What may stand for a picture, as the middle of an error message."""

_NOT_A_FILE = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_SIGNATURES = {  # in lower case, after leading white space
    b"%pdf": "a PDF document",
    b"%!ps": "a PostScript file",
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b"<?xml": "an XML or SVG file",
    b"<svg": "an SVG drawing",
    b"8bps": "a Photoshop file",
    b"pk\x03\x04": "a ZIP archive or an office document",
    b"\x1f\x8b": "a gzip archive",
    b"\x1ae\xdf\xa3": "a WebM or Matroska video",
    b"\x93numpy": "a NumPy file",
}


def open_bytes(image: object, *, name: str, public_only: bool = False) -> BinaryIO:
    """Open a path, URL, data URI, bytes or file object as a binary file that can seek.

    A path is opened, not read, so that reading a header stays cheap. All else is held in memory.

    Args:
        image: The caller's input. A file object is read from its start where it can seek.
        name: Stands for the input in error messages.
        public_only: Of URLs, open only those with a public address; see `read_url`.

    Returns:
        A file at its first byte; the caller closes it.

    Raises:
        ImageUnreadable: Not there, not allowed, a pipe, device or closed file, or nothing that holds bytes.
        ImageTooLarge: More than 64 MB behind a URL.

    Example:
        >>> open_bytes("data:,hello%21", name="<data URI>").read()
        b'hello!'
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return io.BytesIO(bytes(image))  # a view with steps, too
    if isinstance(image, os.PathLike):
        return _open_path(os.fsdecode(image), name)
    if isinstance(image, str):
        return _open_text(image, name, public_only=public_only)
    if hasattr(image, "read"):
        return io.BytesIO(_read_all(image, name))
    if image is None:
        raise ImageUnreadable("None is no picture (cv2.imread gives it for a file that it cannot read); pass the path")
    hint = "; pass pictures one by one" if isinstance(image, (list, tuple)) else ""
    hint = "; pass numpy.asarray(it)" if hasattr(type(image), "__array__") else hint
    hint = "; pass it.to_ndarray(format='rgb24')" if hasattr(image, "to_ndarray") else hint  # a frame of PyAV
    raise ImageUnreadable(f"{type(image).__name__} is no kind of picture, {INPUTS}{hint}")


def describe_bytes(head: bytes) -> str | None:
    """Say in words what a file is, by its first bytes, where it is no picture that Pillow reads.

    Args:
        head: The first bytes of the file; 64 are enough.

    Returns:
        Words for an error message; None where the bytes say nothing.

    Example:
        >>> describe_bytes(b"%PDF-1.7")
        'a PDF document'
    """
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "an AVI video"
    if head[4:8] == b"ftyp" and head[8:12] not in (b"avif", b"avis"):
        return "an MP4 or QuickTime video"
    return _as_text(head)


def _as_text(head: bytes) -> str | None:
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # the last letter may be cut
    except UnicodeDecodeError:
        return None
    if not all(letter.isprintable() or letter.isspace() for letter in text):
        return None
    words = " ".join(text.split())
    return f'text: "{words[:40]}{"..." if len(words) > 40 else ""}"'


def _open_path(path: str, name: str) -> BinaryIO:
    if not path:
        raise ImageUnreadable(f"an empty string is no path, {INPUTS}")
    path = os.path.expanduser(path)
    try:
        _refuse_special_file(os.stat(path).st_mode, name)  # to open a pipe would wait for its writer
        return open(path, "rb")
    except FileNotFoundError:
        raise ImageUnreadable(f"{name}: no such file") from None
    except DeepfakeDetectError:
        raise
    except (OSError, ValueError) as error:
        raise ImageUnreadable(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _refuse_special_file(mode: int, name: str) -> None:
    if stat.S_ISDIR(mode):
        raise ImageUnreadable(f"{name}: a folder, expected a picture; pass the pictures in it")
    if not stat.S_ISREG(mode):
        kind = _NOT_A_FILE.get(stat.S_IFMT(mode), "no regular file")
        raise ImageUnreadable(f"{name}: {kind}, expected a file; read it and pass the bytes")


def _open_text(text: str, name: str, *, public_only: bool) -> BinaryIO:
    if text[:5].lower() == "data:":
        return io.BytesIO(_data_uri_bytes(text))
    scheme = re.match(r"[a-z][a-z0-9+.-]+(?=://)", text, re.IGNORECASE)
    if scheme is None:
        return _open_path(text, name)
    if scheme[0].lower() not in ("http", "https"):
        raise ImageUnreadable(f"{name}: {scheme[0]}:// addresses are not read; pass http, https or a path")
    return io.BytesIO(read_url(text, name=name, public_only=public_only))


def _data_uri_bytes(text: str) -> bytes:
    head, comma, payload = text.partition(",")
    if not comma:
        raise ImageUnreadable(f"data URI {text[:40]!r} has no comma, expected data:image/jpeg;base64,...")
    content = unquote_to_bytes(payload)
    if not head.lower().endswith(";base64"):
        return content
    content = b"".join(content.split())
    try:
        return base64.b64decode(content + b"=" * (-len(content) % 4), validate=True)
    except binascii.Error as error:
        raise ImageUnreadable(f"data URI {head[:40]!r}: damaged base64 ({error}); encode it again") from None


def _read_all(file: Any, name: str) -> bytes:
    if getattr(file, "closed", False) is True:
        raise ImageUnreadable(f"{name}: a closed file; open it again, or pass its path")
    try:
        with contextlib.suppress(OSError, AttributeError):  # pipes and responses cannot seek
            file.seek(0)
        content = file.read()
    except Exception as error:  # an object of the caller's, which may raise anything
        raise ImageUnreadable(f"{name}: read() failed ({type(error).__name__}: {error})") from error
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise ImageUnreadable(f"{name}: read() gave {type(content).__name__}, expected bytes; open it with mode 'rb'")
    return bytes(content)
