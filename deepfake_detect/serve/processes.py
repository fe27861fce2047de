"""Run the server: one process, or several that share a port and are replaced when they die."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import TYPE_CHECKING

from deepfake_detect.errors import InvalidOption, MissingExtra
from deepfake_detect.serve.settings import ServeSettings

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

logger = logging.getLogger("deepfake_detect.serve")

FAILED_TO_START = 3
"""Exit status of a worker that could not start, as uvicorn gives it."""

_HEADERS_BYTES = 32 * 2**10
_BACKLOG = 512
_KEEP_ALIVE_S = 30  # longer than clients keep idle connections (httpx: 5 s), so that these are not closed under them
_RESTART_S = 1.0  # at most one new worker in that time for each that died
_OWN_THREADS = ("deepfake-detect-serve", "deepfake-detect-heavy", "deepfake-detect-video")


def require_server() -> None:
    """Check that the extra ``[server]`` is installed.

    Raises:
        MissingExtra: It is not.
    """
    try:
        import fastapi  # noqa: F401
        import fastapi_offline  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"the server needs {error.name or 'fastapi'}; run: pip install 'deepfake-detect[server]'"
        ) from error


def run_server(settings: ServeSettings, *, announce: Callable[[str], None] | None = None) -> int:
    """Serve until SIGINT or SIGTERM, then finish what was accepted.

    Args:
        settings: See `ServeSettings`.
        announce: Called with the address once the port is taken.

    Returns:
        The exit status: 0, or that of workers that cannot start.

    Raises:
        MissingExtra: The extra ``[server]`` is not installed.
        InvalidOption: The address cannot be listened on.
    """
    require_server()
    with closing(bind(settings)) as listener:
        if announce is not None:
            announce(_address(settings.host, listener))
        if settings.workers == 1:
            return _run_worker(settings, listener)
        with tempfile.TemporaryDirectory(prefix="deepfake-detect-serve-") as folder:
            return Supervisor(settings, listener, folder, work=_work).run()


class Supervisor:
    """Starts worker processes, replaces those that die, and stops them all.

    Args:
        settings: See `ServeSettings`.
        listener: The socket that all workers accept connections from.
        folder: For the video jobs and figures of all workers.
        work: What a worker does: called in a new process with the settings, the socket and the folder of figures.
    """

    def __init__(
        self, settings: ServeSettings, listener: socket.socket, folder: str, *, work: Callable[..., None]
    ) -> None:
        self._settings, self._listener, self._work = settings, listener, work
        self._figures, jobs = os.path.join(folder, "figures"), os.path.join(folder, "jobs")
        os.mkdir(self._figures)
        os.mkdir(jobs)
        self._worker_settings = replace(settings, shared_folder=jobs)
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[SpawnProcess] = []
        self._stopping, self._status = threading.Event(), 0

    def run(self) -> int:
        """Run the workers until SIGINT or SIGTERM, and return the exit status."""
        _log_as_json()
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._workers = [self._start() for _ in range(self._settings.workers)]
            while not self._stopping.is_set():
                wait([worker.sentinel for worker in self._workers], timeout=0.5)
                self._replace_dead()
            self._stop_all()
        finally:
            for worker in self._workers:
                worker.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._status

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()

    def _start(self) -> SpawnProcess:
        arguments = (self._worker_settings, self._listener, self._figures)
        worker = self._context.Process(target=self._work, args=arguments, name="deepfake-detect-worker")
        worker.start()
        return worker

    def _replace_dead(self) -> None:
        for place, worker in enumerate(self._workers):
            if worker.exitcode is None or self._stopping.is_set():
                continue
            self._forget_figures(worker)
            if worker.exitcode == FAILED_TO_START:
                logger.error("worker %d could not start", worker.pid)
                self._status = FAILED_TO_START
                self._stopping.set()
                return
            logger.error("worker %d has died with status %d; it is replaced", worker.pid, worker.exitcode)
            self._stopping.wait(_RESTART_S)
            self._workers[place] = self._start()

    def _forget_figures(self, worker: SpawnProcess) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid, path=self._figures)  # type: ignore[no-untyped-call]

    def _stop_all(self) -> None:
        deadline = time.monotonic() + self._settings.stop_seconds + 10
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))


def _work(settings: ServeSettings, listener: socket.socket, figures: str) -> None:
    """Run one of several workers, in a process of its own."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = figures  # before prometheus_client is imported
    parent = multiprocessing.parent_process()

    def follow_parent() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow_parent, daemon=True).start()
    sys.exit(_run_worker(settings, listener))


def _run_worker(settings: ServeSettings, listener: socket.socket) -> int:
    from deepfake_detect.serve.app import create_app

    _log_as_json()
    server = make_server(create_app(settings), settings)
    try:
        server.run(sockets=[listener])
    except SystemExit as error:  # the models could not be loaded: the log says why
        return int(error.code or 0)
    except KeyboardInterrupt:  # raised anew by uvicorn after it has stopped
        return 0
    return 0


def make_server(app: ASGIApp, settings: ServeSettings) -> uvicorn.Server:
    """Make the HTTP server of an application, with its limits on connections, headers and time."""
    import uvicorn

    from deepfake_detect.serve.protocol import protocol_with_deadline

    config = uvicorn.Config(
        app,
        http=protocol_with_deadline(settings.limits.header_seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=settings.limits.connections,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
        h11_max_incomplete_event_size=_HEADERS_BYTES,
    )
    return uvicorn.Server(config)


def bind(settings: ServeSettings) -> socket.socket:
    """Take the port.

    Raises:
        InvalidOption: The address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    host = settings.host.strip("[]")
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, settings.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise InvalidOption(
            f"cannot listen on {settings.host}, port {settings.port} ({error.strerror or error}); "
            "choose another with --host and --port"
        ) from None
    listener.set_inheritable(True)
    return listener


def _address(host: str, listener: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def _log_as_json() -> None:
    """Write the log of this process to standard error, a line of JSON for each record."""
    from deepfake_detect.serve.gate import JsonFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_is_no_picture)
    logging.captureWarnings(True)
    for name in ("deepfake_detect", "uvicorn", "py.warnings"):
        logging.getLogger(name).handlers[:] = [handler]
        logging.getLogger(name).setLevel(logging.INFO)


def _is_no_picture(record: logging.LogRecord) -> bool:
    """Drop what the library logs about single pictures, whose names are nobody's business."""
    return record.name != "deepfake_detect" or not str(record.threadName).startswith(_OWN_THREADS)
