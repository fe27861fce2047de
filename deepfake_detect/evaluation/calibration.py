"""What does a score mean on pictures of one's own, and where is the threshold?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.datasets.split import folds
from deepfake_detect.datasets.tables import table_in
from deepfake_detect.errors import DatasetError
from deepfake_detect.inputs.image import PICTURE_SUFFIXES
from deepfake_detect.metrics.classification import expected_calibration_error, fit_platt, fit_temperature
from deepfake_detect.metrics.conformal import Threshold, conformal_threshold
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.predict.verdict import judge
from deepfake_detect.weights.card import Card

Method = Literal["conformal", "platt", "temperature", "platt+conformal"]
"""What is fitted; see `calibrate`."""

LAXER = 5.0
"""The uncertain band begins at the threshold for so many times the rate of false alarms, at most one half."""

FOLDS = 5
"""The calibration error is that of pictures left out of the fit, in so many turns."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scored:
    """Pictures with a face; and how many had none, or could not be read."""

    score: np.ndarray
    logit: np.ndarray
    label: np.ndarray
    samples: list[Sample]
    no_face: int
    unreadable: int

    def take(self, chosen: np.ndarray | list[int]) -> _Scored:
        """Give some of the pictures."""
        samples = [self.samples[index] for index in chosen]
        return replace(
            self, score=self.score[chosen], logit=self.logit[chosen], label=self.label[chosen], samples=samples
        )


def calibrate(predictor: Predictor, data: Any, *, max_false_alarm: float = 0.01, method: Method | None = None) -> Card:
    """Fit what the score means, or where its threshold lies, to pictures that were not learned from.

    * ``"conformal"``, from real photographs alone: a threshold that the next real photograph of the same kind reaches
      with a probability of at most ``max_false_alarm`` (see `conformal_threshold`). Scores between the threshold for
      `LAXER` times that rate and the threshold are ``"uncertain"``. The scores themselves stay as they are.
    * ``"platt"`` (Platt 1999), from labelled pictures: temperature and bias of the score; the threshold is 0.5.
    * ``"temperature"`` (Guo and others 2017), likewise: the temperature alone.
    * ``"platt+conformal"``, from labelled pictures: the score of the second, the threshold of the first. The promise
      holds although the same photographs serve both, since the fit leaves their order as it is.

    Photographs of one group (a person, a video) are no independent evidence: for a threshold, one of each group is
    drawn by chance, with a fixed seed. Pictures without a face, and unreadable ones, are counted and left out.

    Args:
        predictor: Whose card is fitted.
        data: Real photographs in any form: a folder, paths, pictures. Or a labelled data set as of `read_dataset`.
        max_false_alarm: For the threshold of ``"conformal"`` and ``"platt+conformal"``: above 0 and below 1.
        method: None takes ``"platt"`` for labelled pictures of both classes, else ``"conformal"``.

    Returns:
        The predictor's card with another calibration; `Card.calibration` says how, on what, and what it guarantees.

    Raises:
        DatasetError: Too few photographs for that rate, or one class where both are needed.
        ValueError: No such method.
    """
    samples = _samples(data)
    both = len({sample.label for sample in samples}) == 2
    chosen = method or ("platt" if both else "conformal")
    if chosen not in get_args(Method):
        raise ValueError(f"method is {method!r}, expected one of {', '.join(get_args(Method))}")
    if chosen == "conformal":
        reals = [sample for sample in samples if sample.label == 0]
        return _conformal(replace(predictor.card, calibration={}), _score(predictor, reals), max_false_alarm)
    if not both:
        raise DatasetError(
            f"method {chosen!r} needs labelled pictures of both classes; 'conformal' needs real ones alone"
        )
    scored = _score(predictor, samples)
    card = _fitted(predictor.card, scored, chosen)
    return _conformal(card, scored, max_false_alarm) if chosen == "platt+conformal" else card


def _samples(data: Any) -> list[Sample]:
    """Read a labelled data set, or else take everything for real photographs."""
    if isinstance(data, Iterable) and not isinstance(data, str | Path | Sequence) and not hasattr(data, "__getitem__"):
        data = list(data)
    if isinstance(data, list | tuple) and not any(isinstance(item, Sample | tuple | list) for item in data):
        return [Sample(image=image, label=0) for image in data]
    if isinstance(data, str | Path) and (pictures := _plain_folder(Path(data).expanduser())):
        return [Sample(image=path, label=0) for path in pictures]
    return read_dataset(data)


def _plain_folder(folder: Path) -> list[Path]:
    """List the pictures of a folder that holds pictures alone: no table, and no folders that may be classes."""
    if not folder.is_dir() or table_in(folder):
        return []
    inside = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    if any(path.is_dir() for path in inside):
        return []
    return [path for path in inside if path.suffix.lower() in PICTURE_SUFFIXES]


