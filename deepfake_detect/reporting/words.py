"""Put a recorded verdict into words, with its uncertainty.

Everything here reads the plain values of a case, as `Prediction.to_case` gives them, so that a page can be made of a
case that was read from a file, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

SMALL_FACE_PX: Final = 60
"""A face whose longer side is below this shows little of what a detector looks for."""

DELIVERIES: Final[Mapping[str, str]] = {
    "original": "as given",
    "jpeg90": "JPEG, quality 90",
    "jpeg60": "JPEG, quality 60",
    "jpeg40": "JPEG, quality 40",
    "half": "half the width and height",
    "webp": "WebP, quality 75",
    "crop": "edges cut off, 80 % kept",
    "screenshot": "screenshot",
}
"""The deliveries of `deepfake_detect.inputs.delivery.STABILITY`, in words."""

_HEADLINES = {"fake": "Called fake", "real": "Called real", "uncertain": "Uncertain", "no-face": "No face found"}
_LABELS = {"no-face": "no face found", "error": "could not be scored"}


def headline(case: Mapping[str, Any]) -> str:
    """Return the verdict in a few words; one that does not survive delivery is called uncertain.

    Example:
        >>> headline({"verdict": {"label": "fake"}, "stability": {"holds": False}})
        'Uncertain: called fake, but not in every copy'
    """
    label = case["verdict"]["label"]
    if label_of(case) != label:
        return f"Uncertain: called {label}, but not in every copy"
    return _HEADLINES[label]


def label_of(case: Mapping[str, Any]) -> str:
    """Return the label of a case; ``"uncertain"``, too, where real or fake does not hold for every copy."""
    label, stability = case["verdict"]["label"], case["stability"]
    is_shaken = label in ("fake", "real") and stability is not None and not stability["holds"]
    return "uncertain" if is_shaken else label


def label_words(label: str | None) -> str:
    """Return a label as it stands in a sentence."""
    return _LABELS.get(label or "", label or "not scored")


def explain_verdict(case: Mapping[str, Any]) -> Iterator[str]:
    """Say what the verdict is, what the score means, and how sure it is, in sentences.

    Args:
        case: `Prediction.to_case`.

    Yields:
        Paragraphs of plain text.
    """
    verdict = case["verdict"]
    if verdict["label"] == "no-face":
        yield from _no_face(verdict)
        return
    yield f"{_call(case)} {_scale(case)}"
    yield _probability(case)
    if case["stability"] is not None:
        yield _survival(verdict["label"], case["stability"])
    if rates := _error_rates(case["weights"]["card"]):
        yield rates


def list_limits(case: Mapping[str, Any]) -> Iterator[str]:
    """List what the verdict does not prove.

    Args:
        case: `Prediction.to_case`.

    Yields:
        Sentences in plain text, without what the card says.
    """
    label, card = case["verdict"]["label"], case["weights"]["card"]
    if label == "no-face":
        yield "Nothing was scored. That no face was found does not mean that the picture is genuine."
    else:
        yield (
            "It is no proof: not that the picture is forged, and not that it is genuine. It is what one program "
            "estimates from the pixels around the faces."
        )
    if label == "real":
        yield (
            "“Real” means: no trace of the forgeries that this detector knows. A new generator, a careful "
            "hand or a drawing may pass."
        )
    if label == "fake":
        yield "“Fake” may be a false alarm: filters, retouching, compression and unusual cameras leave traces, too."
    yield "It does not say who changed the picture, when, with what program, or which part of it."
    yield "It says nothing of what the picture shows: a genuine photograph can be staged, or shown in a false context."
    yield "It must not be the only reason to accuse, refuse or dismiss anyone."
    if card["licence"] != "unknown":
        yield f"Licence of the weights: {card['licence']}."


def face_words(face: Mapping[str, Any]) -> Iterator[str]:
    """Describe a face of `Face.to_dict`: verdict, size and place, and what makes it less sure."""
    left, top, right, bottom = (round(side) for side in face["box_xyxy"])
    score = "not scored" if face["score"] is None else f"score {face['score']:.3f}"
    yield f"{label_words(face['label'])}, {score}"
    if not face["landmarks_xy"]:
        yield f"the whole picture, {right - left} × {bottom - top} pixels, was scored without a search for faces"
        yield from _look_words(face)
        return
    yield f"{right - left} × {bottom - top} pixels, at {left}, {top} from the upper left corner"
    if max(right - left, bottom - top) < SMALL_FACE_PX:
        yield f"smaller than {SMALL_FACE_PX} pixels: little can be seen of it, and the score is worth less"
    yield from _look_words(face)


def _look_words(face: Mapping[str, Any]) -> Iterator[str]:
    """Say what each of two looks made of a face; nothing for a detector with one."""
    if (looks := face.get("looks")) is None:
        return
    if looks["texture"] is None:
        yield "judged by the face alone: its texture was not looked at, since it is small, enlarged or blurred"
    else:
        yield f"two looks, more than 0 means fake: the face {looks['crop']:+.2f}, its texture {looks['texture']:+.2f}"


def _call(case: Mapping[str, Any]) -> str:
    verdict = case["verdict"]
    label, score, count = verdict["label"], verdict["score"], len(verdict["faces"])
    which = f"Of the {count} faces the one with the highest score decides. " if count > 1 else ""
    if label == "uncertain":
        return f"{which}The detector gives no verdict: the score is {score:.3f}."
    return f"{which}The detector calls the picture {label}: the score is {score:.3f}."


def _scale(case: Mapping[str, Any]) -> str:
    """Say from which score on which label is given."""
    band, threshold = band_of(case), case["verdict"]["threshold"]
    if band is None:
        own = ", as it was asked to" if case["settings"]["threshold"] is not None else ""
        return f"Scores run from 0 (real) to 1 (fake); it says fake from {threshold:.3g} on{own}, and real below."
    low, high = band
    return (
        f"Scores run from 0 (real) to 1 (fake); it says real up to {low:.3g}, fake from {high:.3g} on, and between "
        "them it is uncertain: there, pictures like those on its card were judged wrongly too often."
    )


def band_of(case: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the scores between which the label is uncertain; None where there is no such interval."""
    band = case["weights"]["card"]["uncertain"]
    return None if band is None or case["settings"]["threshold"] is not None else (band[0], band[1])


