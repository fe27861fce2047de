"""Read an ONNX file of a detector: its card, its checksum, and that it refers to no other file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from deepfake_detect._options import check_type
from deepfake_detect.errors import UnknownWeights, WeightsCorrupted, WeightsMismatch
from deepfake_detect.weights.bundle import Bundle, find_bundle
from deepfake_detect.weights.card import Card

SUFFIX: Final = ".onnx"

PREFIX: Final = "deepfake_detect."
"""What the names of our metadata in an ONNX file begin with."""

LAYOUT: Final = "1"
"""Layout of the metadata, inputs and outputs; stands under ``layout``."""

UNSEALED: Final = "0" * 64
"""Stands in place of the sha256 while that is computed."""

LARGEST_FILE: Final = 2**31
"""Bytes of the largest ONNX file, which is a message of Protocol Buffers."""

Precision = Literal["float32", "float16", "int8"]
"""What the network of an ONNX file computes in."""

Input = Literal["pixels", "crops"]
"""What an ONNX file takes: ``pixels``, float32 [N, 3, H, W], normalised; or ``crops``, uint8 [N, H, W, 3]."""

_DEEPEST = 16  # graphs within one another
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of Protocol Buffers
_FIXED = {_FIXED64: 8, _FIXED32: 4}

# Fields of onnx.proto that may hold a tensor somewhere inside: message -> field number -> message.
_NESTED: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_GRAPH, _METADATA = 7, 14  # of a model
_EXTERNAL_DATA = 13  # of a tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxFile:
    """A detector as an ONNX file, read and checked.

    Attributes:
        card: How to use the network.
        path: Of the file.
        content: Its bytes.
        dtype: What the network computes in.
        input: What it takes.
    """

    card: Card
    path: Path
    content: bytes = field(repr=False)
    dtype: Precision = "float32"
    input: Input = "pixels"

    @property
    def revision(self) -> None:
        """Commit on the Hub: a file has none."""
        return None

    def __copy__(self) -> OnnxFile:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxFile:
        return self


def find_weights(name_or_path: str | os.PathLike[str], **options: Any) -> Bundle | OnnxFile:
    """Find a bundle as `find_bundle` does, or read an ONNX file where the name ends in ``.onnx``.

    Args:
        name_or_path: As for `find_bundle`, or the path of an ONNX file.
        options: As for `find_bundle`.

    Raises:
        UnknownWeights: As for `find_bundle`; no such file; or a revision of a file.
        WeightsCorrupted: As for `read_onnx`.
        WeightsMismatch: As for `read_onnx`.
        HubUnavailable: As for `find_bundle`.
    """
    check_type("name_or_path", name_or_path, (str, os.PathLike), expected="a name, a folder, a file, or 'owner/name'")
    path = Path(os.path.expanduser(name_or_path))
    if path.suffix.lower() != SUFFIX or path.is_dir():
        return find_bundle(name_or_path, **options)
    if options.get("revision") is not None:
        raise UnknownWeights(f"{path} is a file, which has no revision {options['revision']!r}; leave revision= out")
    if path.exists() and not path.is_file():
        raise WeightsCorrupted(f"{path} is no regular file, expected an ONNX file; Detector.export writes one")
    if not path.is_file():
        raise UnknownWeights(f"no file {str(path)!r} (looked in {Path.cwd()}); Detector.export writes one")
    return read_onnx(path)


def read_onnx(path: Path) -> OnnxFile:
    """Read an ONNX file that `Detector.export` wrote.

    Args:
        path: Of the file.

    Raises:
        WeightsCorrupted: It cannot be read, is no ONNX file, is cut off, or its bytes are not those that its sha256
            was taken of.
        WeightsMismatch: It has no card, its card cannot be used, or it refers to other files.
    """
    try:
        content = path.read_bytes() if path.stat().st_size <= LARGEST_FILE else b""
    except OSError as error:
        raise WeightsCorrupted(f"{path} cannot be read ({error.strerror}); copy or export it again") from error
    return parse_onnx(content, path=path)


def parse_onnx(content: bytes, *, path: Path) -> OnnxFile:
    """Check the bytes of an ONNX file, and read its card.

    Args:
        content: Of the file.
        path: Named in messages.

    Raises:
        WeightsCorrupted: As for `read_onnx`.
        WeightsMismatch: As for `read_onnx`.
    """
    try:
        metadata = _metadata(content)
        refers = _refers_elsewhere(memoryview(content), "model")
    except _Malformed as error:
        raise WeightsCorrupted(
            f"{path} ({len(content):,} bytes) is no whole ONNX file ({error}); copy or export it again"
        ) from None
    text = {name: value for name, (value, _) in metadata.items()}
    if not {"card", "sha256", "layout", "dtype", "input"} <= text.keys():
        raise WeightsMismatch(
            f"{path} is not an ONNX file of a detector: it has no {PREFIX}card in its metadata; "
            "Detector.export writes files that have"
        )
    if sealed_digest(content, at=metadata["sha256"][1]) != text["sha256"]:
        raise WeightsCorrupted(
            f"{path} ({len(content):,} bytes) is damaged or was edited: its sha256 is not the one in its metadata; "
            "copy or export it again"
        )
    if refers:
        raise WeightsMismatch(f"{path} keeps weights in other files, expected all in one; export it again")
    if (text["layout"], True, True) != (LAYOUT, text["dtype"] in get_args(Precision), text["input"] in get_args(Input)):
        raise WeightsMismatch(
            f"{path} has layout {text['layout']!r}, dtype {text['dtype']!r} and input {text['input']!r}, "
            f"this library reads layout {LAYOUT}; run: pip install --upgrade deepfake-detect"
        )
    card = Card.from_json(text["card"], where=f"{path}: card")
    return OnnxFile(card=card, path=path, content=content, dtype=text["dtype"], input=text["input"])  # type: ignore[arg-type]


def sealed(content: bytes) -> bytes:
    """Write the sha256 of an ONNX file into its metadata, where `UNSEALED` stands.

    Args:
        content: A file whose metadata has ``sha256`` with the value `UNSEALED`.

    Returns:
        The file with the sha256 of all its other bytes.
    """
    _, at = _metadata(content)["sha256"]
    digest = sealed_digest(content, at=at)
    return content[:at] + digest.encode() + content[at + len(digest) :]


def sealed_digest(content: bytes, *, at: int) -> str:
    """Compute the sha256 of a file as if `UNSEALED` stood at a place in it.

    Args:
        content: The file.
        at: Where its metadata have the sha256.
    """
    digest = hashlib.sha256(content[:at])
    digest.update(UNSEALED.encode())
    digest.update(content[at + len(UNSEALED) :])
    return digest.hexdigest()


class _Malformed(ValueError):
    """Bytes that are no message of Protocol Buffers."""


def _metadata(content: bytes) -> dict[str, tuple[str, int]]:
    """Return our metadata: name to value, and where the value begins."""
    found: dict[str, tuple[str, int]] = {}
    has_graph = False
    for number, start, end in _fields(memoryview(content), 0, len(content)):
        has_graph |= number == _GRAPH
        if number == _METADATA:
            entry = {part: span for part, *span in _fields(memoryview(content), start, end)}
            name, value = (_text(content, *entry.get(part, (0, 0))) for part in (1, 2))
            if name.startswith(PREFIX):
                if name.removeprefix(PREFIX) in found:
                    raise _Malformed(f"{name} stands twice in its metadata")
                found[name.removeprefix(PREFIX)] = value, entry[2][0] if 2 in entry else 0
    if not has_graph:
        raise _Malformed("it has no graph")
    if "sha256" in found and len(found["sha256"][0]) != len(UNSEALED):
        raise _Malformed("its sha256 is none")
    return found


def _text(content: bytes, start: int, end: int) -> str:
    try:
        return content[start:end].decode()
    except UnicodeDecodeError:
        raise _Malformed("its metadata are no text") from None


def _refers_elsewhere(content: memoryview, message: str, *, depth: int = 0) -> bool:
    """Tell whether a tensor in a message is kept in another file."""
    if depth > _DEEPEST * 4:
        raise _Malformed("its graphs are nested too deeply")
    nested = _NESTED[message]
    for number, start, end in _fields(content, 0, len(content)):
        if message == "tensor" and number == _EXTERNAL_DATA:
            return True
        if number in nested and _refers_elsewhere(content[start:end], nested[number], depth=depth + 1):
            return True
    return False


def _fields(content: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the fields of a message; numbers have an empty span."""
    while at < end:
        key, at = _varint(content, at, end)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(content, at, end)
            yield key >> 3, at, at
            continue
        if kind == _BYTES:
            length, at = _varint(content, at, end)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise _Malformed(f"a field of kind {kind} at byte {at:,}")
        if length > end - at:
            raise _Malformed(f"it ends before byte {at + length:,}")
        yield key >> 3, at, at + length
        at += length


def _varint(content: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _Malformed(f"it ends at byte {at:,} within a number")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Malformed(f"a number of more than 10 bytes at byte {at:,}")
