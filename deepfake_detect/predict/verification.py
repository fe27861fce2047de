"""Check a recorded verdict again: whether file, weights and verdict are the same."""

from __future__ import annotations

import io
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from deepfake_detect._options import check_number
from deepfake_detect._version import __version__
from deepfake_detect.drawing.result import Result
from deepfake_detect.errors import DatasetError, DeepfakeDetectError, ImageUnreadable, UnknownWeights
from deepfake_detect.inputs.image import ImageInput
from deepfake_detect.predict.evidence import (
    SCHEMA,
    environment,
    fingerprint_card,
    fingerprint_case,
    fingerprint_input,
    metadata_of,
    plain_card,
)
from deepfake_detect.predict.intake import hold_file
from deepfake_detect.predict.look import FaceChoice
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.weights.onnx_file import find_weights

SCORE_TOLERANCE = 0.01
"""How far a score may move and still count as the same. Another processor or engine moves it by some 1e-5, another
decoder of JPEG by up to some 1e-3; another crop, weight or calibration by far more."""

BOX_TOLERANCE_PX = 2.0
"""How far an edge of a face box or a landmark may move and still count as the same, in pixels of the picture."""

CONFIDENCE_TOLERANCE = 0.02
"""How far the confidence of a face may move and still count as the same."""

