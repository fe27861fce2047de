"""Score many pictures in order, in batches, in bounded memory.

Every worker does all kinds of work: it opens a picture, finds its faces, and as soon as enough faces wait for the
model, it runs the model on them. So no worker waits while there is anything to do, whichever part is the slow one.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.predict.intake import Taken, safe_name, take_over
from deepfake_detect.predict.look import Look, View
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.verdict import FaceLogits, compose_prediction
from deepfake_detect.system.device import free_memory, is_out_of_memory
from deepfake_detect.weights.card import Card

OnError = Literal["raise", "yield"]
"""What becomes of a picture that cannot be scored."""


def stream_predictions(
    images: Iterable[Any],
    *,
    look: Callable[[Taken], Look],
    forward: Callable[[Sequence[View]], Sequence[FaceLogits]],
    card: Card,
    revision: str | None = None,
    threshold: float | None = None,
    batch_size: int = 16,
    workers: int = 2,
    lanes: int = 1,
    on_error: OnError = "raise",
    how: Callable[[], dict[str, str]] = dict,
    join: Callable[..., None] | None = None,
) -> Generator[Prediction, None, None]:
    """Score pictures as they come, in order.

    ``images`` is pulled by the caller's thread, at most ``(lanes + 2) * batch_size + workers`` pictures ahead of
    the prediction handed out, and each picture is taken over at once (see `take_over`): a source may reuse its memory.
    A batch is filled across pictures and faces.

    Args:
        images: May be endless.
        look: Opens one picture that was taken over and cuts out its faces; called in threads.
        forward: Gives the logits of up to ``batch_size`` faces; called in threads, up to ``lanes`` at a time.
        card: Turns logits into scores and labels.
        revision: Named in the predictions.
        threshold: In place of the card's.
        batch_size: Faces the model gets at once; halved once, with a warning, where memory runs out.
        workers: Threads; 0 does everything in the caller's thread, one picture at a time.
        lanes: Batches that may be computed at the same time.
        on_error: ``"raise"`` ends with the error at the place of the picture, after those before it;
            ``"yield"`` gives a prediction that carries the error.
        how: Returns backend and dtype, once a picture is scored.
        join: Called with the new pool, ``workers`` and ``lanes``, to give every thread its share of the processor.

    Yields:
        One prediction for each picture. Its ``seconds`` are the time in which the picture was opened and its
        faces cut out, and its crops' share of the time of their batches: not the time waited in between.
    """
    finish = _Finish(card=card, revision=revision, threshold=threshold, on_error=on_error, how=how)
    entries: deque[_Entry] = deque()  # pictures in order, the next to be handed out first
    source, ended, ahead = _Source(images), False, (lanes + 2) * batch_size + workers
    with _Crew(look, forward, size=batch_size, workers=workers, lanes=lanes, join=join) as crew:
        while True:
            while not ended and len(entries) < ahead and not (entries and entries[0].is_scored):
                entry = source.pull()
                ended = entry is None or entry.broken_source
                if entry is not None:
                    entries.append(entry)
                    crew.take(entry)
            if not entries:
                return
            crew.wait_for(entries[0])
            yield finish(entries.popleft())


@dataclass(slots=True, kw_only=True, eq=False)
class _Entry:
    """A picture on its way from the caller to its prediction."""

    name: str
    taken: Taken | None = None
    look: Look | None = None
    error: Exception | None = None
    broken_source: bool = False
    seconds: float = 0.0
    logits: list[FaceLogits] = field(default_factory=list)
    missing: int = -1  # logits to come; -1 until its faces are cut out

    @property
    def is_scored(self) -> bool:
        return self.missing == 0


class _Crew:
    """The threads, and the faces that wait for the model.

    Args:
        look: See `stream_predictions`.
        forward: See there.
        size: Faces in a batch.
        workers: Threads; 0 works in the thread of the caller.
        lanes: Batches at the same time.
        join: See there.
    """

    def __init__(
        self,
        look: Callable[[Taken], Look],
        forward: Callable[[Sequence[View]], Sequence[FaceLogits]],
        *,
        size: int,
        workers: int,
        lanes: int,
        join: Callable[..., None] | None = None,
    ) -> None:
        self.look, self.forward, self.size, self.free_lanes = look, forward, size, lanes
        self.todo: deque[tuple[_Entry, int, View]] = deque()  # faces that wait: picture, number, pixels
        self.looking = 0
        self.halved = False
        self.warning: str | None = None
        self.fault: BaseException | None = None
        self.changed = threading.Condition()
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="deepfake-detect") if workers else None
        if self.pool and join:
            join(self.pool, workers=workers, lanes=lanes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)

    def take(self, entry: _Entry) -> None:
        """Have a picture looked at, and scored when there is a batch."""
        with self.changed:
            self.looking += 1
        self._do(self._look, entry)

    def wait_for(self, entry: _Entry) -> None:
        """Wait until a picture is scored; what waits for a full batch in vain is computed as it is."""
        while not entry.is_scored:
            with self.changed:
                self.changed.wait_for(lambda: entry.is_scored or self.fault or self._is_stuck())
                stuck = self._is_stuck() and not (entry.is_scored or self.fault)
            self._report()
            if stuck:
                self._do(self._run_batches, 1)
        self._report()

    def _is_stuck(self) -> bool:
        return not self.looking and self.free_lanes > 0 and len(self.todo) > 0

    def _report(self) -> None:
        if self.warning:
            text, self.warning = self.warning, None
            warnings.warn(text, RuntimeWarning, stacklevel=4)
        if self.fault:
            raise self.fault

    def _do(self, work: Callable[[Any], None], argument: Any) -> None:
        if self.pool:
            self.pool.submit(self._guarded, work, argument)
        else:
            self._guarded(work, argument)

    def _guarded(self, work: Callable[[Any], None], argument: Any) -> None:
        try:
            work(argument)
        except BaseException as error:  # raised where the caller waits
            with self.changed:
                self.fault = error
                self.changed.notify_all()

    def _look(self, entry: _Entry) -> None:
        start = time.perf_counter()
        if entry.taken is not None:
            try:
                entry.look = self.look(entry.taken)
            except Exception as error:  # handed to the caller in the order of the pictures
                entry.error = error
        views = entry.look.views if entry.look else ()
        with self.changed:
            entry.seconds += time.perf_counter() - start
            entry.logits = [FaceLogits(0.0)] * len(views)
            entry.missing = len(views)
            self.todo.extend((entry, which, view) for which, view in enumerate(views))
            self.looking -= 1
            self.changed.notify_all()
        self._run_batches(self.size)

    def _run_batches(self, least: int) -> None:
        """Run the model as long as a lane is free and at least so many faces wait."""
        while True:
            with self.changed:
                if not self.free_lanes or len(self.todo) < min(least, self.size):
                    return
                chosen = [self.todo.popleft() for _ in range(min(self.size, len(self.todo)))]
                self.free_lanes -= 1
            start = time.perf_counter()
            try:
                logits = self._logits([view for _, _, view in chosen])
            finally:
                with self.changed:
                    self.free_lanes += 1
            share = (time.perf_counter() - start) / len(chosen)
            with self.changed:
                for (entry, which, _), each in zip(chosen, logits, strict=True):
                    entry.logits[which] = each
                    entry.missing -= 1
                    entry.seconds += share
                self.changed.notify_all()

    def _logits(self, views: list[View]) -> Sequence[FaceLogits]:
        try:
            return self.forward(views)
        except RuntimeError as error:
            if self.halved or len(views) < 2 or not is_out_of_memory(error):
                raise
        half = (len(views) + 1) // 2
        with self.changed:
            self.halved, self.size = True, half
            self.warning = (
                f"the device has no memory for {len(views)} faces at once; going on with {half}: "
                f"pass batch_size={half} to avoid this"
            )
        free_memory()
        return [*self.forward(views[:half]), *self.forward(views[half:])]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finish:
    """Make an entry a prediction, or raise its error."""

    card: Card
    revision: str | None
    threshold: float | None
    on_error: OnError
    how: Callable[[], dict[str, str]]

    def __call__(self, entry: _Entry) -> Prediction:
        if entry.look is not None and entry.error is None:
            try:
                return self._prediction(entry, entry.look)
            except DeepfakeDetectError as error:
                entry.error = error
        if self.on_error == "yield" and isinstance(entry.error, DeepfakeDetectError) and not entry.broken_source:
            return self._failed(entry, entry.error)
        raise entry.error or RuntimeError(f"{entry.name} was not looked at")

    def _prediction(self, entry: _Entry, look: Look) -> Prediction:
        how = self.how()
        return compose_prediction(
            look,
            entry.logits,
            card=self.card,
            revision=self.revision,
            threshold=self.threshold,
            seconds=entry.seconds,
            backend=how.get("backend", "torch"),
            dtype=how.get("dtype", "float32"),
        )

    def _failed(self, entry: _Entry, error: DeepfakeDetectError) -> Prediction:
        how = self.how()
        return Prediction(
            name=entry.name,
            source=entry.taken.source if entry.taken else None,
            size_hw=None,
            label="error",
            error=error,
            threshold=self.card.threshold if self.threshold is None else self.threshold,
            model=self.card.id,
            revision=self.revision,
            seconds=entry.seconds,
            backend=how.get("backend", "torch"),
            dtype=how.get("dtype", "float32"),
        )


class _Source:
    """The caller's pictures, taken over as they are pulled."""

    def __init__(self, images: Iterable[Any]) -> None:
        self._images = iter(images)
        self._runs_code = type(images) not in (list, tuple)  # between two pictures, and may write files anew

    def pull(self) -> _Entry | None:
        try:
            image = next(self._images)
        except StopIteration:
            return None
        except Exception as error:  # the caller's own: raised where it stands in the order
            return _Entry(name="", error=error, broken_source=True)
        try:
            taken = take_over(image, read_fresh=self._runs_code)
        except Exception as error:  # of this picture alone
            return _Entry(name=safe_name(image), error=error)
        return _Entry(name=taken.name, taken=taken)