def _score(predictor: Predictor, samples: list[Sample]) -> _Scored:
    if not samples:
        raise DatasetError("no real photographs to calibrate on; give some, or labelled pictures of both classes")
    predictions = predictor.predict_many((sample.image for sample in samples), on_error="yield")
    pairs = list(zip(predictions, samples, strict=True))
    found = [(prediction, sample) for prediction, sample in pairs if prediction.logit is not None]
    unreadable = sum(prediction.label == "error" for prediction, _ in pairs)
    no_face = len(samples) - len(found) - unreadable
    if not found:
        raise DatasetError(
            f"nothing to calibrate on: of {len(samples)} pictures, {no_face} have no face and {unreadable} cannot be "
            "read; give photographs that show a face"
        )
    return _Scored(
        score=np.array([prediction.score for prediction, _ in found], float),
        logit=np.array([prediction.logit for prediction, _ in found], float),
        label=np.array([sample.label for _, sample in found]),
        samples=[sample for _, sample in found],
        no_face=no_face,
        unreadable=unreadable,
    )


def _conformal(card: Card, scored: _Scored, rate: float) -> Card:
    """Set the threshold on scores as `judge` gives them, so that no rounding stands between promise and label."""
    real = scored.take(np.flatnonzero(scored.label == 0))
    one_each = real.take(_one_of_each_group(real))
    score = [judge(float(logit), card=card)[0] for logit in one_each.logit]
    strict = conformal_threshold(score, max_false_alarm=rate)
    lower = conformal_threshold(score, max_false_alarm=min(0.5, LAXER * rate)).value
    if strict.value > 1:
        raise DatasetError(f"more than {rate:.1%} of these real photographs have the score 1; use other weights")
    low = float(np.nextafter(lower, 0))  # the interval is open, and `lower` lies inside
    band = (low, strict.value) if lower < strict.value else None
    doubtful = 0 if band is None else sum(band[0] < value < band[1] for value in score)
    told = {
        **(card.calibration or _told(card, real, "conformal")),  # what a fit just before it said stays
        "n": len(real.samples),
        "n_groups": strict.n,
        "max_false_alarm": rate,
        "false_alarms_seen": strict.alarms,
        "false_alarm_bound_95": _up(strict.bound_95),
        "uncertain_rate": round(doubtful / strict.n, 5),
        "note": f"{card.calibration.get('note', '')} {_promise(strict, rate, band)}".strip(),
    }
    return replace(card, threshold=strict.value, uncertain=band, calibration=told)


def _promise(found: Threshold, rate: float, band: tuple[float, float] | None) -> str:
    doubt = "" if band is None else f" Scores from {band[0]:.3f} to {band[1]:.3f} are uncertain."
    return (
        f"The next real photograph of the kind of these {found.n} is called fake with a probability of at most "
        f"{rate:.2%}; with 95 % confidence, at most {_up(found.bound_95):.3%} of all such are.{doubt} "
        "Nothing is promised of photographs of another kind, or of fakes."
    )


def _one_of_each_group(scored: _Scored) -> list[int]:
    """Choose one picture of each group by chance: photographs of one person are no independent evidence."""
    chosen: dict[object, int] = {}
    for index in np.random.default_rng(0).permutation(len(scored.samples)):
        chosen.setdefault(scored.samples[index].group or int(index), int(index))
    return sorted(chosen.values())


def _fitted(card: Card, scored: _Scored, method: str) -> Card:
    temperature, bias = _fit(scored.logit, scored.label, method)
    card = replace(card, temperature=temperature, bias=bias, threshold=0.5, uncertain=None)
    told = {
        **_told(card, scored, method),
        "ece_before": round(expected_calibration_error(scored.label, scored.score), 4),
        "ece_after": _error_on_others(scored, method),
        "note": (
            f"The score is a probability for pictures like the {len(scored.samples)} that it was fitted on, with as "
            "many fakes among them; on others it is a hint."
        ),
    }
    return replace(card, calibration=told)


def _told(card: Card, scored: _Scored, method: str) -> dict[str, Any]:
    """Say what any calibration says; None where another kind of calibration would have a figure."""
    return {
        "method": method,
        "n": len(scored.samples),
        "n_groups": len({sample.group or index for index, sample in enumerate(scored.samples)}),
        "no_face": scored.no_face,
        "unreadable": scored.unreadable,
        "temperature": card.temperature,
        "bias": card.bias,
        "ece_before": None,
        "ece_after": None,
        "max_false_alarm": None,
        "false_alarms_seen": None,
        "false_alarm_bound_95": None,
        "uncertain_rate": None,
    }


def _fit(logit: np.ndarray, label: np.ndarray, method: str) -> tuple[float, float]:
    if method == "temperature":
        return fit_temperature(logit, label), 0.0
    return fit_platt(logit, label)


def _error_on_others(scored: _Scored, method: str) -> float | None:
    """Measure the calibration error on pictures that the fit did not see; None where they are too few to part."""
    groups = {sample.group or index for index, sample in enumerate(scored.samples)}
    if len(groups) < FOLDS:
        return None
    fold = np.array(folds(scored.samples, FOLDS))
    after = np.zeros(len(fold))
    for number in range(FOLDS):
        held = fold == number
        if len(set(scored.label[~held])) < 2:
            return None
        temperature, bias = _fit(scored.logit[~held], scored.label[~held], method)
        after[held] = _sigmoid(scored.logit[held] / temperature + bias)
    return round(expected_calibration_error(scored.label, after), 4)


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(value / 2)) / 2


def _up(rate: float) -> float:
    """Round to five places, upwards: a bound that is rounded down is none."""
    return math.ceil(rate * 1e5) / 1e5
