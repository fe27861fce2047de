"""Check a recorded verdict again: whether the file, the weights and everything that the case states are the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from deepfake_detect._options import check_number
from deepfake_detect.drawing.html import visible
from deepfake_detect.drawing.result import Result
from deepfake_detect.errors import DeepfakeDetectError, ImageTooLarge, ImageUnreadable, UnknownWeights
from deepfake_detect.evaluation.stability import measure_stability
from deepfake_detect.inputs.image import ImageInput
from deepfake_detect.predict.case_file import ABSENT, read_case, value_at
from deepfake_detect.predict.evidence import (
    SCORE_TOLERANCE,
    environment,
    fingerprint_card,
    fingerprint_case,
    fingerprint_input,
)
from deepfake_detect.predict.intake import hold_image
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.predict.verdict import judge
from deepfake_detect.provenance.inspector import inspect_metadata
from deepfake_detect.weights.card import Card
from deepfake_detect.weights.onnx_file import find_weights

BOX_TOLERANCE_PX = 2.0
"""How far an edge of a face box or a landmark may move and still count as the same, in pixels of the picture."""

LOGITS_PER_SCORE = 10.0
"""How far a logit may move, as a multiple of the tolerance of the score and the temperature of the card. Where scores
are near 0 or 1 they hardly show that the logit is another one."""

_ROUNDING = 1e-4  # between a score in a case and the one that its logit gives

_CHECKS: Mapping[str, tuple[str, ...]] = {  # the fields that are compared with those of a new run
    "file": ("input.kind", "input.bytes", "input.sha256"),
    "weights": ("weights.id", "weights.sha256"),
    "card": ("weights.card",),
    "settings": ("settings",),
    "label": ("verdict.label",),
    "score": ("verdict.score", "verdict.logit"),
    "faces": ("verdict.faces",),
    "verdict": ("verdict",),
    "stability": ("stability",),
    "metadata": ("metadata",),
}
_BEFORE_SCORING = ("file", "weights", "card", "settings")

_UNCONFIRMED = {
    "created": "nothing here can confirm when the case was made",
    "environment": "nothing here can confirm what the verdict was computed with",
    "verdict.seconds": "another run takes another time",
    "verdict.backend": "another engine may answer",
    "verdict.dtype": "another engine may answer",
    "input.name": "a file may be renamed",
}
_ELSEWHERE = frozenset(  # fields that are checked in another way, or not at all
    (
        *("verdict.seconds", "verdict.backend", "verdict.dtype", "verdict.name", "metadata.name", "stability.name"),
        *("verdict.revision", "stability.revision"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseCheck:
    """One comparison of a recorded verdict with the present one.

    Attributes:
        name: ``"case"`` (its own sha256), ``"file"``, ``"weights"``, ``"card"``, ``"settings"``, ``"label"``,
            ``"score"``, ``"faces"``, ``"verdict"`` (everything else in it), ``"stability"``, ``"metadata"``, or
            ``"agreement"`` (of the parts of the case with one another).
        ok: Whether the two agree.
        recorded: Value in the case.
        found: Value now.
    """

    name: str
    ok: bool
    recorded: str
    found: str

    def __str__(self) -> str:
        if self.ok:
            return visible(f"same         {self.name}: {self.found}")
        return visible(f"DIFFERENT    {self.name}: recorded {self.recorded}, now {self.found}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification(Result):
    """The outcome of checking a recorded verdict again.

    Attributes:
        checks: In the order they were made. Where the file is another one, the verdict is computed all the same.
        not_checked: Field of the case to the reason why it cannot be checked, or was not.
        tolerance: How far a score was allowed to move.
        versions: Library to its recorded and present version, where they differ.
        prediction: The verdict computed now; None where it could not be, which is then one of the checks.
    """

    checks: tuple[CaseCheck, ...]
    not_checked: Mapping[str, str]
    tolerance: float
    versions: Mapping[str, tuple[str, str]]
    prediction: Prediction | None

    @property
    def ok(self) -> bool:
        """Everything that can be checked is as recorded."""
        return all(check.ok for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "ok": self.ok,
            "tolerance": self.tolerance,
            "checks": [asdict(check) for check in self.checks],
            "not_checked": dict(self.not_checked),
            "versions": {name: list(pair) for name, pair in self.versions.items()},
            "prediction": None if self.prediction is None else self.prediction.to_dict(),
        }

    def __str__(self) -> str:
        unchecked = [f"not checked  {name}: {reason}" for name, reason in self.not_checked.items()]
        other = [f"versions     {name}: recorded {old}, now {new}" for name, (old, new) in self.versions.items()]
        verdict = "The verdict stands." if self.ok else "The verdict is not confirmed."
        return "\n".join([*map(str, self.checks), *map(visible, unchecked), *map(visible, other), verdict])


def verify(
    case: str | os.PathLike[str] | Mapping[str, Any],
    image: ImageInput,
    *,
    model: str | os.PathLike[str] | None = None,
    tolerance: float = SCORE_TOLERANCE,
    **options: Any,
) -> Verification:
    """Check a recorded verdict again, with the libraries and on the machine at hand.

    The picture is scored anew, and every field of the case is compared with the new run and with the other fields.
    Stability is measured anew, and metadata are read anew, where the case holds them. What cannot be checked is listed.

    Args:
        case: File written by ``prediction.save("case.json")``, or its content.
        image: The picture that the case is about.
        model: Where the weights are, if they are not packaged: a folder, an ONNX file or ``owner/name``. None takes the
            name on the case.
        tolerance: How far the score may move, 0..1.
        options: ``device``, ``dtype`` and ``backend``, as for `Predictor`.

    Returns:
        What is the same, what differs, and what is not checked.

    Raises:
        DatasetError: The case cannot be read, or is none.
        UnknownWeights: Its weights are not here.
        ImageUnreadable: The picture is not there or cannot be read; or it is the recorded file, and cannot be decoded
            here.
        ImageTooLarge: The picture has more than 256 MB, or more pixels than the limit.
        InvalidOption: An option is out of range or of the wrong type.

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
    picture = hold_image(image)
    predictor = _load(record, model, options)
    comparison = _Comparison(record, predictor, tolerance)
    try:
        prediction = _score(predictor, picture, record)
    except (ImageUnreadable, ImageTooLarge) as error:
        comparison.now["input"] = fingerprint_input(picture)
        if not list(comparison.differences("file")):
            raise  # it is the recorded file: this machine cannot check it
        return comparison.outcome(None, error)
    comparison.now |= _record_again(record, predictor, picture, prediction)
    return comparison.outcome(prediction)


