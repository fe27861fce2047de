"""Fit the score, its threshold and the uncertain band of a detector to pictures that it was not trained on."""

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
from deepfake_detect.errors import DatasetError, InvalidOption, nearest
from deepfake_detect.inputs.image import PICTURE_SUFFIXES
from deepfake_detect.metrics.classification import expected_calibration_error, fit_platt, fit_temperature
from deepfake_detect.metrics.conformal import Threshold, conformal_threshold, least_count
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.predict.verdict import calibrate_logit, judge
from deepfake_detect.weights.card import Card

Method = Literal["conformal", "platt", "temperature", "platt+conformal"]
"""What is fitted; see `calibrate`."""

LAXER = 5.0
"""``"conformal"``: the uncertain band begins at the threshold for this multiple of the rate, at most one half."""

ALARMS, MISSES = 0.02, 0.1
"""``"platt"`` and ``"temperature"``: above the uncertain band lies at most this share of the real photographs, below it
at most this share of the fakes."""

NARROWEST, WIDEST = (0.49, 0.51), (0.3, 0.95)
"""A band fitted so contains the first interval and lies inside the second."""

FOLDS = 5
"""Number of folds of the cross-validation that measures the calibration error."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scored:
    """Scored pictures with a face; and the number of those without one, or unreadable."""

    score: np.ndarray
    logit: np.ndarray
    label: np.ndarray
    samples: list[Sample]
    no_face: int
    unreadable: int

    def take(self, indices: np.ndarray | list[int]) -> _Scored:
        """Return some of the pictures."""
        samples = [self.samples[index] for index in indices]
        return replace(
            self, score=self.score[indices], logit=self.logit[indices], label=self.label[indices], samples=samples
        )

    def one_per_group(self, label: int) -> _Scored:
        """Choose one picture of each group at random: pictures of one person are not independent evidence."""
        chosen: dict[object, int] = {}
        for index in np.random.default_rng(0).permutation(np.flatnonzero(self.label == label)):
            chosen.setdefault(self.samples[index].group or int(index), int(index))
        return self.take(sorted(chosen.values()))


def calibrate(predictor: Predictor, data: Any, *, max_false_alarm: float = 0.01, method: Method | None = None) -> Card:
    """Fit the score, or its threshold, to pictures that the detector was not trained on.

    * ``"conformal"``, from real photographs alone: a threshold that the next real photograph of the same kind reaches
      with a probability of at most ``max_false_alarm`` (see `conformal_threshold`). Scores between the threshold for
      `LAXER` times that rate and the threshold are ``"uncertain"``. The scores themselves stay as they are.
    * ``"platt"`` (Platt 1999), from labelled pictures: temperature and bias of the score, with Platt's smoothed
      targets; the threshold is 0.5. The uncertain band is fitted too, where the pictures are enough for that: so that
      at most `ALARMS` of the real photographs score above it and at most `MISSES` of the fakes below it. Where they
      are too few (49 groups of real photographs and 9 of fakes are needed), the band of the card is kept.
    * ``"temperature"`` (Guo et al. 2017), likewise: the temperature alone.
    * ``"platt+conformal"``, from labelled pictures: the score of ``"platt"``, threshold and band of ``"conformal"``.
      The guarantee holds although the same photographs serve both, since the fit keeps their order.

    Photographs of one group (a person, a video) are not independent evidence: for a threshold or a band, one of each
    group is drawn at random, with a fixed seed. Pictures without a face, and unreadable ones, are counted and left out.

    Args:
        predictor: Gives the scores, and the card to start from.
        data: Real photographs in any form: a folder, paths, pictures. Or a labelled data set as of `read_dataset`.
        max_false_alarm: For the threshold of ``"conformal"`` and ``"platt+conformal"``: above 0 and below 1.
        method: None takes ``"platt"`` for labelled pictures of both classes, else ``"conformal"``.

    Returns:
        The predictor's card with a new calibration. `Card.calibration` holds the method, the pictures it was fitted
        on, what it guarantees, and under ``"band"`` whether the uncertain band was ``"fitted"``, ``"kept"``, or there
        is ``"none"``.

    Raises:
        DatasetError: Too few photographs for that rate, or one class where both are needed.
        InvalidOption: Unknown method, or a rate out of range.
    """
    if method is not None and method not in get_args(Method):
        offer = nearest(str(method), get_args(Method))
        raise InvalidOption(f"method is {method!r}, expected one of {', '.join(get_args(Method))}{offer}")
    if not 0 < max_false_alarm < 1:
        raise InvalidOption(f"max_false_alarm is {max_false_alarm}, expected a rate above 0 and below 1")
    samples = _samples(data)
    both = len({sample.label for sample in samples}) == 2
    chosen = method or ("platt" if both else "conformal")
    if chosen == "conformal":
        reals = [sample for sample in samples if sample.label == 0]
        return _conformal(replace(predictor.card, calibration={}), _score(predictor, reals), max_false_alarm)
    if not both:
        raise DatasetError(
            f"method {chosen!r} needs labelled pictures of both classes; 'conformal' needs real ones alone"
        )
    scored = _score(predictor, samples)
    card = _fit_score(predictor.card, scored, chosen)
    if chosen == "platt+conformal":
        return _conformal(card, scored, max_false_alarm)
    return _with_band(card, scored, before=predictor.card.uncertain)


def keep_band(card: Card) -> Card:
    """Keep the uncertain band of a card whose weights have changed and whose score cannot be calibrated.

    Args:
        card: With the band of the weights before.

    Returns:
        The card with the band around its threshold, and under `Card.calibration` that it was not fitted; unchanged
        where there is no band.

    Example:
        >>> from deepfake_detect import Preprocessing
        >>> card = Card(name="a", version=0, architecture="meso4", preprocessing=Preprocessing(size_px=256))
        >>> keep_band(replace(card, uncertain=(0.3, 0.8))).uncertain
        (0.3, 0.8)
    """
    if card.uncertain is None:
        return card
    band = _around(card.uncertain)
    note = f"The score is not calibrated. Scores from {band[0]:.3f} to {band[1]:.3f} are uncertain, as before training."
    return replace(card, uncertain=band, calibration={"method": None, "band": "kept", "note": note})


def _samples(data: Any) -> list[Sample]:
    """Read a labelled data set; anything else is a series of real photographs."""
    if isinstance(data, Iterable) and not isinstance(data, str | Path | Sequence) and not hasattr(data, "__getitem__"):
        data = list(data)
    if isinstance(data, list | tuple) and not any(isinstance(item, Sample | tuple | list) for item in data):
        return [Sample(image=image, label=0) for image in data]
    if isinstance(data, str | Path) and (pictures := _plain_folder(Path(data).expanduser())):
        return [Sample(image=path, label=0) for path in pictures]
    return read_dataset(data)


def _plain_folder(folder: Path) -> list[Path]:
    """List the pictures of a folder that holds only pictures: no table, and no folders that may be classes."""
    if not folder.is_dir() or table_in(folder):
        return []
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    if any(path.is_dir() for path in paths):
        return []
    return [path for path in paths if path.suffix.lower() in PICTURE_SUFFIXES]


def _score(predictor: Predictor, samples: list[Sample]) -> _Scored:
    if not samples:
        raise DatasetError("no real photographs to calibrate on; give some, or labelled pictures of both classes")
    predictions = predictor.predict_many((sample.image for sample in samples), on_error="yield")
    pairs = list(zip(predictions, samples, strict=True))
    scored = [(prediction, sample) for prediction, sample in pairs if prediction.logit is not None]
    unreadable = sum(prediction.label == "error" for prediction, _ in pairs)
    no_face = len(samples) - len(scored) - unreadable
    if not scored:
        raise DatasetError(
            f"nothing to calibrate on: of {len(samples)} pictures, {no_face} have no face and {unreadable} cannot be "
            "read; give photographs that show a face"
        )
    return _Scored(
        score=np.array([prediction.score for prediction, _ in scored], float),
        logit=np.array([prediction.logit for prediction, _ in scored], float),
        label=np.array([sample.label for _, sample in scored]),
        samples=[sample for _, sample in scored],
        no_face=no_face,
        unreadable=unreadable,
    )


def _conformal(card: Card, scored: _Scored, rate: float) -> Card:
    """Set threshold and band on scores as `judge` gives them, so that rounding cannot break the guarantee."""
    real = scored.take(np.flatnonzero(scored.label == 0))
    score = _scores(card, scored.one_per_group(0))
    strict = conformal_threshold(score, max_false_alarm=rate)
    lower = conformal_threshold(score, max_false_alarm=min(0.5, LAXER * rate)).value
    if strict.value > 1:
        raise DatasetError(f"more than {rate:.1%} of these real photographs have the score 1; use other weights")
    low = float(np.nextafter(lower, 0))  # the interval is open, and `lower` lies inside
    band = (low, strict.value) if lower < strict.value else None
    calibration = {
        **(card.calibration or _facts(card, real, "conformal")),  # the figures of a fit just before this one stay
        "n": len(real.samples),
        "n_groups": strict.n,
        "max_false_alarm": rate,
        "false_alarms_seen": strict.alarms,
        "false_alarm_bound_95": _up(strict.bound_95),
        "band": "none" if band is None else "fitted",
        "uncertain_rate": _share_inside(score, band),
        "note": f"{card.calibration.get('note', '')} {_guarantee(strict, rate, band)}".strip(),
    }
    return replace(card, threshold=strict.value, uncertain=band, calibration=calibration)


def _guarantee(strict: Threshold, rate: float, band: tuple[float, float] | None) -> str:
    doubt = "" if band is None else f" Scores from {band[0]:.3f} to {band[1]:.3f} are uncertain."
    return (
        f"The next real photograph of the kind of these {strict.n} is called fake with a probability of at most "
        f"{rate:.2%}; with 95 % confidence, at most {_up(strict.bound_95):.3%} of all such are.{doubt} "
        "Nothing is promised of photographs of another kind, or of fakes."
    )


def _fit_score(card: Card, scored: _Scored, method: str) -> Card:
    temperature, bias = _fit(scored.logit, scored.label, method)
    card = replace(card, temperature=temperature, bias=bias, threshold=0.5, uncertain=None)
    calibration = {
        **_facts(card, scored, method),
        "ece_before": round(expected_calibration_error(scored.label, scored.score), 4),
        "ece_after": _error_on_others(scored, card, method),
        "note": (
            f"The score is a probability for pictures like the {len(scored.samples)} that it was fitted on, with as "
            "many fakes among them; on others it is a hint."
        ),
    }
    return replace(card, calibration=calibration)


def _with_band(card: Card, scored: _Scored, *, before: tuple[float, float] | None) -> Card:
    """Fit the uncertain band around the threshold 0.5; keep the one before where the pictures are too few for that."""
    real, fake = (_scores(card, scored.one_per_group(label)) for label in (0, 1))
    few = f"{len(real)} groups of real and {len(fake)} of fake pictures are too few to fit an uncertain band"
    band: tuple[float, float] | None = None
    if len(real) >= least_count(ALARMS) and len(fake) >= least_count(MISSES):
        origin, band = "fitted", _fit_band(real, fake)
        why = (
            f": at most {ALARMS:.0%} of such photographs score above, and at most {MISSES:.0%} of such fakes below, "
            "unless the band is at its widest."
        )
    elif before is not None:
        origin, band, why = "kept", _around(before), f", as before this fit: {few}."
    else:
        origin, why = "none", f"No score is uncertain: {few}, and there was none before."
    words = why if band is None else f"Scores from {band[0]:.3f} to {band[1]:.3f} are uncertain{why}"
    note = f"{card.calibration['note']} {words}"
    facts = {**card.calibration, "band": origin, "uncertain_rate": _share_inside(real, band), "note": note}
    return replace(card, uncertain=band, calibration=facts)


def _fit_band(real: np.ndarray, fake: np.ndarray) -> tuple[float, float]:
    high = conformal_threshold(real, max_false_alarm=ALARMS).value
    low = -conformal_threshold(-fake, max_false_alarm=MISSES).value
    return (
        round(min(NARROWEST[0], max(WIDEST[0], low)), 4),
        round(max(NARROWEST[1], min(WIDEST[1], high)), 4),
    )


def _around(band: tuple[float, float]) -> tuple[float, float]:
    """Widen a band of another threshold until it holds 0.5."""
    return min(band[0], NARROWEST[0]), max(band[1], NARROWEST[1])


def _scores(card: Card, scored: _Scored) -> np.ndarray:
    return np.array([judge(float(logit), card=card)[0] for logit in scored.logit])


def _share_inside(score: np.ndarray, band: tuple[float, float] | None) -> float:
    if band is None or not score.size:
        return 0.0
    return round(float(np.mean((band[0] < score) & (score < band[1]))), 5)


def _facts(card: Card, scored: _Scored, method: str) -> dict[str, Any]:
    """Return the facts that every method writes; None where only another method has a figure."""
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
        "band": "none",
        "uncertain_rate": None,
    }


def _fit(logit: np.ndarray, label: np.ndarray, method: str) -> tuple[float, float]:
    if method == "temperature":
        return fit_temperature(logit, label, smooth=True), 0.0
    return fit_platt(logit, label, smooth=True)


def _error_on_others(scored: _Scored, card: Card, method: str) -> float | None:
    """Measure the calibration error by cross-validation; None where there are too few groups."""
    groups = {sample.group or index for index, sample in enumerate(scored.samples)}
    if len(groups) < FOLDS:
        return None
    fold = np.array(folds(scored.samples, FOLDS))
    after = np.zeros(len(fold))
    for number in range(FOLDS):
        inside = fold == number
        if len(set(scored.label[~inside])) < 2:
            return None
        temperature, bias = _fit(scored.logit[~inside], scored.label[~inside], method)
        fitted = replace(card, temperature=temperature, bias=bias)
        after[inside] = _sigmoid(calibrate_logit(scored.logit[inside], card=fitted))
    return round(expected_calibration_error(scored.label, after), 4)


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(value / 2)) / 2


def _up(rate: float) -> float:
    """Round up to five places: a bound must not be rounded down."""
    return math.ceil(rate * 1e5) / 1e5
