"""Cross-validate a training on few pictures: each is judged by a detector that has not seen it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deepfake_detect._options import whole_number
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.datasets.split import folds as deal_folds
from deepfake_detect.evaluation.evaluator import evaluate
from deepfake_detect.evaluation.report import Report

if TYPE_CHECKING:
    from deepfake_detect.evaluation.scored import Row
    from deepfake_detect.predict.predictor import Predictor

logger = logging.getLogger("deepfake_detect")

THRESHOLD = 0.5
"""Of the verdicts: without validation pictures no fold has a threshold of its own."""


def cross_validate(
    train: Callable[[Sequence[Sample]], Predictor],
    dataset: Any,
    *,
    name: str,
    folds: int = 5,
    labels: Mapping[Any, str] | None = None,
    seed: int = 0,
    rounds: int = 1000,
) -> Report:
    """Train as often as there are folds, each time without one of them, and measure all verdicts together.

    Groups (persons, videos) stay in one fold, and folds hold their share of each source and class. A split ``"test"``
    of the data is left alone.

    Args:
        train: Trains a new detector on samples, all of the split ``"train"``.
        dataset: Anything that `read_dataset` takes.
        name: Of the detector, for the report.
        folds: Number of trainings, at least 2.
        labels: Meaning of unknown labels, as for `read_dataset`.
        seed: Random seed of the folds and of the intervals.
        rounds: Bootstrap draws.

    Returns:
        A report on all pictures, each scored by the detector that was trained without its fold.

    Raises:
        DatasetError: Fewer groups than folds, or a fold leaves one class only.
        InvalidOption: ``folds`` is no whole number of at least 2.
    """
    folds, seed = whole_number("folds", folds, least=2), whole_number("seed", seed)
    samples = [sample for sample in read_dataset(dataset, labels=labels) if sample.split != "test"]
    places = deal_folds(samples, folds, seed=seed)
    rows: list[Row] = []
    for fold in range(folds):
        held = [sample for sample, place in zip(samples, places, strict=True) if place == fold]
        rest = [replace(sample, split="train") for sample, place in zip(samples, places, strict=True) if place != fold]
        logger.info("fold %d of %d: %d train, %d measured", fold + 1, folds, len(rest), len(held))
        rows += evaluate(train(rest), held, threshold=THRESHOLD, rounds=1, seed=seed).rows
    return Report.of_rows(
        rows, threshold=THRESHOLD, model=f"{name}, {folds} folds", revision=None, rounds=rounds, seed=seed
    )