UNCHECKED = (
    "created", "input.name", "environment", "verdict.name", "verdict.revision", "verdict.seconds", "verdict.backend",
    "verdict.dtype", "verdict.content",
)  # fmt: skip
"""What a case says of the time and the machine, which nobody can compute again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseCheck:
    """One comparison of a recorded verdict with the present one.

    Attributes:
        name: ``"case"``, ``"file"``, ``"weights"``, ``"card"``, ``"settings"``, ``"label"``, ``"score"``, ``"faces"``,
            ``"verdict"`` (all other fields of it), ``"metadata"`` or ``"stability"``.
        ok: Whether the two agree; None where that was not checked.
        recorded: Value in the case.
        found: Value now, or why it was not checked.
    """

    name: str
    ok: bool | None
    recorded: str
    found: str

    def __str__(self) -> str:
        if self.ok is None:
            return f"unchecked  {self.name}: {self.found}"
        if self.ok:
            return f"same       {self.name}: {self.found}"
        return f"DIFFERENT  {self.name}: recorded {self.recorded}, now {self.found}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification(Result):
    """The outcome of checking a recorded verdict again.

    Attributes:
        checks: In the order they were made. Where the file is another one, the verdict is computed all the same.
        tolerance: How far a score was allowed to move.
        versions: Library to its recorded and present version, where they differ.
        prediction: The verdict computed now; None where it could not be, which is then one of the checks.
    """

    checks: tuple[CaseCheck, ...]
    tolerance: float
    versions: Mapping[str, tuple[str, str]]
    prediction: Prediction | None

    @property
    def ok(self) -> bool:
        """Everything that was checked is as recorded."""
        return all(check.ok is not False for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "ok": self.ok,
            "tolerance": self.tolerance,
            "checks": [asdict(check) for check in self.checks],
            "versions": {name: list(pair) for name, pair in self.versions.items()},
            "prediction": None if self.prediction is None else self.prediction.to_dict(),
        }

    def __str__(self) -> str:
        other = [f"versions   {name}: recorded {old}, now {new}" for name, (old, new) in self.versions.items()]
        verdict = "The verdict stands." if self.ok else "The verdict is not confirmed."
        return "\n".join([*map(str, self.checks), *other, f"unchecked  {', '.join(UNCHECKED)}", verdict])


def verify(
    case: str | os.PathLike[str] | Mapping[str, Any],
    image: ImageInput,
    *,
    model: str | os.PathLike[str] | None = None,
    tolerance: float = SCORE_TOLERANCE,
    **options: Any,
) -> Verification:
    """Check a recorded verdict again, with the libraries and on the machine at hand.

    Args:
        case: File written by ``prediction.save("case.json")``, or its content.
        image: The picture that the case is about.
        model: Where the weights are, if they are not packaged: a folder, an ONNX file or ``owner/name``. None takes the
            name on the case.
        tolerance: How far the score may move, 0..1.
        options: ``device``, ``dtype`` and ``backend``, as for `Predictor`.

    Returns:
        What is the same, and what differs.

    Raises:
        DatasetError: The case cannot be read, or is none.
        ImageUnreadable: The picture cannot be read. One that can be read and not decoded is among the checks.
        UnknownWeights: Its weights are not here.
        InvalidOption: Several pictures, or a tolerance out of range.

    Example:
        >>> import deepfake_detect as dd
        >>> detector = dd.Detector.from_pretrained("meso4-fakefaces")
        >>> detector.predict("examples/portrait.jpg").save("case.json")
        >>> verify("case.json", "examples/portrait.jpg").ok
        True
        >>> [check.name for check in verify("case.json", "examples/portrait_fake.jpg").checks if not check.ok][0]
        'file'
    """
    check_number("tolerance", tolerance, low=0, high=1)
    record = read_case(case)
    if isinstance(image, str | os.PathLike) and os.path.isdir(image):
        raise ImageUnreadable(f"{os.fspath(image)} is a folder, expected the picture that the case is about")
    file = hold_file(image)
    held = image if file is None else file
    weights, settings = record["weights"], record["settings"]
    try:
        bundle = find_weights(model if model is not None else weights["id"])
    except UnknownWeights as error:
        raise UnknownWeights(f"{error}; pass model= with the folder or repository of {weights['id']}") from None
    predictor = Predictor(model=bundle, card=bundle.card, revision=bundle.revision, **options)
    prediction, failure = _score(predictor, held, settings)
    checks = [_case(record), _file(record["input"], held), *_weights(weights, settings, predictor)]
    checks += _verdict(record["verdict"], prediction, tolerance) if prediction else [failure]
    checks += [*_metadata(record, file), *_stability(record)]
    return Verification(
        checks=tuple(checks),
        tolerance=tolerance,
        versions=_changed_versions(record["environment"]["versions"]),
        prediction=prediction,
    )


def read_case(case: str | os.PathLike[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    """Read a case file and check its layout.

    Args:
        case: A path, or the content.

    Returns:
        The content.

    Raises:
        DatasetError: No such file, not JSON, another layout, or missing fields.
    """
    if not isinstance(case, str | os.PathLike | Mapping):
        raise DatasetError(f"the case is a {type(case).__name__}, expected the path of a .json file or its content")
    where = "the case" if isinstance(case, Mapping) else os.fspath(case)
    if not isinstance(case, Mapping):
        try:
            case = json.loads(Path(case).expanduser().read_bytes(), parse_constant=_refuse)
        except (OSError, ValueError, RecursionError) as error:
            raise DatasetError(f"{where} cannot be read as a case: {error}") from None
    if not isinstance(case, Mapping) or case.get("schema") != SCHEMA:
        found = case.get("schema") if isinstance(case, Mapping) else type(case).__name__
        raise DatasetError(
            f"{where} has schema {found!r}, expected {SCHEMA!r}; prediction.save('case.json') writes such a file"
        )
    for place, (is_right, expected) in _FIELDS.items():
        value = _value_at(case, place)
        if value is _ABSENT:
            raise DatasetError(f"{where} lacks {place}; the case was edited or cut")
        if not is_right(value):
            raise DatasetError(
                f"{where}: {place} is {value!r:.100}, expected {expected}; the case was edited or damaged"
            )
    return case


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    """Return whether a value names weights, and is no path or repository that whoever wrote the case chose."""
    return isinstance(value, str) and not {"/", "\\"} & {*value}


def _is_share(value: Any) -> bool:
    return value is None or (_is_number(value) and 0 <= value <= 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _holds_faces(value: Any) -> bool:
    if not _is_list(value) or not all(isinstance(face, Mapping) for face in value):
        return False
    boxes = [face.get("box_xyxy", ()) for face in value]
    return all(_is_list(box) and len(box) == 4 and all(map(_is_number, box)) for box in boxes)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_object_or_null(value: Any) -> bool:
    return value is None or isinstance(value, Mapping)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _holds_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, (*value.keys(), *value.values())))


_TEXT = (_is_text, "a text")
_SHARE = (_is_share, "a number from 0 to 1, or null")
_LARGEST = 1e9  # no side of a picture is longer; also false for infinity and what is no number
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "sha256": _TEXT,
    "input.kind": _TEXT,
    "input.sha256": _TEXT,
    "input.bytes": (_is_number, "a number"),
    "weights.id": (_is_name, "the name of weights, such as name@version"),
    "weights.sha256": _TEXT,
    "weights.card": (_is_object, "an object"),
    "settings.faces": (get_args(FaceChoice).__contains__, f"one of {', '.join(get_args(FaceChoice))}"),
    "settings.threshold": _SHARE,
    "settings.preprocessing": _TEXT,
    "verdict.label": _TEXT,
    "verdict.score": _SHARE,
    "verdict.faces": (_holds_faces, "a list of faces, each with box_xyxy"),
    "metadata": (_is_object_or_null, "an object or null"),
    "stability": (_is_object_or_null, "an object or null"),
    "environment.versions": (_holds_texts, "an object of texts"),
}
_ABSENT = object()


def _value_at(case: Mapping[str, Any], place: str) -> Any:
    """Return the value at a dotted place, or `_ABSENT`."""
    value: Any = case
    for name in place.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return _ABSENT
        value = value[name]
    return value


def _score(predictor: Predictor, image: ImageInput, settings: Mapping[str, Any]) -> tuple[Prediction | None, CaseCheck]:
    try:
        prediction = predictor.predict(image, faces=settings["faces"], threshold=settings["threshold"])
    except DeepfakeDetectError as error:
        return None, CaseCheck(name="label", ok=False, recorded="a verdict", found=f"{type(error).__name__}: {error}")
    return prediction, CaseCheck(name="label", ok=True, recorded="", found="")


def _case(record: Mapping[str, Any]) -> CaseCheck:
    try:
        found = fingerprint_case(record)
    except (TypeError, ValueError, RecursionError) as error:
        raise DatasetError(f"the case does not hold plain JSON values: {error}") from None
    return CaseCheck(
        name="case",
        ok=found == record["sha256"],
        recorded=f"sha256 {record['sha256']}",
        found=f"sha256 {found}",
    )


def _file(recorded: Mapping[str, Any], image: ImageInput) -> CaseCheck:
    found = fingerprint_input(image)
    before, now = (
        f"{facts['kind']} of {facts['bytes']} bytes, sha256 {facts['sha256']}" for facts in (recorded, found)
    )
    return CaseCheck(name="file", ok=before == now, recorded=before, found=now)


def _weights(weights: Mapping[str, Any], settings: Mapping[str, Any], predictor: Predictor) -> Iterator[CaseCheck]:
    card = predictor.card
    yield CaseCheck(
        name="weights",
        ok=(card.id, card.sha256) == (weights["id"], weights["sha256"]),
        recorded=f"{weights['id']} sha256 {weights['sha256']}",
        found=f"{card.id} sha256 {card.sha256}",
    )
    recorded, present = dict(weights["card"]), plain_card(card)
    if recorded.get("schema") == present["schema"]:
        yield _compare("card", recorded, present)
    else:
        yield CaseCheck(name="card", ok=None, recorded="", found="the case holds a card of another layout")
    print_now = fingerprint_card(card)
    yield CaseCheck(
        name="settings",
        ok=print_now == settings["preprocessing"],
        recorded=f"preprocessing and calibration {settings['preprocessing'][:16]}",
        found=f"preprocessing and calibration {print_now[:16]}",
    )


def _verdict(recorded: Mapping[str, Any], prediction: Prediction, tolerance: float) -> Iterator[CaseCheck]:
    yield CaseCheck(
        name="label",
        ok=recorded["label"] == prediction.label,
        recorded=str(recorded["label"]),
        found=str(prediction.label),
    )
    before, now = recorded["score"], prediction.score
    close = before is now or (before is not None and now is not None and abs(before - now) <= tolerance)
    yield CaseCheck(name="score", ok=close, recorded=_number(before), found=_number(now))
    boxes, boxes_now = [face["box_xyxy"] for face in recorded["faces"]], [face.box_xyxy for face in prediction.faces]
    same = len(boxes) == len(boxes_now) and all(map(_close, boxes, boxes_now))
    yield CaseCheck(name="faces", ok=same, recorded=_boxes(boxes), found=_boxes(boxes_now))
    if same:
        left_out = {place.partition(".")[2] for place in UNCHECKED if place.startswith("verdict.")}
        rest, rest_now = (
            {name: value for name, value in verdict.items() if name not in {*left_out, "label", "score"}}
            for verdict in (recorded, prediction.to_dict())
        )
        logit_tolerance = _logit_tolerance(prediction, tolerance)
        tolerances = {
            "score": tolerance, "logit": logit_tolerance, "looks": _looks_tolerance(prediction, logit_tolerance),
            "box_xyxy": BOX_TOLERANCE_PX, "landmarks_xy": BOX_TOLERANCE_PX, "confidence": CONFIDENCE_TOLERANCE,
        }  # fmt: skip
        yield _compare("verdict", rest, rest_now, tolerances=tolerances)


def _logit_tolerance(prediction: Prediction, tolerance: float) -> float:
    """Return how far a logit may move: as far as at the steepest place of the score moves that by the tolerance."""
    temperature = prediction.settings.card.temperature if prediction.settings else 1.0
    return max(4 * tolerance, 0.02) * temperature


def _looks_tolerance(prediction: Prediction, tolerance: float) -> float:
    """Return how far the logit of a look may move: as far as the one that counts least moves the fused logit by."""
    look = prediction.settings.card.texture if prediction.settings else None
    return tolerance if look is None else tolerance / max(0.1, min(1.0, look.weight))


def _metadata(record: Mapping[str, Any], file: io.BytesIO | None) -> Iterator[CaseCheck]:
    """Compare what the file says of itself, where the same version of this library reads it."""
    if record["metadata"] is None:
        return
    if record["environment"]["versions"].get("deepfake-detect") != __version__:
        yield CaseCheck(name="metadata", ok=None, recorded="", found="read by another version of deepfake-detect")
        return
    present = None if file is None else metadata_of(file)
    left_out = {"name", "seconds"}
    before, now = (
        {name: value for name, value in (facts or {}).items() if name not in left_out}
        for facts in (record["metadata"], present)
    )
    yield _compare("metadata", before, now)


def _stability(record: Mapping[str, Any]) -> Iterator[CaseCheck]:
    if record["stability"] is not None:
        found = "computed for copies of the picture; run: deepfake-detect stability PHOTO"
        yield CaseCheck(name="stability", ok=None, recorded="", found=found)


def _compare(
    name: str, recorded: Mapping[str, Any], present: Mapping[str, Any], *, tolerances: Mapping[str, float] | None = None
) -> CaseCheck:
    """Compare two objects field by field, and name the fields that differ."""
    places = list(itertools.islice(_differences(recorded, present, "", tolerances or {}, 0.0), 4))
    if not places:
        return CaseCheck(name=name, ok=True, recorded="", found=f"{len(recorded)} fields")
    before, now = ("; ".join(f"{place} {pair[side]!r:.60}" for place, *pair in places) for side in (0, 1))
    return CaseCheck(name=name, ok=False, recorded=before, found=now)


def _differences(
    recorded: Any, present: Any, place: str, tolerances: Mapping[str, float], tolerance: float
) -> Iterator[tuple[str, Any, Any]]:
    """Yield place, recorded and present value of what differs, at most as deep as the present value is."""
    if isinstance(present, Mapping) and isinstance(recorded, Mapping):
        for name in sorted({*recorded, *present}, key=str):
            values = recorded.get(name, _ABSENT), present.get(name, _ABSENT)
            yield from _differences(
                *values, f"{place}.{name}".removeprefix("."), tolerances, tolerances.get(name, tolerance)
            )
    elif _is_list(present) and _is_list(recorded) and len(present) == len(recorded):
        for index, values in enumerate(zip(recorded, present, strict=True)):
            yield from _differences(*values, f"{place}[{index}]", tolerances, tolerance)
    elif _is_number(present) and _is_number(recorded):
        if abs(recorded - present) > tolerance + 1e-9:
            yield place, recorded, present
    elif type(recorded) is not type(present) or recorded != present:
        yield place, recorded, present


def _close(box: Any, other: Any) -> bool:
    return all(abs(a - b) <= BOX_TOLERANCE_PX for a, b in zip(box, other, strict=True))


def _number(score: float | None) -> str:
    return "no score" if score is None else f"{score:.4f}"


def _boxes(boxes: Any) -> str:
    return f"{len(boxes)} at " + ", ".join(str([round(edge) for edge in box]) for box in boxes) if boxes else "none"


def _changed_versions(recorded: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    now = environment()["versions"]
    names = sorted({*recorded, *now})
    pairs = {name: (recorded.get(name, "not installed"), now.get(name, "not installed")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
