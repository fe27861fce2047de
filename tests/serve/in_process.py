"""A server without a network: its application runs in a thread of this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from deepfake_detect.detector import Detector
from deepfake_detect.serve.app import create_app
from deepfake_detect.serve.service import Service
from deepfake_detect.serve.settings import ServeSettings


class InProcess(httpx2.BaseTransport):
    """Answers requests of an httpx client by an ASGI application."""

    def __init__(self, app: Any) -> None:
        self.app, self.loop = app, asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._inner = httpx2.ASGITransport(app=app, raise_app_exceptions=False)

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=60)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return self.run(self._answer(request, request.read()))

    async def _answer(self, request: httpx2.Request, body: bytes) -> httpx2.Response:
        sent = httpx2.Request(request.method, request.url, headers=request.headers, content=body)
        answer = await self._inner.handle_async_request(sent)
        return httpx2.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

    @contextmanager
    def running(self) -> Iterator[InProcess]:
        """Start the application and its event loop, and stop both."""
        self._thread.start()
        received: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        sent: asyncio.Queue[dict[str, str]] = asyncio.Queue()

        async def step(kind: str) -> dict[str, str]:
            await received.put({"type": f"lifespan.{kind}"})
            return await sent.get()

        ended = asyncio.run_coroutine_threadsafe(
            self.app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, received.get, sent.put), self.loop
        )
        try:
            assert self.run(step("startup"))["type"] == "lifespan.startup.complete"
            yield self
            assert self.run(step("shutdown"))["type"] == "lifespan.shutdown.complete"
            ended.result(timeout=10)
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


@contextmanager
def server(detectors: dict[str, Detector], **settings: Any) -> Iterator[tuple[httpx2.Client, Service, InProcess]]:
    """Start a server, and give an HTTP client of it, what it holds, and its transport."""
    app: Any = create_app(ServeSettings(**settings), detectors=detectors)
    with (
        InProcess(app).running() as transport,
        httpx2.Client(transport=transport, base_url="http://localhost") as client,
    ):
        yield client, app.app.state.service, transport
