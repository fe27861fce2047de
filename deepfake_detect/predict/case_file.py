"""Read and write case files, and find a name for one that no other case has."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, get_args

from deepfake_detect.drawing.result import file_stem
from deepfake_detect.errors import DatasetError, InvalidOption
from deepfake_detect.predict.look import FaceChoice
from deepfake_detect.system.atomic import named_write_errors, whole_file

SCHEMA = "deepfake-detect/case@1"
"""Layout of a case file; ``docs/case.schema.json`` describes it."""

LARGEST_CASE = 64 * 2**20
"""Bytes of the largest case file that is read."""

_MOST = 1e12  # no pixel, logit or size is larger


class CaseIdentity(NamedTuple):
    """What a case is about: two cases with the same identity may take each other's place.

    Attributes:
        name: Of the picture.
        sha256: Of the picture.
        weights: Name and sha256 of the weights.
        settings: Choice of faces, threshold, and fingerprint of the card, as JSON.
    """

    name: str
    sha256: str
    weights: tuple[str, str]
    settings: str

    @classmethod
    def of(cls, case: Mapping[str, Any]) -> CaseIdentity:
        """Return the identity of a case."""
        source, weights = case["input"], case["weights"]
        settings = json.dumps(case["settings"], sort_keys=True)
        return cls(source["name"], source["sha256"], (weights["id"], weights["sha256"]), settings)


def encode_case(case: Mapping[str, Any]) -> bytes:
    """Return the content of a case file."""
    text = json.dumps(case, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def write_case(case: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a case file, whole or not at all.

    Raises:
        InvalidOption: It cannot be written there.
    """
    target = Path(os.path.expanduser(path))
    with named_write_errors(target), whole_file(target) as partial:
        partial.write_bytes(encode_case(case))


def case_paths(folder: Path, identity: CaseIdentity) -> Iterator[Path]:
    """Yield the names that a case may have, the best first: ``NAME-SHA.json``, ``NAME-SHA-2.json`` ...

    NAME is that of the picture, SHA the first eight digits of its sha256. Other weights, settings and folders of
    pictures give the same name, so the caller takes the first that no other case has.
    """
    start = f"{file_stem(identity.name)}-{identity.sha256[:8]}"
    for number in itertools.count(1):
        yield folder / f"{start}{'' if number == 1 else f'-{number}'}.json"


def holds_case(path: Path, identity: CaseIdentity) -> bool:
    """Return whether a file is a case of this identity."""
    try:
        return path.is_file() and CaseIdentity.of(read_case(path)) == identity
    except DatasetError:
        return False


