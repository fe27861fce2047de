"""Score the pictures of many requests with one model: threads share a queue, and batches are filled across requests."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.predict.content import classify_content
from deepfake_detect.predict.look import FaceChoice, Look, View
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.predict.verdict import FaceLogits
from deepfake_detect.system.device import count_processors, free_memory, is_out_of_memory

logger = logging.getLogger("deepfake_detect.serve")

MAX_WAIT_S = 0.05
"""Seconds after which a face is scored although its batch is not full and pictures are waiting to be opened."""

_WARM_UP: tuple[FaceChoice, ...] = ("auto", "none")  # finds no face; has the model score the whole picture

Outcome = Prediction | Exception
"""The verdict on a picture, or why there is none."""


@dataclass(slots=True, eq=False)
class Job:
    """A picture that is to be scored.

    Attributes:
        open: Returns what `Predictor.look` opens; called in a thread of the scorer.
        faces: See `Predictor.predict`.
        threshold: See `Predictor.predict`.
        content: See `Predictor.predict`.
        done: Called once, in a thread of the scorer, unless the job was cancelled.
        cancelled: Set by the caller: nobody waits for the outcome any more, and the work that is left is dropped.
    """

    open: Callable[[], Any]
    done: Callable[[Outcome], None]
    faces: FaceChoice = "auto"
    threshold: float | None = None
    content: bool = False
    cancelled: bool = False
    since: float = field(default_factory=time.perf_counter)
    look: Look | None = None
    logits: list[FaceLogits] = field(default_factory=list)
    missing: int = 0
    seconds: float = 0.0
    finished: bool = False


class Scorer:
    """The threads that score pictures with one model.

    An idle thread runs the model as soon as faces wait and no picture does, so a single picture is answered at once;
    under load, batches fill up by themselves while the threads are busy. Outcomes come in any order: a slow picture
    holds up no other.

    Args:
        detector: The model, held in memory once.
        threads: None takes one more than there are processors.
        observe: Called with a stage (``"queue"``, ``"look"``, ``"score"``) and its seconds; and with ``"batch"`` and
            the number of faces.
    """

    def __init__(
        self, detector: Predictor, *, threads: int | None = None, observe: Callable[[str, float], None] | None = None
    ) -> None:
        self.detector = detector
        self._threads = threads or count_processors() + 1
        self._observe = observe or (lambda stage, value: None)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="deepfake-detect-serve")
        self._free_lanes, self._size = detector.enlist(self._pool, workers=self._threads)
        self._lanes = self._free_lanes
        self._pictures: deque[Job] = deque()
        self._views: deque[tuple[float, Job, int, View]] = deque()  # since when, picture, number, pixels
        self._open_jobs, self._closing = 0, False
        self._changed = threading.Condition()
        for _ in range(self._threads):
            self._pool.submit(self._run)

    def submit(self, job: Job) -> None:
        """Queue a picture; the caller limits how many there are."""
        with self._changed:
            if self._closing:
                raise RuntimeError("the scorer is closed")
            self._open_jobs += 1
            self._pictures.append(job)
            self._changed.notify()

    def warm_up(self) -> None:
        """Score a grey picture, so that the first request need not wait for the networks to be made ready.

        Raises:
            DeepfakeDetectError: The model cannot score.
        """
        grey = np.full((64, 64, 3), 128, np.uint8)
        for faces in _WARM_UP:
            outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
            self.submit(Job(open=lambda: grey, faces=faces, done=outcomes.put))
            outcome = outcomes.get()
            if isinstance(outcome, Exception):
                raise outcome

    def close(self) -> None:
        """Finish what was submitted, and end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._pool.shutdown()

    def _run(self) -> None:
        while (task := self._next_task()) is not None:
            task()

    def _next_task(self) -> Callable[[], None] | None:
        with self._changed:
            while True:
                if self._free_lanes and self._views and self._is_batch_due():
                    return partial(self._score, self._take_batch())
                if self._pictures:
                    return partial(self._open, self._pictures.popleft())
                if self._closing and not self._open_jobs:
                    return None
                self._changed.wait()

    def _is_batch_due(self) -> bool:
        is_old = time.perf_counter() - self._views[0][0] > MAX_WAIT_S
        return is_old or not self._pictures or len(self._views) >= self._size

    def _take_batch(self) -> list[tuple[Job, int, View]]:
        self._free_lanes -= 1
        entries = [self._views.popleft() for _ in range(min(self._size, len(self._views)))]
        return [(job, number, view) for _, job, number, view in entries]

    def _open(self, job: Job) -> None:
        start = time.perf_counter()
        self._observe("queue", start - job.since)
        if job.cancelled:
            self._finish(job, None)
            return
        try:
            look = job.look = self.detector.look(job.open(), faces=job.faces, workers=self._threads)
            job.missing, job.logits = len(look.views), [FaceLogits(0.0)] * len(look.views)
        except Exception as error:
            self._finish(job, _expected(error))
            return
        now = time.perf_counter()
        job.seconds = now - start
        self._observe("look", job.seconds)
        if not look.views:
            self._conclude(job)
            return
        with self._changed:
            self._views.extend((now, job, number, view) for number, view in enumerate(look.views))
            self._changed.notify()

    def _score(self, batch: list[tuple[Job, int, View]]) -> None:
        start = time.perf_counter()
        entries = [entry for entry in batch if not entry[0].cancelled]
        failure: Exception | None = None
        try:
            logits = self._logits([view for _, _, view in entries])
        except Exception as error:
            failure, logits = _expected(error), [FaceLogits(math.nan)] * len(entries)
        seconds = time.perf_counter() - start
        with self._changed:
            self._free_lanes += 1
            self._changed.notify()
            for (job, number, _), each in zip(entries, logits, strict=True):
                job.logits[number], job.seconds = each, job.seconds + seconds / len(entries)
                job.missing -= 1
        for job in {id(job): job for job, _, _ in batch}.values():
            if failure or job.cancelled:
                self._finish(job, failure)
            elif not job.missing:
                self._conclude(job)
        if entries:
            self._observe("score", seconds)
            self._observe("batch", len(entries))

    def _logits(self, views: list[View]) -> list[FaceLogits]:
        if not views:
            return []
        try:
            return self.detector.read(views, lanes=self._lanes)
        except RuntimeError as error:
            if len(views) < 2 or not is_out_of_memory(error):
                raise
        self._size = half = (len(views) + 1) // 2
        logger.warning("the device has no memory for %d faces at once; going on with %d", len(views), half)
        free_memory()
        return [*self._logits(views[:half]), *self._logits(views[half:])]

    def _conclude(self, job: Job) -> None:
        look = job.look
        if look is None:  # a batch with another of its faces has failed
            return
        try:
            prediction = self.detector.conclude(look, job.logits, threshold=job.threshold, seconds=job.seconds)
            content = classify_content(prediction.source) if job.content else None
            self._finish(job, replace(prediction, source=None, content=content))
        except Exception as error:
            self._finish(job, _expected(error))

    def _finish(self, job: Job, outcome: Outcome | None) -> None:
        """Hand the outcome to the caller, once; None where the job was cancelled."""
        with self._changed:
            if job.finished:
                return
            job.finished, job.open, job.look = True, _closed, None
            self._open_jobs -= 1
            if self._closing and not self._open_jobs:
                self._changed.notify_all()
        if outcome is not None and not job.cancelled:
            job.done(outcome)


def _expected(error: Exception) -> Exception:
    """Log what is no error of the library: it is a fault of the server."""
    if not isinstance(error, DeepfakeDetectError):
        logger.error("a picture could not be scored", exc_info=error)
    return error


def _closed() -> Any:
    raise RuntimeError("the picture was scored already, and is not kept")
