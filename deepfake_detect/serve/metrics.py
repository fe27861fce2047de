"""Count requests, pictures, verdicts and seconds for Prometheus."""

from __future__ import annotations

import os
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_FACES = (1, 2, 4, 8, 16, 32, 64, 128)

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of prometheus-client: folder in which several processes add up their figures."""


class Metrics:
    """The figures of a server. Each has a registry of its own, so that several servers may run in one process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "deepfake_detect_requests",
            "Requests that were answered.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self.pictures = Counter(
            "deepfake_detect_pictures",
            "Pictures that were scored, by verdict; error where one could not be read.",
            ["model", "label"],
            registry=self._registry,
        )
        self.request_seconds = Histogram(
            "deepfake_detect_request_seconds",
            "Seconds for an answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.stage_seconds = Histogram(
            "deepfake_detect_stage_seconds",
            "Seconds of each stage: upload and fetch of a request, queue and look of a picture, score of a batch.",
            ["stage"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batch_faces = Histogram(
            "deepfake_detect_batch_faces", "Faces in a batch.", buckets=_FACES, registry=self._registry
        )
        self._queue = Gauge(
            "deepfake_detect_queue",
            "Pictures that are waiting or being scored.",
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._held_bytes = Gauge(
            "deepfake_detect_held_bytes",
            "Bytes of the bodies that are held.",
            multiprocess_mode="livesum",
            registry=self._registry,
        )

    def observe(self, stage: str, value: float) -> None:
        """Add the seconds of a stage, or the faces of a batch; what a `Scorer` reports."""
        if stage == "batch":
            self.batch_faces.observe(value)
        else:
            self.stage_seconds.labels(stage).observe(value)

    def follow(self, *, queue: Callable[[], int], held_bytes: Callable[[], int]) -> None:
        """Set what the gauges show."""
        self._read = (queue, held_bytes)

    def refresh(self) -> None:
        """Set the gauges; called after each change where several processes add up their figures."""
        queue, held_bytes = self._read
        self._queue.set(queue())
        self._held_bytes.set(held_bytes())

    def render(self) -> bytes:
        """Return the figures in Prometheus' text format; those of all worker processes where there are several."""
        self.refresh()
        if os.environ.get(FOLDER_VARIABLE):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        return generate_latest(self._registry)
