"""Test that predictions come in order, from full batches, and that memory is bounded."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from deepfake_detect import Face, ImageUnreadable, Prediction, WeightsMismatch
from deepfake_detect.predict.intake import Taken
from deepfake_detect.predict.look import Look, View
from deepfake_detect.predict.stream import stream_predictions
from deepfake_detect.predict.verdict import FaceLogits
from tests.small_world import CARD


def look_as_listed(taken: Taken) -> Look:
    """Take a list of logits for a picture, one for each face; an exception is raised."""
    image = taken.image
    if isinstance(image, Exception):
        raise image
    views = tuple(View(np.array([logit], float)) for logit in image)
    face = Face(box_xyxy=(0, 0, 9, 9), landmarks_xy=np.zeros((5, 2), np.float32), confidence=0.9)
    return Look(name="told", source=image, size_hw=(9, 9), faces=(face,) * len(views), views=views)


class ListedModel:
    """Gives the logits that the faces are made of, and remembers the batches."""

    def __init__(self, *, memory: int = 1000, error: type[RuntimeError] = torch.OutOfMemoryError) -> None:
        self.batches: list[int] = []
        self.memory, self.error = memory, error

    def __call__(self, views: Sequence[View]) -> list[FaceLogits]:
        self.batches.append(len(views))
        if len(views) > self.memory:
            raise self.error("CUDA out of memory. Tried to allocate 20.00 MiB")
        return [FaceLogits(float(view.crop[0])) for view in views]


def run(images: Any, *, model: Callable[..., Any] | None = None, look: Any = look_as_listed, **options: Any) -> Any:
    return stream_predictions(images, look=look, forward=model or ListedModel(), card=CARD, **options)


def logits(predictions: list[Prediction]) -> list[list[float | None]]:
    return [[face.logit for face in prediction.faces] for prediction in predictions]


def workers_alive() -> int:
    gc.collect()  # generators that other tests dropped half-way
    return sum(thread.name.startswith("deepfake-detect_") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("batch_size", [1, 3, 16, 1000])
def test_order_is_kept_whatever_the_batches(workers: int, batch_size: int) -> None:
    random = np.random.default_rng(0)
    images = [random.normal(size=random.integers(0, 7)).tolist() for _ in range(60)]

    def slow_look(taken: Taken) -> Look:
        time.sleep(0.002 * (len(taken.image) % 3))
        return look_as_listed(taken)

    found = list(run(images, look=slow_look, workers=workers, batch_size=batch_size))
    assert logits(found) == images
    assert [prediction.logit for prediction in found] == [max(image, default=None) for image in images]
    assert workers_alive() == 0


def test_a_prediction_says_what_its_worst_face_says() -> None:
    (result,) = run([[-3.0, 2.0, 1.0]], revision="abc")
    assert result.score == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert (result.label, result.logit, result.threshold, result.model, result.revision) == (
        *("fake", 2.0, 0.5, "small@0", "abc"),
    )
    assert [face.label for face in result.faces] == ["real", "fake", "fake"]
    (result,) = run([[-3.0, 2.0]], threshold=0.95)
    assert (result.label, result.threshold) == ("real", 0.95)


def test_no_face_is_no_score_and_no_work() -> None:
    model = ListedModel()
    (result,) = run([[]], model=model)
    assert (result.label, result.score, result.logit, result.faces) == ("no-face", None, None, ())
    assert model.batches == []


def test_batches_are_filled_across_pictures_and_faces() -> None:
    model = ListedModel()
    images = [[0.0] * 10, *[[1.0]] * 6, [2.0] * 5, [3.0] * 20]
    assert logits(list(run(images, model=model, batch_size=16))) == images
    assert model.batches == [16, 16, 9]


@pytest.mark.parametrize("faces", [0, 1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_endless_source_is_pulled_a_bounded_way_ahead(faces: int, workers: int) -> None:
    latest = -1

    def endless() -> Iterator[list[float]]:
        nonlocal latest
        for latest in itertools.count():
            assert latest < 1000, "pulled without end"
            yield [float(latest)] * faces

    predictions = run(endless(), batch_size=4, workers=workers)
    for number, prediction in enumerate(itertools.islice(predictions, 200)):
        assert logits([prediction]) == [[float(number)] * faces]
        assert latest - number <= 3 * 4 + workers
    predictions.close()
    assert workers_alive() == 0


def test_pictures_without_faces_do_not_pile_up_behind_one_with_a_face() -> None:
    looked = 0

    def look(taken: Taken) -> Look:
        nonlocal looked
        looked += 1
        return look_as_listed(taken)

    predictions = run(itertools.chain([[1.0]], itertools.repeat([], 1000)), look=look, batch_size=4, workers=2)
    assert next(predictions).logit == 1.0
    predictions.close()
    assert looked <= 3 * 4 + 2


def test_the_model_runs_while_threads_look() -> None:
    """Neither could finish if they took turns."""
    meet = threading.Barrier(2, timeout=20)

    def look(taken: Taken) -> Look:
        if taken.image == [5.0]:
            meet.wait()
        return look_as_listed(taken)

    def forward(views: Sequence[View]) -> list[FaceLogits]:
        if any(view.crop[0] == 0 for view in views):
            meet.wait()
        return [FaceLogits(float(view.crop[0])) for view in views]

    images = [[float(number)] for number in range(8)]
    assert logits(list(run(images, look=look, model=forward, batch_size=2, workers=4))) == images


def test_closing_early_stops_the_threads() -> None:
    looked = []

    def look(taken: Taken) -> Look:
        looked.append(taken)
        time.sleep(0.01)
        return look_as_listed(taken)

    predictions = run(([1.0] for _ in itertools.count()), look=look, batch_size=2, workers=3)
    next(predictions)
    predictions.close()
    assert workers_alive() == 0
    seen = len(looked)
    time.sleep(0.05)
    assert len(looked) == seen


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_bad_picture_raises_in_its_place(workers: int, batch_size: int) -> None:
    images = [[1.0], [2.0, 3.0], [], ImageUnreadable("bad one"), [4.0], ImageUnreadable("another")]
    predictions = run(images, workers=workers, batch_size=batch_size)
    found = []
    with pytest.raises(ImageUnreadable, match="bad one"):
        found.extend(iter(lambda: next(predictions), None))
    assert workers_alive() == 0
    assert list(predictions) == []
    predictions = run(images, workers=workers, batch_size=batch_size)
    assert logits([next(predictions) for _ in range(3)]) == images[:3]
    predictions.close()


@pytest.mark.parametrize("workers", [0, 3])
def test_a_bad_picture_is_handed_out_where_that_is_asked(workers: int) -> None:
    images = [[0.5], ImageUnreadable("bad one"), [2.0]]
    result = list(run(images, workers=workers, on_error="yield", threshold=0.7))
    assert [prediction.label for prediction in result] == ["real", "error", "fake"]
    assert isinstance(result[1].error, ImageUnreadable)
    assert (result[1].score, result[1].logit, result[1].faces, result[1].size_hw) == (None, None, (), None)
    assert result[1].source is images[1]
    assert result[1].to_dict()["error"] == {"type": "ImageUnreadable", "message": "bad one"}


@pytest.mark.parametrize("on_error", ["raise", "yield"])
def test_an_error_of_the_source_is_passed_on_after_what_came_before(on_error: Any) -> None:
    def broken() -> Iterator[list[float]]:
        yield from ([1.0], [2.0])
        raise ImageUnreadable("the caller's own")

    predictions = run(broken(), on_error=on_error, workers=2)
    assert logits([next(predictions), next(predictions)]) == [[1.0], [2.0]]
    with pytest.raises(ImageUnreadable, match="the caller's own"):
        next(predictions)
    assert workers_alive() == 0


def test_a_fault_in_the_program_is_raised_even_where_errors_are_handed_out() -> None:
    predictions = run([[1.0], ZeroDivisionError("bug")], on_error="yield")
    next(predictions)
    with pytest.raises(ZeroDivisionError):
        next(predictions)


def test_an_interrupt_in_the_source_is_not_held_back() -> None:
    def interrupted() -> Iterator[list[float]]:
        yield [1.0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run(interrupted(), on_error="yield"))
    assert workers_alive() == 0


def test_no_number_is_an_error_of_that_picture_only() -> None:
    images = [[1.0], [float("nan")], [2.0]]
    result = list(run(images, on_error="yield"))
    assert [type(prediction.error) for prediction in result] == [type(None), WeightsMismatch, type(None)]
    assert result[1].score is None
    with pytest.raises(WeightsMismatch, match="logit nan"):
        list(run(images))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_halves_the_batch_once_and_warns(error: type[RuntimeError]) -> None:
    model, images = ListedModel(memory=9, error=error), [[float(number)] for number in range(40)]
    with pytest.warns(RuntimeWarning, match=r"16 faces at once.*batch_size=8") as warned:
        result = list(run(images, model=model, batch_size=16))
    assert logits(result) == images
    assert model.batches == [16, 8, 8, 8, 8, 8]
    assert len(warned) == 1


def test_out_of_memory_is_raised_where_half_is_still_too_much() -> None:
    with pytest.warns(RuntimeWarning, match="16 faces"), pytest.raises(torch.OutOfMemoryError):
        list(run([[1.0]] * 40, model=ListedModel(memory=3), batch_size=16))
    with pytest.raises(torch.OutOfMemoryError):
        list(run([[1.0]], model=ListedModel(memory=0)))


def test_memory_that_runs_out_a_second_time_is_an_error() -> None:
    model = ListedModel(memory=9)

    def images() -> Iterator[list[float]]:
        yield from [[1.0]] * 60
        model.memory = 3
        yield from [[2.0]] * 60

    with pytest.warns(RuntimeWarning, match="16 faces") as warned, pytest.raises(torch.OutOfMemoryError):
        list(run(images(), model=model, batch_size=16, workers=0))
    assert len(warned) == 1
    assert model.batches[-1] == 8


def test_other_errors_of_the_model_are_not_taken_for_lack_of_memory() -> None:
    def forward(_: Any) -> list[float]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(run([[1.0], [2.0]], model=forward))


def test_seconds_are_the_picture_s_own() -> None:
    def look(taken: Taken) -> Look:
        time.sleep(taken.image[0])
        return look_as_listed(taken)

    def forward(views: Sequence[View]) -> list[FaceLogits]:
        time.sleep(0.03 * len(views))
        return [FaceLogits(float(view.crop[0])) for view in views]

    slow, quick = run([[0.5, 0.1, 0.1], [0.0]], look=look, model=forward, batch_size=4, workers=2)
    assert slow.seconds >= 0.58
    assert 0.03 <= quick.seconds < 0.4  # it did not wait for the other