def _probability(case: Mapping[str, Any]) -> str:
    if not case["weights"]["card"]["calibration"]:
        return "The score was not calibrated on known pictures: it puts pictures in an order, and is no probability."
    share = case["verdict"]["score"]
    shown = "fewer than 1" if share < 0.01 else "more than 99" if share > 0.99 else f"about {round(100 * share)}"
    return (
        f"Of a hundred pictures like those it was calibrated on that have such a score, {shown} are fake. Where fakes "
        "are rarer, or the pictures are of another kind, it is another share."
    )


def _survival(label: str, stability: Mapping[str, Any]) -> str:
    """Say whether the verdict is the same for copies of the picture."""
    low, high = stability["interval"]
    spread = (
        f"For copies of the picture as messengers and pages make them, the score lies between {low:.3f} and {high:.3f}"
    )
    changed = [
        f"{DELIVERIES.get(name, name)}: {label_words(stability['labels'][name])}" for name in _changed(stability)
    ]
    if label == "uncertain":
        return f"{spread}."
    if not changed:
        return f"{spread}: the verdict is the same for each."
    return f"{spread}, and the verdict is not the same for each ({'; '.join(changed)}). Treat it as uncertain."


def _changed(stability: Mapping[str, Any]) -> list[str]:
    return [name for name in stability["labels"] if name in stability["flips"] or name in stability["withdrawn"]]


def _error_rates(card: Mapping[str, Any]) -> str:
    """Say how often the detector was wrong on the test pictures of its card; empty where the card does not say."""
    test = card["metrics"].get("test")
    figures = test.get("all") if isinstance(test, Mapping) else None
    rates = [figures.get(name) for name in ("n", "false_alarms", "missed")] if isinstance(figures, Mapping) else [None]
    if not all(isinstance(rate, int | float) for rate in rates):
        return "The card of this detector does not say how often it is wrong."
    count, alarms, missed = rates
    return (
        f"How often it is wrong: of its {count:,} test pictures it called {alarms:.0%} of the real ones fake and "
        f"missed {missed:.0%} of the fakes, each uncertain one counted by the side of the threshold that it lies on. "
        "On forgeries and cameras that it has never seen it is wrong more often."
    )


def _no_face(verdict: Mapping[str, Any]) -> Iterator[str]:
    yield "The detector looks at faces alone, and found none in this picture: nothing was scored."
    if content := verdict.get("content"):
        label = content["label"]
        share = content["scores"][label]
        yield f"As a whole the picture shows, by the classifier {content['model']}: {label} ({share:.0%})."
    yield "Faces that are very small, turned by a quarter or more, or covered may be missed. Crop and turn the picture."
