"""Hold the models of a server, and score, explain and inspect pictures within its limits."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from deepfake_detect.detector import Detector
from deepfake_detect.errors import DeepfakeDetectError, ImageTooLarge, UnknownWeights, nearest
from deepfake_detect.inputs.download import hide_credentials, read_url
from deepfake_detect.inputs.formats import named_errors, open_file
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.serve.metrics import Metrics
from deepfake_detect.serve.refusals import Refusal, busy, refusal_of
from deepfake_detect.serve.scorer import Job, Outcome, Scorer
from deepfake_detect.serve.settings import ServeSettings
from deepfake_detect.serve.videos import VideoJobs

Answer = TypeVar("Answer")

_FETCHES = 8  # downloads at a time
_HEAVY = 1  # explanations and measurements of stability at a time


@dataclass(slots=True, eq=False)
class Sent:
    """A picture as a client has sent it.

    Attributes:
        name: Stands for it in the answer.
        content: Its file.
        url: Where to fetch the file, in place of that.
        error: Why it cannot be scored, where that is known already.
    """

    name: str
    content: bytes = b""
    url: str | None = None
    error: DeepfakeDetectError | None = None


@dataclass(slots=True, eq=False)
class Hold:
    """What one request holds of the server's memory and queue.

    Attributes:
        pictures: Its places in the queue.
        held_bytes: Bytes of its body.
    """

    service: Service
    pictures: int = 0
    held_bytes: int = 0

    def add_bytes(self, count: int) -> None:
        """Hold more bytes.

        Raises:
            Refusal: Those of all requests together would be too many.
        """
        if self.service.held_bytes + count > self.service.limits.held_bytes:
            raise busy("QueueFull", "the server holds as many bytes as it may; try again later")
        self.service.held_bytes += count
        self.held_bytes += count

    def add_pictures(self, count: int) -> None:
        """Take places in the queue.

        Raises:
            Refusal: There are not as many.
        """
        self.service.refuse_if_busy(count)
        self.service.queue += count
        self.pictures += count

    def release(self) -> None:
        """Give everything back."""
        self.service.queue -= self.pictures
        self.service.held_bytes -= self.held_bytes
        self.pictures = self.held_bytes = 0


class Service:
    """The models of one process, and their queues. Its methods are called by the event loop.

    Args:
        settings: See `ServeSettings`.
        detectors: Name to detector, the default first; None loads those of the settings.
    """

    def __init__(self, settings: ServeSettings, *, detectors: dict[str, Detector] | None = None) -> None:
        self.settings, self.limits, self.metrics = settings, settings.limits, Metrics()
        self.queue = self.held_bytes = 0
        self.stopping = False
        self.detectors: dict[str, Detector] = detectors or {}
        self._scorers: dict[str, Scorer] = {}
        self.metrics.follow(queue=lambda: self.queue, held_bytes=lambda: self.held_bytes)

    def start(self) -> None:
        """Load the models, score a picture with each, and start the threads; takes seconds.

        Raises:
            DeepfakeDetectError: A model cannot be loaded.
        """
        for name in self.settings.models if not self.detectors else ():
            self.detectors[name] = Detector.from_pretrained(name, device=self.settings.device)
        for name, detector in self.detectors.items():
            scorer = Scorer(detector, threads=self.settings.threads, observe=self.metrics.observe)
            scorer.warm_up()
            self._scorers[name] = scorer
        self._fetchers = ThreadPoolExecutor(_FETCHES, thread_name_prefix="deepfake-detect-fetch")
        self._heavy = ThreadPoolExecutor(_HEAVY, thread_name_prefix="deepfake-detect-heavy")
        self._folder = tempfile.TemporaryDirectory(prefix="deepfake-detect-serve-")
        self.videos = VideoJobs(Path(self.settings.shared_folder or self._folder.name), limits=self.limits)

    def stop(self) -> None:
        """Finish what was accepted, and end the threads."""
        self.stopping = True
        for scorer in self._scorers.values():
            scorer.close()
        self._fetchers.shutdown()
        self._heavy.shutdown()
        self.videos.close(wait=True)
        self._folder.cleanup()

    def detector(self, name: str | None) -> tuple[str, Detector]:
        """Return a model by its name or the id of its card, and its name; the default for None.

        Raises:
            UnknownWeights: There is none; the message offers the nearest name.
        """
        if name is None:
            return next(iter(self.detectors.items()))
        for known, detector in self.detectors.items():
            if name in (known, detector.card.id):
                return known, detector
        raise UnknownWeights(f"no model called {name[:100]!r} on this server{nearest(name[:100], self.detectors)}")

    def refuse_if_busy(self, count: int = 1) -> None:
        """Refuse a request that the queue has no room for.

        Raises:
            Refusal: It has not, or the server is being stopped.
        """
        if self.stopping:
            raise busy("Stopping", "the server is being stopped; try another one, or again later")
        if self.queue + count > self.limits.queue:
            raise busy("QueueFull", f"{self.queue} pictures are waiting or being scored; try again later")

    @contextmanager
    def hold(self) -> Iterator[Hold]:
        """Account for what one request holds, until it is answered."""
        hold = Hold(self)
        try:
            yield hold
        finally:
            hold.release()

    async def fetch(self, pictures: Sequence[Sent], hold: Hold) -> None:
        """Download the pictures that are given by their address, several at a time.

        Raises:
            Refusal: The server fetches none.
        """
        wanted = [picture for picture in pictures if picture.url is not None]
        if wanted and not self.settings.fetch_urls:
            raise Refusal(400, "UrlsRefused", "this server fetches no addresses; send the file itself")
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._fetchers, self._fetch, picture) for picture in wanted))
        hold.add_bytes(sum(len(picture.content) for picture in wanted))

    async def predict(self, pictures: Sequence[Sent], *, model: str | None, **options: Any) -> list[Outcome]:
        """Score pictures, each in its place; an error stands for one that cannot be scored.

        Cancelling this drops the work that is left.
        """
        name, detector = self.detector(model)
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Outcome]] = [loop.create_future() for _ in pictures]
        jobs = []
        for picture, future in zip(pictures, futures, strict=True):
            if picture.error is not None:
                future.set_result(picture.error)
                continue
            job = Job(open=partial(self.open, picture), done=partial(_hand_over, loop, future), **options)
            jobs.append(job)
            self._scorers[name].submit(job)
        try:
            outcomes = await asyncio.gather(*futures)
        finally:
            for job in jobs:
                job.cancelled = True  # where it is finished, this changes nothing
        for outcome in outcomes:
            label = outcome.label if isinstance(outcome, Prediction) else "error"
            self.metrics.pictures.labels(detector.card.id, label).inc()
        return outcomes

    async def run_heavy(self, work: Callable[[], Answer]) -> Answer:
        """Run what takes a processor for seconds, one at a time, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._heavy, work)

    def open(self, picture: Sent) -> io.BytesIO:
        """Give the file of a picture, whose size in pixels is checked, to the library.

        Raises:
            DeepfakeDetectError: It is too large, or no picture.
        """
        if picture.error is not None:
            raise picture.error
        check_pixels(picture.content, name=picture.name, max_pixels=self.limits.pixels)
        return _named(picture)

    def _fetch(self, picture: Sent) -> None:
        try:
            picture.content = read_url(
                picture.url or "",
                name=picture.name,
                public_only=True,
                max_bytes=self.limits.picture_bytes,
                time_limit_s=min(15.0, self.limits.seconds),
            )
        except DeepfakeDetectError as error:
            picture.error = error


