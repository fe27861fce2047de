"""Read the body of a request in memory, within limits: multipart forms and JSON."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any, Final
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from deepfake_detect.serve.refusals import Refusal

MAX_FIELDS: Final = 16
"""Most fields of a form that are no files."""

FIELD_BYTES: Final = 4096
"""Most bytes of such a field."""

HEADER_BYTES: Final = 8192
"""Most bytes of the headers of one part of a form."""

DRAIN_BYTES: Final = 2**20
"""Bytes that are still read from a body that was refused, so that the client gets to see the answer."""


@dataclass(slots=True, eq=False)
class Upload:
    """A file of a form.

    Attributes:
        name: As the client calls it.
        content: Its bytes, cut at the limit.
        is_too_large: It has more bytes than that.
        file: In place of ``content``, for a video: an unnamed file on disk.
    """

    name: str
    content: bytearray = field(default_factory=bytearray)
    is_too_large: bool = False
    file: IO[bytes] | None = None

    def write(self, data: bytes, max_bytes: int) -> None:
        """Add bytes."""
        if self.file is not None:
            self.is_too_large = self.is_too_large or self.file.tell() + len(data) > max_bytes
            if not self.is_too_large:
                self.file.write(data)
            return
        self.is_too_large = self.is_too_large or len(self.content) + len(data) > max_bytes
        if self.is_too_large:
            self.content.clear()
        else:
            self.content += data


class Form:
    """The parts of a multipart form, as they come.

    Args:
        boundary: From the header Content-Type.
        max_files: Most files; one more is refused.
        max_bytes: Most bytes of a file; what is over is not kept.
        on_disk: Write files to unnamed files on disk, which are gone when closed.
    """

    def __init__(self, boundary: bytes, *, max_files: int, max_bytes: int, on_disk: bool = False) -> None:
        self.files: list[Upload] = []
        self.fields: dict[str, str] = {}
        self._max_files, self._max_bytes, self._on_disk = max_files, max_bytes, on_disk
        self._header_name, self._header_value, self._headers = bytearray(), bytearray(), 0
        self._disposition = b""
        self._part: Upload | bytearray = bytearray()
        self._field = ""
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._add_header(self._header_name, data[start:end]),
            "on_header_value": lambda data, start, end: self._add_header(self._header_value, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._start_content,
            "on_part_data": lambda data, start, end: self._add(data[start:end]),
            "on_part_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the body.

        Raises:
            Refusal: The form is malformed, or has too many parts.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Refusal(400, "BadRequest", f"the multipart form is malformed: {error}") from None

    def finish(self) -> None:
        """Check that the form is complete."""
        try:
            self._parser.finalize()
        except FormParserError as error:
            raise Refusal(400, "BadRequest", f"the multipart form is malformed: {error}") from None
        if self._parser.state.name != "END":
            raise Refusal(400, "BadRequest", "the multipart form ends before its last boundary; send it whole")

    def close(self) -> None:
        """Let go of all files."""
        for upload in self.files:
            if upload.file is not None:
                upload.file.close()

    def _begin(self) -> None:
        self._headers, self._disposition = 0, b""

    def _add_header(self, target: bytearray, data: bytes) -> None:
        self._headers += len(data)
        if self._headers > HEADER_BYTES:
            raise Refusal(413, "TooLarge", f"headers of more than {HEADER_BYTES:,} bytes in a part of the form")
        target += data

    def _end_header(self) -> None:
        if bytes(self._header_name).lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _start_content(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise Refusal(400, "BadRequest", "a part of the form has no name; expected Content-Disposition with a name")
        self._field = options[b"name"].decode("utf-8", "replace")
        if b"filename" in options:
            self._start_file(options[b"filename"].decode("utf-8", "replace"))
        else:
            if self._field in self.fields or len(self.fields) >= MAX_FIELDS:
                raise Refusal(400, "InvalidOption", f"the field {clean_name(self._field)!r} twice, or too many fields")
            self._part = bytearray()

    def _start_file(self, name: str) -> None:
        if len(self.files) >= self._max_files:
            raise Refusal(413, "TooLarge", f"more than {self._max_files} files in a request; send several requests")
        file = tempfile.TemporaryFile() if self._on_disk else None  # noqa: SIM115 - closed by close()
        self._part = Upload(clean_name(name), file=file)
        self.files.append(self._part)

    def _add(self, data: bytes) -> None:
        if isinstance(self._part, Upload):
            self._part.write(data, self._max_bytes)
            return
        if len(self._part) + len(data) > FIELD_BYTES:
            raise Refusal(413, "TooLarge", f"the field {clean_name(self._field)!r} has more than {FIELD_BYTES:,} bytes")
        self._part += data

    def _end(self) -> None:
        if isinstance(self._part, bytearray):
            try:
                self.fields[self._field] = self._part.decode("utf-8")
            except UnicodeDecodeError:
                name = clean_name(self._field)
                raise Refusal(400, "InvalidOption", f"the field {name!r} is no text in UTF-8") from None


async def read_chunks(request: Request, *, max_bytes: int, hold: Callable[[int], None]) -> AsyncIterator[bytes]:
    """Yield the body of a request as it comes.

    Args:
        request: Its Content-Length is believed where it is too large.
        max_bytes: Most bytes.
        hold: Called with the number of bytes of each chunk; raises where they cannot be held.

    Raises:
        Refusal: Too many bytes.
    """
    stated = request.headers.get("content-length", "")
    total = int(stated) if stated.isdecimal() and len(stated) < 20 else 0
    if total > max_bytes:
        await drain(request)
        raise _body_too_large(max_bytes)
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > max_bytes:
            await drain(request)
            raise _body_too_large(max_bytes)
        hold(len(chunk))
        yield chunk


async def drain(request: Request, *, seconds: float = 2.0) -> None:
    """Read a little more of a body that is refused: a client that is still sending would not see the answer."""
    left = DRAIN_BYTES
    with suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                left -= len(chunk)
                if left < 0:
                    return


def parse_json(body: bytes) -> Any:
    """Parse JSON strictly: no NaN, no infinity, no name twice.

    Raises:
        Refusal: It is malformed, or nested too deeply.
    """
    try:
        return json.loads(body, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise Refusal(400, "BadRequest", f"the body is no JSON: {reason}") from None


def decode_base64(text: str) -> bytes:
    """Decode a file in base64, or in a data URI.

    Raises:
        ValueError: It is damaged.
    """
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma:
            raise ValueError("a data URI without a comma, expected data:image/jpeg;base64,...")
        if not head.lower().endswith(";base64"):
            return unquote_to_bytes(text)
    try:
        content = "".join(text.split()).encode("ascii")
        return base64.b64decode(content + b"=" * (-len(content) % 4), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"damaged base64 ({error}); encode it again") from None


def clean_name(name: str) -> str:
    """Return the last part of a file's name without control characters, at most 255 characters.

    Example:
        >>> clean_name("../../etc/passwd.jpg")
        'passwd.jpg'
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:255]


def boundary_of(content_type: str) -> bytes:
    """Return the boundary of a multipart form.

    Raises:
        Refusal: There is none.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary or len(boundary) > 256:
        raise Refusal(400, "BadRequest", "Content-Type has no boundary; let the HTTP client set it")
    return boundary


def _body_too_large(max_bytes: int) -> Refusal:
    return Refusal(
        413, "TooLarge", f"a body of more than {max_bytes:,} bytes; send several requests, or smaller pictures"
    )


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is out of range")
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("an object has a name twice")
    return values
