"""A worker that stands in for a real one; a module of its own, so that a new process is there at once."""

from __future__ import annotations

import os
import socket
import sys

from deepfake_detect.serve.processes import FAILED_TO_START
from deepfake_detect.serve.settings import ServeSettings


def say_pid(settings: ServeSettings, listener: socket.socket, figures: str) -> None:
    """Answer every connection with the number of the process."""
    if settings.models == ("broken",):
        sys.exit(FAILED_TO_START)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(str(os.getpid()).encode())