def _load(record: Mapping[str, Any], model: str | os.PathLike[str] | None, options: Mapping[str, Any]) -> Predictor:
    weights = record["weights"]["id"]
    try:
        bundle = find_weights(model if model is not None else weights)
    except UnknownWeights as error:
        raise UnknownWeights(f"{error}; pass model= with the folder or repository of {weights!r:.100}") from None
    return Predictor(model=bundle, card=bundle.card, revision=bundle.revision, **options)


def _score(predictor: Predictor, picture: Any, record: Mapping[str, Any]) -> Prediction:
    settings, has_content = record["settings"], record["verdict"].get("content") is not None
    predictions = predictor.predict_many(
        [picture], workers=0, faces=settings["faces"], threshold=settings["threshold"], content=has_content
    )
    with closing(predictions):
        return next(predictions)


def _record_again(
    record: Mapping[str, Any], predictor: Predictor, picture: Any, prediction: Prediction
) -> dict[str, Any]:
    """Return the case of the new run, with the parts that the recorded one has."""
    settings, stability, metadata = record["settings"], None, None
    if record["stability"] is not None:
        stability = measure_stability(
            predictor, picture, faces=settings["faces"], threshold=settings["threshold"]
        ).to_dict()
    if _shows_location(record["metadata"]):
        metadata = inspect_metadata(picture, show_location=True).to_dict()
    case: dict[str, Any] = json.loads(json.dumps(prediction.to_case(stability=stability, metadata=metadata)))
    case["verdict"]["faces"] = _in_order_of(record["verdict"]["faces"], case["verdict"]["faces"])
    return case


