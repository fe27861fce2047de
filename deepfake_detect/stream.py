"""How do many pictures become predictions: in order, in batches, in bounded memory?"""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from deepfake_detect.card import Card
from deepfake_detect.device import is_out_of_memory
from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.image import name_image
from deepfake_detect.results import Prediction
from deepfake_detect.scoring import Look, judge

OnError = Literal["raise", "yield"]
"""What becomes of a picture that cannot be scored."""


def stream_predictions(
    images: Iterable[Any],
    *,
    look: Callable[[Any], Look],
    forward: Callable[[Sequence[np.ndarray]], Sequence[float]],
    card: Card,
    revision: str | None = None,
    threshold: float | None = None,
    batch_size: int = 16,
    workers: int = 2,
    on_error: OnError = "raise",
) -> Generator[Prediction, None, None]:
    """Score pictures as they come, in order.

    ``images`` is pulled by the caller's thread, at most ``3 * batch_size + workers`` pictures ahead of
    the prediction handed out; threads look at them while the model runs. A batch is filled across
    pictures and faces.

    Args:
        images: May be endless.
        look: Opens one picture and cuts out its faces; called in threads.
        forward: Gives the logits of up to ``batch_size`` crops; called in the caller's thread.
        card: Turns logits into scores and labels.
        revision: Named in the predictions.
        threshold: In place of the card's.
        batch_size: Crops the model gets at once; halved once, with a warning, where memory runs out.
        workers: Threads that look; 0 looks in the caller's thread, one picture at a time.
        on_error: ``"raise"`` ends with the error at the place of the picture, after those before it;
            ``"yield"`` gives a prediction that carries the error.

    Yields:
        One prediction a picture. Its ``seconds`` are the time in which the picture was opened and its
        faces cut out, and its crops' share of the time of their batches: not the time waited in between.
    """
    todo: deque[tuple[_Entry, np.ndarray]] = deque()  # crops that wait for the model
    entries: deque[_Entry] = deque()  # pictures in order, the next to be handed out first
    batcher = _Batcher(forward, batch_size)
    finish = _Finish(card=card, revision=revision, threshold=threshold, on_error=on_error)
    with closing(_entries(images, look, workers, ahead=batch_size + workers if workers else 1)) as coming:
        for entry in coming:
            entries.append(entry)
            todo.extend((entry, crop) for crop in entry.crops)
            last = finish.raises(entry)
            while len(todo) >= batcher.size or (todo and (last or len(entries) >= 2 * batch_size)):
                batcher.run(todo)
            while entries and entries[0].is_scored:
                yield finish(entries.popleft())
    while entries:
        while not entries[0].is_scored:
            batcher.run(todo)
        yield finish(entries.popleft())


@dataclass(slots=True, kw_only=True, eq=False)
class _Entry:
    """A picture on its way from the caller to its prediction."""

    source: Any
    look: Look | None = None
    error: Exception | None = None
    broken_source: bool = False
    seconds: float = 0.0
    logits: list[float] = field(default_factory=list)

    @property
    def crops(self) -> tuple[np.ndarray, ...]:
        return self.look.crops if self.look else ()

    @property
    def is_scored(self) -> bool:
        return len(self.logits) == len(self.crops)


@dataclass(slots=True)
class _Batcher:
    """Run the model on what waits, in batches as large as fit."""

    forward: Callable[[Sequence[np.ndarray]], Sequence[float]]
    size: int
    halved: bool = False

    def run(self, todo: deque[tuple[_Entry, np.ndarray]]) -> None:
        chosen = [todo.popleft() for _ in range(min(self.size, len(todo)))]
        start = time.perf_counter()
        logits = self._logits([crop for _, crop in chosen])
        share = (time.perf_counter() - start) / len(chosen)
        for (entry, _), logit in zip(chosen, logits, strict=True):
            entry.logits.append(logit)
            entry.seconds += share

    def _logits(self, crops: list[np.ndarray]) -> Sequence[float]:
        try:
            return self.forward(crops)
        except RuntimeError as error:
            if self.halved or len(crops) < 2 or not is_out_of_memory(error):
                raise
        self.halved, self.size = True, (len(crops) + 1) // 2
        warnings.warn(
            f"the device has no memory for {len(crops)} faces at once; going on with {self.size}: "
            f"pass batch_size={self.size} to avoid this",
            RuntimeWarning,
            stacklevel=2,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return [*self.forward(crops[: self.size]), *self.forward(crops[self.size :])]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finish:
    """Make an entry a prediction, or raise its error."""

    card: Card
    revision: str | None
    threshold: float | None
    on_error: OnError

    def raises(self, entry: _Entry) -> bool:
        own = isinstance(entry.error, DeepfakeDetectError) and not entry.broken_source
        return entry.error is not None and (self.on_error == "raise" or not own)

    def __call__(self, entry: _Entry) -> Prediction:
        if entry.error is None:
            try:
                return self._prediction(entry)
            except DeepfakeDetectError as error:
                entry.error = error
        if self.raises(entry):
            raise entry.error
        return self._failed(entry)

    def _prediction(self, entry: _Entry) -> Prediction:
        assert entry.look is not None
        judged = [judge(logit, card=self.card, threshold=self.threshold) for logit in entry.logits]
        faces = tuple(
            replace(face, logit=logit, score=score, label=label)
            for face, logit, (score, label) in zip(entry.look.faces, entry.logits, judged, strict=True)
        )
        worst = max(faces, key=lambda face: face.score or 0.0, default=None)
        return Prediction(
            name=entry.look.name,
            source=entry.look.source,
            size_hw=entry.look.size_hw,
            label=(worst.label or "") if worst else "no-face",
            score=worst.score if worst else None,
            logit=worst.logit if worst else None,
            faces=faces,
            **self._common(entry),
        )

    def _failed(self, entry: _Entry) -> Prediction:
        return Prediction(
            name=name_image(entry.source),
            source=entry.source,
            size_hw=None,
            label="error",
            score=None,
            logit=None,
            faces=(),
            error=entry.error if isinstance(entry.error, DeepfakeDetectError) else None,
            **self._common(entry),
        )

    def _common(self, entry: _Entry) -> dict[str, Any]:
        return {
            "threshold": self.card.threshold if self.threshold is None else self.threshold,
            "model": self.card.id,
            "revision": self.revision,
            "seconds": entry.seconds,
        }


def _entries(
    images: Iterable[Any], look: Callable[[Any], Look], workers: int, *, ahead: int
) -> Generator[_Entry, None, None]:
    """Look at pictures in threads, and give them in order."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="deepfake-detect") if workers else None
    coming, pending, ended = iter(images), deque[Future[_Entry]](), False
    try:
        while True:
            while not ended and len(pending) < ahead:
                entry = _pull(coming)
                ended = entry is None or entry.broken_source
                if entry is not None:
                    pending.append(pool.submit(_look, entry, look) if pool else _done(_look(entry, look)))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


def _pull(images: Iterator[Any]) -> _Entry | None:
    try:
        return _Entry(source=next(images))
    except StopIteration:
        return None
    except Exception as error:  # the caller's own: raised where it stands in the order
        return _Entry(source=None, error=error, broken_source=True)


def _look(entry: _Entry, look: Callable[[Any], Look]) -> _Entry:
    if entry.error is None:
        start = time.perf_counter()
        try:
            entry.look = look(entry.source)
        except Exception as error:  # handed to the caller in the order of the pictures
            entry.error = error
        entry.seconds = time.perf_counter() - start
    return entry


def _done(entry: _Entry) -> Future[_Entry]:
    future: Future[_Entry] = Future()
    future.set_result(entry)
    return future
