"""Score labelled pictures, and measure the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import NoneType
from typing import Any

import numpy as np

from deepfake_detect._options import check_flag, check_number, check_type
from deepfake_detect.datasets.read import FRAMES, SPLITS, Sample, note_tags, read_dataset
from deepfake_detect.errors import DatasetError, InvalidOption, nearest
from deepfake_detect.evaluation.report import Report
from deepfake_detect.evaluation.scored import Row
from deepfake_detect.inputs.delivery import ROBUSTNESS, Delivery
from deepfake_detect.inputs.image import Picture, open_image
from deepfake_detect.predict.look import FaceChoice
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.system.progress import progress_bar

CLEAN = "clean"
"""Name of the delivery that changes nothing."""


def evaluate(
    predictor: Predictor,
    dataset: Any,
    *,
    split: str | None = None,
    labels: Mapping[Any, str] | None = None,
    frames: int = FRAMES,
    threshold: float | None = None,
    faces: FaceChoice = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    robustness: str | Sequence[str] | Mapping[str, Delivery] = (),
    rounds: int = 1000,
    seed: int = 0,
    progress: bool | None = None,
) -> Report:
    """Score labelled pictures as `Predictor.predict` does, and measure the verdicts.

    Pictures in which no face is found and those that cannot be read are counted, named and left out of the figures.

    Args:
        predictor: A `Predictor` or a `Detector`.
        dataset: Whatever `read_dataset` takes.
        split: ``"train"``, ``"val"`` or ``"test"`` keeps the pictures of that split. None keeps all.
        labels: Meaning of labels that are not recognised: ``{"mine": "fake"}``.
        frames: Number of frames of each video.
        threshold: Score at and above which a picture is called fake, in place of the card's.
        faces: See `FaceChoice`; a picture counts by its highest score.
        batch_size: Number of faces in a batch.
        workers: Number of threads that open pictures.
        robustness: Deliveries after which the same pictures are scored again: names of `ROBUSTNESS`, ``"all"`` of
            them, or a mapping of names to functions. ``"clean"`` is the pictures as given, and costs nothing.
        rounds: Bootstrap draws, over groups.
        seed: Random seed of the draws.
        progress: Whether to show a progress bar; None shows one on a terminal.

    Returns:
        All figures with their intervals; with the training curves of a detector that remembers its training.

    Raises:
        DatasetError: No such pictures, or a label that is not recognised.
        InvalidOption: An unknown delivery, or an argument out of range.

    Example:
        >>> from deepfake_detect import Detector
        >>> pictures = [("examples/portrait.jpg", "real"), ("examples/portrait_fake.jpg", "fake")]
        >>> evaluate(Detector.from_pretrained("xception-fakefaces"), pictures)
        Report(xception-fakefaces@..., n 2, AUC 1.000, balanced accuracy 1.000)
    """
    _check_options(labels, frames, rounds, seed, progress)
    deliveries = _deliveries(robustness)
    samples = _of_split(read_dataset(dataset, labels=labels, frames=frames), split)
    predict = partial(
        predictor.predict_many,
        on_error="yield",
        threshold=threshold,
        faces=faces,
        batch_size=batch_size,
        workers=workers,
    )
    total = len(samples) * (1 + len(deliveries.keys() - {CLEAN}))
    with progress_bar(total=total, title="evaluate", show=progress) as bar:
        predictions = _counted(predict(sample.image for sample in samples), bar)
        rows = [_row(sample, prediction) for sample, prediction in zip(samples, predictions, strict=True)]
        delivered = {
            name: rows
            if name == CLEAN
            else _deliver(lambda images: _counted(predict(images), bar), samples, rows, change)
            for name, change in deliveries.items()
        }
    return Report.of_rows(
        rows,
        threshold=predictor.card.threshold if threshold is None else threshold,
        model=predictor.card.id,
        revision=predictor.revision,
        delivered=delivered,
        history=getattr(predictor, "history", ()),
        rounds=rounds,
        seed=seed,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Copy:
    """A picture as it is delivered, in the threads that find faces."""

    image: Any
    name: str
    delivery: Delivery

    def open_picture(self) -> Picture:
        pixels = np.ascontiguousarray(self.delivery(open_image(self.image).pixels))
        return Picture(pixels=pixels, size_hw=pixels.shape[:2], name=self.name)


def _of_split(samples: Sequence[Sample], split: str | None) -> list[Sample]:
    wanted = split if split is None else SPLITS.get(split, split)
    chosen = [sample for sample in samples if wanted is None or sample.split == wanted]
    if not chosen:
        named = sorted({sample.split for sample in samples if sample.split})
        names = ", ".join(named) or "no split"
        raise DatasetError(f"none of {len(samples)} pictures is of the split {split!r}; the data names {names}")
    return chosen


def _check_options(labels: Any, frames: Any, rounds: Any, seed: Any, progress: Any) -> None:
    check_type("labels", labels, (Mapping, NoneType), expected="a mapping such as {'mine': 'fake'}, or None")
    check_number("frames", frames, low=1, whole=True)
    check_number("rounds", rounds, low=1, whole=True)
    check_number("seed", seed, low=0, whole=True)
    if progress is not None:
        check_flag("progress", progress)


def _deliveries(wanted: str | Sequence[str] | Mapping[str, Delivery]) -> dict[str, Delivery]:
    if isinstance(wanted, Mapping):
        return dict(wanted)
    check_type("robustness", wanted, (str, Sequence), expected="names of ways of delivery, 'all', or a mapping")
    names = list(ROBUSTNESS) if wanted == "all" else [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in ROBUSTNESS:
            raise InvalidOption(f"no delivery called {name!r}{nearest(str(name), ROBUSTNESS)}")
    return {name: ROBUSTNESS[name] for name in names}


def _counted(predictions: Iterable[Prediction], bar: Any) -> Iterator[Prediction]:
    for prediction in predictions:
        bar.update()
        yield prediction


def _deliver(
    predict: Callable[[Iterable[Any]], Iterator[Prediction]],
    samples: Sequence[Sample],
    before: Sequence[Row],
    delivery: Delivery,
) -> list[Row]:
    """Score the pictures after a delivery; the rows of unreadable ones stay as they are."""
    pairs = list(zip(samples, before, strict=True))
    predictions = predict(_Copy(sample.image, sample.name, delivery) for sample, row in pairs if not row.error)
    return [row if row.error else _row(sample, next(predictions)) for sample, row in pairs]


def _row(sample: Sample, prediction: Prediction) -> Row:
    worst = prediction.worst
    return Row(
        name=sample.name,
        label="fake" if sample.label else "real",
        predicted=prediction.label,
        score=prediction.score,
        logit=prediction.logit,
        source=sample.source,
        generator=sample.generator,
        group=sample.group,
        split=sample.split,
        tags=note_tags(sample.note),
        error="" if prediction.error is None else " ".join(str(prediction.error).split()),
        box_xyxy=None if worst is None else worst.box_xyxy,
        image=sample.image,
    )