def _shows_location(metadata: Mapping[str, Any] | None) -> bool:
    findings = (metadata or {}).get("findings")
    entries = findings if isinstance(findings, list) else []
    return any(isinstance(entry, dict) and entry.get("code") == "gps" and entry.get("value") for entry in entries)


def _in_order_of(recorded: Sequence[Mapping[str, Any]], faces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put faces into the order of the recorded ones: two of nearly the same size may have changed places."""
    if len(recorded) != len(faces):
        return faces
    left = list(faces)
    return [left.pop(_nearest(face["box_xyxy"], left)) for face in recorded]


def _nearest(box: Sequence[float], faces: Sequence[Mapping[str, Any]]) -> int:
    moves = [max(abs(a - b) for a, b in zip(box, face["box_xyxy"], strict=True)) for face in faces]
    return moves.index(min(moves))


@dataclass(frozen=True, slots=True)
class _Difference:
    """A field that is not the same in the case and in the new run."""

    place: str
    recorded: Any
    now: Any


class _Comparison:
    """A recorded case, and what is known of the new run.

    Args:
        record: The case.
        predictor: Scores the picture again.
        tolerance: How far a score may move.
    """

    def __init__(self, record: dict[str, Any], predictor: Predictor, tolerance: float) -> None:
        self.record, self.tolerance = record, tolerance
        self.card, self.revision = predictor.card, predictor.revision
        self.not_checked = dict(_UNCONFIRMED)
        self.now: dict[str, Any] = {
            "weights": {"id": self.card.id, "sha256": self.card.sha256, "card": json.loads(self.card.to_json())},
            "settings": {**record["settings"], "preprocessing": fingerprint_card(self.card)},
        }

    def outcome(self, prediction: Prediction | None, error: DeepfakeDetectError | None = None) -> Verification:
        """Compare everything that was computed."""
        names = [name for name in _CHECKS if error is None or name in _BEFORE_SCORING]
        checks = [_check_sum(self.record), *filter(None, map(self._check, names))]
        if error is not None:
            found = f"{type(error).__name__}: {error}"
            checks.append(CaseCheck(name="label", ok=False, recorded=self.record["verdict"]["label"], found=found))
        checks.append(self._check_agreement())
        self._note_unknown()
        return Verification(
            checks=tuple(checks),
            not_checked=self.not_checked,
            tolerance=self.tolerance,
            versions=_changed_versions(self.record["environment"]["versions"]),
            prediction=prediction,
        )

    def differences(self, name: str) -> Iterator[_Difference]:
        """Yield the fields of a check that are not the same; those that have a check of their own are left out."""
        for place in _CHECKS[name]:
            own = {other for places in _CHECKS.values() for other in places if other.startswith(f"{place}.")}
            recorded, now = value_at(self.record, place), value_at(self.now, place)
            for difference in _compare(recorded, now, place, self._is_close):
                if not _is_below(difference.place, own) and difference.place not in _ELSEWHERE:
                    yield difference

    def _check(self, name: str) -> CaseCheck | None:
        if name in ("stability", "metadata") and self.record[name] is None:
            if self.now.get(name) is not None:
                self.not_checked[name] = "the case has none"
            return None
        differences = []
        for difference in self.differences(name):
            if difference.now is ABSENT:
                self.not_checked[difference.place] = "no such field is known"
            else:
                differences.append(difference)
        if name == "metadata" and differences and (reason := self._excuse()):
            self.not_checked[name] = f"{_joined(differences)}; {reason}"
            return None
        return _check_of(name, differences, same="" if differences else _summary(name, self.now))

    def _excuse(self) -> str:
        """Return why metadata may differ though nobody changed the case; empty where nothing explains it."""
        recorded, now = self.record["metadata"].get("c2pa"), (self.now["metadata"] or {}).get("c2pa")
        if recorded != now and "present, not verified" in (recorded, now):
            return "c2pa-python is installed on one side alone"
        if {recorded, now} == {"trusted", "valid, signer not trusted"}:
            return "the certificates that were trusted are not in the case"
        versions = self.record["environment"]["versions"]
        if "python" not in versions or versions.get("deepfake-detect") != environment()["versions"]["deepfake-detect"]:
            return "another version of this program read them"
        return ""

    def _check_agreement(self) -> CaseCheck:
        """Compare the fields of the case with one another."""
        record, differences = self.record, list[_Difference]()
        for place, expected in _expected(record, self.card):
            recorded = value_at(record, place) if "[" not in place else _face_value(record, place)
            differences += _compare(recorded, expected, place, _is_rounded)
        return _check_of("agreement", differences, same="the parts of the case agree")

    def _note_unknown(self) -> None:
        known = {"schema", "created", "input", "weights", "settings", "verdict", "stability", "metadata"}
        for name in self.record.keys() - known - {"environment", "sha256"}:
            self.not_checked[name] = "no such field is known"
        for name in self.record["input"].keys() - {"name", "kind", "bytes", "sha256"}:
            self.not_checked[f"input.{name}"] = "no such field is known"
        for name in self.record["weights"].keys() - {"id", "sha256", "revision", "card"}:
            self.not_checked[f"weights.{name}"] = "no such field is known"
        if self.record["weights"]["revision"] != self.revision:
            now = "none" if self.revision is None else self.revision
            self.not_checked["weights.revision"] = f"the weights at hand have the commit {now}"

    def _is_close(self, recorded: float, now: float, place: str) -> bool:
        return abs(recorded - now) <= self._limit(place)

    def _limit(self, place: str) -> float:
        """Return how far a number may move; metadata and cards hold none that may."""
        top, *names = place.replace("[", ".").split(".")
        if top not in ("verdict", "stability"):
            return 0.0
        logit = LOGITS_PER_SCORE * self.tolerance * self.card.temperature
        weight = 1.0 if self.card.texture is None else max(0.1, min(1.0, self.card.texture.weight))
        limits = {
            "looks": logit / weight,  # the logit of each network
            **dict.fromkeys(("score", "scores", "interval", "confidence"), self.tolerance),
            **dict.fromkeys(("logit", "logits"), logit),
            **dict.fromkeys(("box_xyxy", "landmarks_xy"), BOX_TOLERANCE_PX),
        }
        return next((limits[name] for name in reversed(names) if name in limits), 0.0)


def _check_sum(record: Mapping[str, Any]) -> CaseCheck:
    found = fingerprint_case(record)
    return CaseCheck(
        name="case",
        ok=found == record["sha256"],
        recorded=f"sha256 {record['sha256']:.100}",
        found=f"sha256 {found}",
    )


def _compare(
    recorded: Any, now: Any, place: str, is_close: Callable[[float, float, str], bool]
) -> Iterator[_Difference]:
    """Yield the fields in which two JSON values differ."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        for name in {**now, **recorded}:
            yield from _compare(recorded.get(name, ABSENT), now.get(name, ABSENT), f"{place}.{name}", is_close)
    elif isinstance(recorded, list) and isinstance(now, list) and len(recorded) == len(now):
        for number, (one, other) in enumerate(zip(recorded, now, strict=True)):
            yield from _compare(one, other, f"{place}[{number}]", is_close)
    elif _are_numbers(recorded, now):
        if not is_close(recorded, now, place):
            yield _Difference(place, recorded, now)
    elif type(recorded) is not type(now) or recorded != now:
        yield _Difference(place, recorded, now)


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _is_rounded(recorded: float, expected: float, _: str) -> bool:
    return abs(recorded - expected) <= _ROUNDING


def _is_below(place: str, others: set[str]) -> bool:
    return any(place == other or place.startswith((f"{other}.", f"{other}[")) for other in others)


def _expected(record: Mapping[str, Any], card: Card) -> Iterator[tuple[str, Any]]:
    """Yield fields of a case with the value that other fields of the case give them."""
    source, weights, verdict = record["input"], record["weights"], record["verdict"]
    yield "verdict.name", source["name"]
    yield "verdict.model", weights["id"]
    yield "verdict.revision", weights["revision"]
    for number, face in enumerate(verdict["faces"]):
        score, label = judge(face["logit"], card=card, threshold=record["settings"]["threshold"])
        yield f"verdict.faces[{number}].score", score
        yield f"verdict.faces[{number}].label", label
    worst = max(verdict["faces"], key=lambda face: (face["score"], face["logit"]), default=None)
    yield "verdict.label", worst["label"] if worst else "no-face"
    yield "verdict.score", worst["score"] if worst else None
    yield "verdict.logit", worst["logit"] if worst else None
    for name in ("metadata", "stability"):
        if record[name] is not None:
            yield f"{name}.name", source["name"]
    if record["stability"] is not None:
        yield "stability.revision", weights["revision"]


def _face_value(record: Mapping[str, Any], place: str) -> Any:
    number, name = place.removeprefix("verdict.faces[").split("].")
    return record["verdict"]["faces"][int(number)][name]


def _check_of(name: str, differences: Sequence[_Difference], *, same: str) -> CaseCheck:
    if not differences:
        return CaseCheck(name=name, ok=True, recorded=same, found=same)
    return CaseCheck(
        name=name,
        ok=False,
        recorded=_few([f"{difference.place} {_shown(difference.recorded)}" for difference in differences]),
        found=_few([_shown(difference.now) for difference in differences]),
    )


def _few(words: Sequence[str], most: int = 4) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def _joined(differences: Sequence[_Difference]) -> str:
    pairs = (f"{one.place} {_shown(one.recorded)}, now {_shown(one.now)}" for one in differences)
    return _few(list(pairs), most=2)


def _shown(value: Any) -> str:
    """Write a JSON value in a line of a report."""
    if value is ABSENT:
        return "absent"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | dict):
        return f"{len(value)} {'entry' if len(value) == 1 else 'entries'}"
    return "none" if value is None else f"{value!s:.200}"


