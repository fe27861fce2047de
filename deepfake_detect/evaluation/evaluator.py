"""How good is a detector on pictures whose truth is known?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from deepfake_detect.datasets.read import FRAMES, SPLITS, Sample, read_dataset
from deepfake_detect.errors import DatasetError, nearest
from deepfake_detect.evaluation.report import Report
from deepfake_detect.evaluation.scored import Row
from deepfake_detect.inputs.delivery import ROBUSTNESS, Delivery
from deepfake_detect.inputs.image import Picture, open_image
from deepfake_detect.predict.look import FaceChoice
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.predictor import Predictor

CLEAN = "clean"
"""The delivery that changes nothing."""


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
    """Score pictures whose truth is known, the way that `Predictor.predict` would, and measure the answers.

    Pictures in which no face is found and those that cannot be read are counted, named and left out of the figures.

    Args:
        predictor: A `Predictor` or a `Detector`.
        dataset: Whatever `read_dataset` takes.
        split: ``"train"``, ``"val"`` or ``"test"``: keep those pictures only. None keeps all that are given,
            whatever split they name.
        labels: What labels mean that are not known: ``{"mine": "fake"}``.
        frames: For each video.
        threshold: Score from which a picture is called fake, in place of the card's.
        faces: See `FaceChoice`; a picture counts by its highest score.
        batch_size: Faces the model gets at once.
        workers: Threads that open pictures.
        robustness: How the same pictures are delivered, to be scored once more each: names of `ROBUSTNESS`,
            ``"all"`` of them, or a mapping of names to functions. ``"clean"`` is the pictures as they are, and costs
            nothing.
        rounds: Draws of the bootstrap, over groups.
        seed: Of the draws.
        progress: Whether a bar is shown; None shows one on a terminal.

    Returns:
        All figures with their intervals.

    Raises:
        DatasetError: There are no such pictures, or a label cannot be told.
        ValueError: An unknown way of delivery, or an argument out of range.

    Example:
        >>> from deepfake_detect import Detector
        >>> pictures = [("examples/portrait.jpg", "real"), ("examples/portrait_fake.jpg", "fake")]
        >>> evaluate(Detector.from_pretrained("xception-fakefaces"), pictures)
        Report(xception-fakefaces@..., n 2, AUC 1.000, balanced accuracy 1.000)
    """
    deliveries = _deliveries(robustness)
    samples = _of_split(read_dataset(dataset, labels=labels, frames=frames), split)
    ask = partial(
        predictor.predict_many,
        on_error="yield",
        threshold=threshold,
        faces=faces,
        batch_size=batch_size,
        workers=workers,
    )
    total = len(samples) * (1 + len(deliveries.keys() - {CLEAN}))
    with tqdm(total=total, desc="evaluate", unit="picture", disable=None if progress is None else not progress) as bar:
        said = _counted(ask(sample.image for sample in samples), bar)
        rows = [_row(sample, prediction) for sample, prediction in zip(samples, said, strict=True)]
        delivered = {
            name: rows if name == CLEAN else _deliver(lambda images: _counted(ask(images), bar), samples, rows, change)
            for name, change in deliveries.items()
        }
    return Report.of_rows(
        rows,
        threshold=predictor.card.threshold if threshold is None else threshold,
        model=predictor.card.id,
        revision=predictor.revision,
        delivered=delivered,
        rounds=rounds,
        seed=seed,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Arrival:
    """A picture as it arrives, opened in the threads that look for faces."""

    image: Any
    name: str
    change: Delivery

    def open_picture(self) -> Picture:
        pixels = np.ascontiguousarray(self.change(open_image(self.image).pixels))
        return Picture(pixels=pixels, size_hw=pixels.shape[:2], name=self.name)


def _of_split(every: Sequence[Sample], split: str | None) -> list[Sample]:
    wanted = split if split is None else SPLITS.get(split, split)
    samples = [sample for sample in every if wanted is None or sample.split == wanted]
    if not samples:
        named = sorted({sample.split for sample in every if sample.split})
        raise DatasetError(
            f"none of {len(every)} pictures is of the split {split!r}; the data names {', '.join(named) or 'no split'}"
        )
    return samples


def _deliveries(wanted: str | Sequence[str] | Mapping[str, Delivery]) -> dict[str, Delivery]:
    if isinstance(wanted, Mapping):
        return dict(wanted)
    names = list(ROBUSTNESS) if wanted == "all" else [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in ROBUSTNESS:
            raise ValueError(f"no way of delivery called {name!r}{nearest(name, ROBUSTNESS)}")
    return {name: ROBUSTNESS[name] for name in names}


def _counted(predictions: Iterable[Prediction], bar: Any) -> Iterator[Prediction]:
    for prediction in predictions:
        bar.update()
        yield prediction


def _deliver(
    ask: Callable[[Iterable[Any]], Iterator[Prediction]],
    samples: Sequence[Sample],
    before: Sequence[Row],
    change: Delivery,
) -> list[Row]:
    """Score the pictures as they arrive; those that cannot be read stay as they are."""
    pairs = list(zip(samples, before, strict=True))
    said = ask(_Arrival(sample.image, sample.name, change) for sample, row in pairs if not row.error)
    return [row if row.error else _row(sample, next(said)) for sample, row in pairs]


def _row(sample: Sample, prediction: Prediction) -> Row:
    worst = prediction.worst
    pairs = (entry.partition("=") for entry in sample.note.split(";"))
    return Row(
        name=sample.name,
        label="fake" if sample.label else "real",
        said=prediction.label,
        score=prediction.score,
        logit=prediction.logit,
        source=sample.source,
        generator=sample.generator,
        group=sample.group,
        split=sample.split,
        tags={key.strip(): value.strip() for key, equals, value in pairs if equals and value.strip()},
        error="" if prediction.error is None else " ".join(str(prediction.error).split()),
        box_xyxy=None if worst is None else worst.box_xyxy,
        image=sample.image,
    )