def read_case(case: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Read a case file and check its layout.

    Args:
        case: A path, or the content.

    Returns:
        The content: plain JSON values, with all the fields that a case has, each of its type.

    Raises:
        DatasetError: No such file, not JSON, another layout, or missing fields.
        InvalidOption: Neither a path nor a mapping.
    """
    if isinstance(case, Mapping):
        where, content = "the case", _plain(case)
    elif isinstance(case, str | os.PathLike):
        where = os.fsdecode(case)
        content = _parse(case, where)
    else:
        raise InvalidOption(f"case is a {type(case).__name__}, expected the path of a case file, or its content")
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        schema = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise DatasetError(
            f"{where} has schema {schema!r:.100}, expected {SCHEMA!r}; prediction.save('case.json') writes such a file"
        )
    for place, (is_right, expected) in _FIELDS.items():
        value = value_at(content, place)
        if value is ABSENT:
            raise DatasetError(f"{where} lacks {place}; the case was edited or cut")
        if not is_right(value):
            raise DatasetError(
                f"{where}: {place} is {value!r:.100}, expected {expected}; the case was edited or damaged"
            )
    return content


ABSENT = object()
"""Stands for the value of a field that is not there."""


def value_at(case: Mapping[str, Any], place: str) -> Any:
    """Return the value at a dotted place, or `ABSENT`."""
    value: Any = case
    for name in place.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return ABSENT
        value = value[name]
    return value


def _plain(case: Mapping[str, Any]) -> Any:
    try:
        return json.loads(json.dumps(dict(case), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise DatasetError(f"the case does not hold plain JSON values: {error}") from None


def _parse(path: str | os.PathLike[str], where: str) -> Any:
    file_path = Path(os.path.expanduser(os.fsdecode(path)))
    try:
        if file_path.exists() and not file_path.is_file():  # to open a pipe would wait for its writer
            kind = "a folder" if file_path.is_dir() else "a pipe or device"
            raise DatasetError(f"{where} is {kind}, expected a case file; pass the file that was saved")
        with file_path.open("rb") as file:
            text = file.read(LARGEST_CASE + 1)
    except DatasetError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{where} cannot be read as a case: {reason}; pass the file that was saved") from None
    return parse_case(text, where=where)


def parse_case(text: bytes, *, where: str) -> Any:
    """Parse the JSON of a case file; `read_case` checks what it holds.

    Args:
        text: At most `LARGEST_CASE` bytes.
        where: It was read, for messages.

    Raises:
        DatasetError: It is no JSON, names a field twice, or is too large.
    """
    if len(text) > LARGEST_CASE:
        raise DatasetError(f"{where} cannot be read as a case: more than {LARGEST_CASE:,} bytes")
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where} cannot be read as a case: {error}") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that names a field twice: programs differ in which of the two they read."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r:.100} stands twice in one object")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    """Return whether a value names weights, and is no path or repository that whoever wrote the case chose."""
    return isinstance(value, str) and not {"/", "\\"} & {*value}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MOST


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and math.floor(value) == value


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _or_null(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_right(value)


def _holds(length: int, is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) == length and all(map(is_right, value))


def _holds_faces(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_face, value))


def _is_face(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in value and is_right(value[name])
        for name, is_right in {
            "box_xyxy": _holds(4, _is_number),
            "landmarks_xy": _holds_points,
            "confidence": _is_share,
            "score": _is_share,
            "logit": _is_number,
            "label": _is_text,
        }.items()
    )


def _holds_points(value: Any) -> bool:
    return isinstance(value, list) and all(map(_holds(2, _is_number), value))


def _holds_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_TEXT = (_is_text, "a text")
_TEXT_OR_NULL = (_or_null(_is_text), "a text, or null")
_SHARE_OR_NULL = (_or_null(_is_share), "a number from 0 to 1, or null")
_OBJECT_OR_NULL = (_or_null(_is_object), "an object, or null")
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "sha256": _TEXT,
    "created": _TEXT,
    "input.name": _TEXT,
    "input.kind": _TEXT,
    "input.bytes": (_is_count, "a number of bytes"),
    "input.sha256": _TEXT,
    "weights.id": (_is_name, "the name of weights, such as name@version"),
    "weights.sha256": _TEXT,
    "weights.revision": _TEXT_OR_NULL,
    "weights.card": (_is_object, "an object"),
    "settings.faces": (
        lambda value: isinstance(value, str) and value in get_args(FaceChoice),
        f"one of {', '.join(get_args(FaceChoice))}",
    ),
    "settings.threshold": _SHARE_OR_NULL,
    "settings.preprocessing": _TEXT,
    "verdict.name": _TEXT,
    "verdict.label": _TEXT,
    "verdict.score": _SHARE_OR_NULL,
    "verdict.logit": (_or_null(_is_number), "a number, or null"),
    "verdict.threshold": (_is_share, "a number from 0 to 1"),
    "verdict.faces": (
        _holds_faces,
        "a list of faces, each with box_xyxy, landmarks_xy, confidence, score, logit and label",
    ),
    "verdict.size_hw": (_holds(2, _is_count), "height and width in pixels"),
    "verdict.model": _TEXT,
    "verdict.revision": _TEXT_OR_NULL,
    "verdict.seconds": (_is_number, "a number"),
    "verdict.backend": _TEXT,
    "verdict.dtype": _TEXT,
    "stability": _OBJECT_OR_NULL,
    "metadata": _OBJECT_OR_NULL,
    "environment.versions": (_holds_texts, "an object of texts"),
}
