"""Stand before every request: request ids, hosts, origins, API keys, one form of errors, figures and the log."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deepfake_detect.serve.keys import KeyCheck
from deepfake_detect.serve.metrics import Metrics
from deepfake_detect.serve.refusals import Refusal, refusal_of

access_log = logging.getLogger("deepfake_detect.serve.access")
logger = logging.getLogger("deepfake_detect.serve")

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
"""Paths that need no key; the files of the page of documentation neither."""

ASSETS = "/docs/"

_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_METHODS = "GET, POST, DELETE, OPTIONS"
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Gate:
    """An ASGI application that checks a request before it is passed on.

    Args:
        app: What answers.
        keys: See `ServeSettings`.
        origins: See there.
        hosts: Names by which the server may be addressed; empty takes any.
        metrics: Counts the answers.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Iterable[str], origins: Iterable[str], hosts: Iterable[str], metrics: Metrics
    ) -> None:
        self.app, self._keys, self._metrics = app, KeyCheck(keys), metrics
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = _Visit(scope, send, self._cors(Headers(scope=scope)))
        try:
            refusal = self._check(scope, visit.headers)
            if refusal is not None:
                await answer_refusal(refusal, scope, visit.send)
            elif scope["method"] == "OPTIONS" and "access-control-request-method" in visit.headers:
                await _answer(204, b"", {}, visit.send)
            else:
                await self.app(scope, receive, visit.send)
        except Exception as error:  # the application has answered it already, in its own form
            logger.error("request %s failed", visit.request_id, exc_info=error)
            if not visit.status:
                await answer_refusal(refusal_of(error), scope, visit.send)
        finally:
            self._record(visit)

    def _check(self, scope: Scope, headers: Headers) -> Refusal | None:
        host = _host_name(headers.get("host", ""))
        if self._hosts and host not in self._hosts:
            names = ", ".join(sorted(self._hosts))
            return Refusal(421, "WrongHost", f"the server is not called {host[:100]!r}; it is called {names}")
        origin = headers.get("origin")
        if origin is not None and not self._is_allowed(origin, headers):
            return Refusal(403, "OriginRefused", f"pages of {origin[:100]!r} may not use this server; see --origin")
        if not self._keys.is_needed or scope["path"] in OPEN_PATHS or scope["path"].startswith(ASSETS):
            return None
        if scope["method"] == "OPTIONS" or self._keys.allows(_key_of(headers)):
            return None
        expected = {"WWW-Authenticate": "Bearer"}
        return Refusal(401, "Unauthorized", "no valid API key; send it as Authorization: Bearer KEY", expected)

    def _is_allowed(self, origin: str, headers: Headers) -> bool:
        is_same = urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
        return is_same or origin.lower() in self._origins

    def _cors(self, headers: Headers) -> dict[str, str]:
        origin = headers.get("origin", "")
        if origin.lower() not in self._origins:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-ID",
            "Access-Control-Expose-Headers": "X-Request-ID, Retry-After",
            "Access-Control-Max-Age": "600",
            "Cross-Origin-Resource-Policy": "cross-origin",
            "Vary": "Origin",
        }

    def _record(self, visit: _Visit) -> None:
        seconds = time.perf_counter() - visit.start
        route = getattr(visit.scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, visit.method, str(visit.status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        self._metrics.refresh()
        client = visit.scope.get("client")
        facts = {
            "request_id": visit.request_id,
            "client": client[0] if client else None,
            "method": visit.method,
            "route": route,
            "status": visit.status,
            "seconds": round(seconds, 4),
            **visit.scope["state"].get("facts", {}),
        }
        access_log.info("request", extra={"facts": facts})


class _Visit:
    """One request on its way: its id, and the status that was sent."""

    def __init__(self, scope: Scope, send: Send, extra: dict[str, str]) -> None:
        self.scope, self._send, self.status, self.start = scope, send, 0, time.perf_counter()
        self.headers = Headers(scope=scope)
        wanted = self.headers.get("x-request-id", "")
        self.request_id = wanted if _REQUEST_ID.fullmatch(wanted) else uuid.uuid4().hex
        self.method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"
        scope.setdefault("state", {})["request_id"] = self.request_id
        scope["state"]["facts"] = {}
        self._extra = {**_SAFE, **extra, "X-Request-ID": self.request_id}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._extra.items():
                headers[name] = value
        await self._send(message)


async def answer_refusal(refusal: Refusal, scope: Scope, send: Send) -> None:
    """Send a refusal as JSON."""
    content = error_content(refusal, scope["state"]["request_id"])
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    await _answer(refusal.status, body, {"Content-Type": "application/json", **refusal.headers}, send)


def error_content(refusal: Refusal, request_id: str) -> dict[str, object]:
    """Return the JSON of a refusal: the error as it stands in a prediction, and the request's id."""
    return {"error": {"type": refusal.kind, "message": refusal.message}, "request_id": request_id}


class JsonFormatter(logging.Formatter):
    """Write each record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


async def _answer(status: int, body: bytes, headers: dict[str, str], send: Send) -> None:
    named = {**headers, "Content-Length": str(len(body))} if status != 204 else headers
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _host_name(host: str) -> str:
    name, _, port = host.strip().lower().rpartition(":")
    return name if name and port.isdecimal() and not name.endswith(":") else host.strip().lower()


def _key_of(headers: Headers) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None
