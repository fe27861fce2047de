"""Score videos in the background, one at a time, and keep their results for a while.

What is known of a job is a JSON file in a folder that all worker processes share, so that any of them can answer for
it. The video itself is an unnamed file, which is gone when it is closed, whatever becomes of the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.serve.refusals import Refusal, busy, refusal_of
from deepfake_detect.serve.settings import Limits
from deepfake_detect.system.atomic import whole_file
from deepfake_detect.video.predict import predict_video

_ID = re.compile(r"[0-9a-f]{32}")
_HEARTBEAT_S = 60.0  # a job that says nothing for so long was lost with its process
_EVERY_S = 0.5


@dataclass(slots=True, eq=False)
class VideoWork:
    """A video that is to be scored, and how.

    Attributes:
        file: The video; closed when it is scored.
        name: As the client calls it.
        detector: The model.
        options: ``max_frames``, ``every_s``, ``faces`` and ``threshold`` of `predict_video`.
    """

    file: IO[bytes]
    name: str
    detector: Predictor
    options: dict[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


class VideoJobs:
    """The videos of this process, and what all processes know of theirs.

    Args:
        folder: Shared by the worker processes.
        limits: See `Limits`.
    """

    def __init__(self, folder: Path, *, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="deepfake-detect-video")
        self._lock = threading.Lock()
        self._open: set[str] = set()
        self._stopping = False

    def start(self, work: VideoWork) -> dict[str, Any]:
        """Queue a video.

        Returns:
            The job, as `status` gives it.

        Raises:
            Refusal: There are too many.
        """
        self._forget_old()
        with self._lock:
            if self._stopping or len(self._open) >= self._limits.videos:
                raise busy("QueueFull", f"{len(self._open)} videos are waiting or being scored; try again later")
            self._open.add(work.id)
        job = self._write(work.id, status="waiting")
        self._pool.submit(self._run, work)
        return job

    def status(self, job_id: str) -> dict[str, Any]:
        """Return a job: ``id``, ``status``, ``progress``, ``result`` and ``error``.

        Raises:
            Refusal: There is none of that id, or no more.
        """
        path = self._path(job_id)
        try:
            age = time.time() - path.stat().st_mtime
            job: dict[str, Any] = json.loads(path.read_bytes())
        except OSError:
            raise _unknown(job_id) from None
        if job["status"] in ("waiting", "running") and age > _HEARTBEAT_S and job_id not in self._open:
            lost = {"type": "Lost", "message": "the process that scored the video has ended; send it again"}
            return {**job, "status": "failed", "error": lost}
        return job

    def forget(self, job_id: str) -> None:
        """Delete a job; one that is running ends at the next frame.

        Raises:
            Refusal: There is none of that id.
        """
        try:
            self._path(job_id).unlink()
        except OSError:
            raise _unknown(job_id) from None

    def close(self, *, wait: bool) -> None:
        """Finish what was accepted, or only what is running."""
        with self._lock:
            self._stopping = True
        self._pool.shutdown(wait=wait, cancel_futures=not wait)

    def _run(self, work: VideoWork) -> None:
        try:
            self._score(work)
        except Exception as error:
            refusal = refusal_of(error)
            text = {"type": refusal.kind, "message": refusal.message.replace(_path_of(work.file), work.name)}
            with contextlib.suppress(_Forgotten):
                self._update(work.id, status="failed", error=text)
        finally:
            work.file.close()
            with self._lock:
                self._open.discard(work.id)

    def _score(self, work: VideoWork) -> None:
        self._update(work.id, status="running")
        counted = _Counted(work.detector, lambda share: self._update(work.id, status="running", progress=share))
        counted.deadline = time.monotonic() + self._limits.video_seconds
        with _as_path(work.file) as path:
            video = predict_video(cast(Predictor, counted), path, **work.options)
            result = {**video.to_dict(), "name": work.name}
            if result["error"]:
                result["error"]["message"] = result["error"]["message"].replace(path, work.name)
        self._update(work.id, status="done", progress=1.0, result=result)

    def _update(self, job_id: str, **changes: Any) -> None:
        if not self._path(job_id).exists():
            raise _Forgotten
        self._write(job_id, **changes)
        with self._lock:
            waiting = list(self._open)
        for other in waiting:
            with contextlib.suppress(OSError):  # forgotten
                os.utime(self._path(other))

    def _write(
        self, job_id: str, *, status: str, progress: float = 0.0, result: Any = None, error: Any = None
    ) -> dict[str, Any]:
        job = {"id": job_id, "status": status, "progress": round(progress, 4), "result": result, "error": error}
        path = self._path(job_id)
        with whole_file(path, flush=False) as partial:
            partial.write_text(json.dumps(job, allow_nan=False), encoding="utf-8")
        return job

    def _path(self, job_id: str) -> Path:
        if not _ID.fullmatch(job_id):
            raise _unknown(job_id)
        return self._folder / f"{job_id}.json"

    def _forget_old(self) -> None:
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(OSError):  # another process was faster
                if time.time() - path.stat().st_mtime > self._limits.result_seconds:
                    path.unlink()


class _Forgotten(DeepfakeDetectError):
    """The client has deleted the job."""


class _Counted:
    """A predictor that reports how many frames of a video it has scored, and ends at the deadline."""

    deadline: float

    def __init__(self, detector: Predictor, report: Any) -> None:
        self.card, self._detector, self._report = detector.card, detector, report

    def predict_many(self, frames: Iterable[Any], **options: Any) -> Generator[Prediction, None, None]:
        total, reported = getattr(frames, "asked", 0), time.monotonic()
        with contextlib.closing(self._detector.predict_many(frames, **options)) as predictions:
            for number, prediction in enumerate(predictions, 1):
                now = time.monotonic()
                if now > self.deadline:
                    raise DeepfakeDetectError(
                        f"the video was not scored in time, {number - 1} of {total} frames were; ask for fewer frames"
                    )
                if now - reported > _EVERY_S:
                    self._report(min(0.99, number / max(total, 1)))
                    reported = now
                yield prediction


@contextlib.contextmanager
def _as_path(file: IO[bytes]) -> Iterator[str]:
    """Give a path by which an unnamed file can be opened; a copy of it where the system has no such path."""
    path = _path_of(file)
    file.flush()
    if os.path.exists(path):
        yield path
        return
    file.seek(0)
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "video")
        with open(copy, "wb") as target:
            shutil.copyfileobj(file, target)
        yield copy


def _path_of(file: IO[bytes]) -> str:
    return f"/proc/self/fd/{file.fileno()}"


def _unknown(job_id: str) -> Refusal:
    return Refusal(404, "NotFound", f"no video job {job_id[:40]!r}; it may have been deleted, or too long ago")
