"""Refuse a request: status, name of the error, and what to do; and the status of the library's own errors."""

from __future__ import annotations

from collections.abc import Mapping

from deepfake_detect.errors import DeepfakeDetectError, ImageTooLarge, InvalidOption, UnknownWeights

RETRY_AFTER_S = 1
"""Seconds after which a client may come back, where the server has too much to do."""


class Refusal(Exception):
    """A request that is not served.

    Args:
        status: HTTP status.
        kind: Name of the error.
        message: What was found, what was expected, what to do.
        headers: Of the answer.
    """

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, dict(headers or {})


def busy(kind: str, message: str) -> Refusal:
    """Make a refusal for now: the same request may be served later."""
    return Refusal(503, kind, message, {"Retry-After": str(RETRY_AFTER_S)})


def refusal_of(error: Exception) -> Refusal:
    """Make a refusal of an error: the library's own with its message, any other without."""
    if isinstance(error, Refusal):
        return error
    for kind, status in {ImageTooLarge: 413, InvalidOption: 400, UnknownWeights: 404}.items():
        if isinstance(error, kind):
            return Refusal(status, type(error).__name__, str(error))
    if isinstance(error, DeepfakeDetectError):
        return Refusal(422, type(error).__name__, str(error))
    return Refusal(500, "InternalError", "the server failed; its log has the reason under this request's id")