def check_pixels(content: bytes, *, name: str, max_pixels: int) -> None:
    """Refuse a picture by the size in its header, before anything is decoded.

    Raises:
        ImageTooLarge: It has too many pixels.
        ImageUnreadable: It is no picture.
    """
    head = content[:64]
    if not head:
        return  # the library says so
    with named_errors(name, "header"):
        width, height = open_file(io.BytesIO(content), head, name).size
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{name}: {width:,} x {height:,} is {width * height:,} pixels, the limit is {max_pixels:,}; "
            "make the picture smaller"
        )


def name_of(url: str) -> str:
    """Return an address as it stands in answers: without passwords and signatures."""
    return hide_credentials(url)


def failed_prediction(
    picture: Sent, error: Exception, *, detector: Detector, threshold: float | None
) -> dict[str, Any]:
    """Return what stands in the place of a picture that could not be scored, as ``on_error="yield"`` gives it."""
    card, refusal = detector.card, refusal_of(error)
    prediction = Prediction(
        name=picture.name,
        label="error",
        size_hw=None,
        threshold=card.threshold if threshold is None else threshold,
        model=card.id,
        revision=detector.revision,
        seconds=0.0,
    )
    return {**prediction.to_dict(), "error": {"type": refusal.kind, "message": refusal.message}}


def _named(picture: Sent) -> io.BytesIO:
    file = io.BytesIO(picture.content)
    file.name = picture.name or "<upload>"
    return file


def _hand_over(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    loop.call_soon_threadsafe(_settle, future, outcome)


def _settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)