def _summary(name: str, now: Mapping[str, Any]) -> str:
    """Describe in a few words what was found to be the same."""
    if name == "file":
        return f"{now['input']['kind']} sha256 {now['input']['sha256']}"
    if name == "weights":
        return f"{now['weights']['id']} sha256 {now['weights']['sha256']}"
    if name == "card":
        return f"{len(now['weights']['card'])} fields"
    if name == "settings":
        return f"preprocessing and calibration {now['settings']['preprocessing'][:16]}"
    if name == "stability":
        return f"{len(now['stability']['scores'])} copies"
    if name == "metadata":
        return f"{len(now['metadata']['findings'])} findings"
    verdict = now["verdict"]
    words: dict[str, str] = {
        "label": verdict["label"],
        "score": "no score" if verdict["score"] is None else f"{verdict['score']:.4f}",
        "faces": _boxes([face["box_xyxy"] for face in verdict["faces"]]),
        "verdict": f"threshold {verdict['threshold']:.4g}, {verdict['size_hw'][1]} x {verdict['size_hw'][0]} pixels",
    }
    return words[name]


def _boxes(boxes: Sequence[Sequence[float]]) -> str:
    places = [str([round(edge) for edge in box]) for box in boxes]
    return f"{len(boxes)} at {_few(places)}" if boxes else "none"


def _changed_versions(recorded: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    now = environment()["versions"]
    names = sorted({*recorded, *now})
    pairs = {name: (recorded.get(name, "not installed"), now.get(name, "not installed")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
