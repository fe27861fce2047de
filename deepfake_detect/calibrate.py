"""What does a score mean on pictures of one's own, and where is the threshold?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deepfake_detect.card import Card
from deepfake_detect.conformal import conformal_threshold
from deepfake_detect.data import Sample, read_dataset
from deepfake_detect.errors import DatasetError
from deepfake_detect.image import PICTURE_SUFFIXES
from deepfake_detect.metrics import expected_calibration_error, fit_platt, fit_temperature
from deepfake_detect.predictor import Predictor
from deepfake_detect.split import folds

Method = Literal["conformal", "platt", "temperature"]

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
    left_out: int


def calibrate(predictor: Predictor, data: Any, *, max_false_alarm: float = 0.01, method: Method | None = None) -> Card:
    """Fit what the score means, or where its threshold lies, to pictures that were not learned from.

    * ``"conformal"``, from real photographs alone: a threshold that the next real photograph of the same kind reaches
      with a probability of at most ``max_false_alarm`` (see `conformal_threshold`). Scores between the threshold for
      `LAXER` times that rate and the threshold are ``"uncertain"``. The scores themselves stay as they are.
    * ``"platt"`` (Platt 1999), from labelled pictures: temperature and bias of the score; the threshold is 0.5.
    * ``"temperature"`` (Guo and others 2017), likewise: the temperature alone.

    Args:
        predictor: Whose card is fitted.
        data: Real photographs in any form: a folder, paths, pictures. Or a labelled data set as of `read_dataset`.
        max_false_alarm: For ``"conformal"``: above 0 and below 1.
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
    if chosen not in ("conformal", "platt", "temperature"):
        raise ValueError(f"method is {method!r}, expected 'conformal', 'platt' or 'temperature'")
    if chosen == "conformal":
        reals = [sample for sample in samples if sample.label == 0]
        return _conformal(predictor.card, _score(predictor, reals), max_false_alarm)
    if not both:
        raise DatasetError(
            f"method {chosen!r} needs labelled pictures of both classes; 'conformal' needs real ones alone"
        )
    return _fitted(predictor.card, _score(predictor, samples), chosen)


def _samples(data: Any) -> list[Sample]:
    """Read a labelled data set, or else take everything for real photographs."""
    if isinstance(data, Iterable) and not isinstance(data, str | Path | Sequence) and not hasattr(data, "__getitem__"):
        data = list(data)
    if isinstance(data, list | tuple) and not any(isinstance(item, Sample | tuple | list) for item in data):
        return [Sample(image=image, label=0) for image in data]
    if isinstance(data, str | Path) and (pictures := _plain_folder(Path(data))):
        return [Sample(image=path, label=0) for path in pictures]
    return read_dataset(data)


def _plain_folder(folder: Path) -> list[Path]:
    """List the pictures that lie in a folder itself, as those of a class folder do not."""
    if not folder.is_dir():
        return []
    files = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]


def _score(predictor: Predictor, samples: list[Sample]) -> _Scored:
    predictions = predictor.predict_many((sample.image for sample in samples), on_error="yield")
    found = [(p, s) for p, s in zip(predictions, samples, strict=True) if p.logit is not None]
    if not found:
        raise DatasetError(f"no face in any of {len(samples)} pictures, so there is nothing to calibrate on")
    return _Scored(
        score=np.array([prediction.score for prediction, _ in found], float),
        logit=np.array([prediction.logit for prediction, _ in found], float),
        label=np.array([sample.label for _, sample in found]),
        samples=[sample for _, sample in found],
        left_out=len(samples) - len(found),
    )


def _conformal(card: Card, scored: _Scored, rate: float) -> Card:
    score = scored.score[_one_of_each_group(scored)]
    strict = conformal_threshold(score, max_false_alarm=rate)
    lower = conformal_threshold(score, max_false_alarm=min(0.5, LAXER * rate)).value
    if strict.value > 1:
        raise DatasetError(f"more than {rate:.1%} of these real photographs have the score 1; use other weights")
    told = {
        "method": "conformal",
        "n": strict.n,
        "left_out": scored.left_out,
        "max_false_alarm": rate,
        "false_alarms_seen": strict.alarms,
        "false_alarm_bound_95": round(strict.bound_95, 5),
        "uncertain_from": lower,
        "note": (
            f"The next real photograph of the kind of these {strict.n} is called fake with a probability of at most "
            f"{rate:.2%}; with 95 % confidence, at most {strict.bound_95:.2%} of all such are. Scores from {lower:.3f} "
            f"to {strict.value:.3f} are uncertain. Nothing is promised of photographs of another kind, or of fakes."
        ),
    }
    band = (lower, strict.value) if lower < strict.value else None
    return replace(card, threshold=strict.value, uncertain=band, calibration=told)


def _one_of_each_group(scored: _Scored) -> list[int]:
    """Choose one picture of each group by chance: photographs of one person are no independent evidence."""
    chosen: dict[object, int] = {}
    for index in np.random.default_rng(0).permutation(len(scored.samples)):
        chosen.setdefault(scored.samples[index].group or int(index), int(index))
    return sorted(chosen.values())


def _fitted(card: Card, scored: _Scored, method: str) -> Card:
    temperature, bias = _fit(scored.logit, scored.label, method)
    told = {
        "method": method,
        "n": len(scored.samples),
        "left_out": scored.left_out,
        "temperature": temperature,
        "bias": bias,
        "ece_before": round(expected_calibration_error(scored.label, scored.score), 4),
        "ece_after": _error_on_others(scored, method),
        "note": (
            f"The score is a probability for pictures like the {len(scored.samples)} that it was fitted on, with as "
            "many fakes among them; on others it is a hint."
        ),
    }
    return replace(card, temperature=temperature, bias=bias, threshold=0.5, uncertain=None, calibration=told)


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
