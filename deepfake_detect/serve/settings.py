"""Settings of the server: where it listens, which models it holds, and the limits of every request."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from deepfake_detect._options import check_number
from deepfake_detect.errors import InvalidOption
from deepfake_detect.serve.keys import read_keys

KEYS_VARIABLE = "DEEPFAKE_DETECT_API_KEYS"
"""Environment variable with API keys, separated by commas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request, and all requests together, may take.

    Attributes:
        picture_bytes: Bytes of one picture.
        request_bytes: Bytes of the body of one request.
        video_bytes: Bytes of a video.
        held_bytes: Bytes of all bodies that are held at a time.
        pixels: Pixels of one picture; checked in its header, before it is decoded.
        pictures: Pictures in one request.
        queue: Pictures that are waiting or being scored; a request beyond that is refused with 503.
        seconds: Time for an answer, from the first byte of the request.
        upload_seconds: Time for the body of a request to arrive.
        header_seconds: Time for the headers of a request to arrive.
        connections: Connections at a time.
        videos: Videos that are waiting or being scored.
        video_seconds: Time for one video.
        result_seconds: How long the result of a video can be fetched.
    """

    picture_bytes: int = 32 * 2**20
    request_bytes: int = 64 * 2**20
    video_bytes: int = 512 * 2**20
    held_bytes: int = 512 * 2**20
    pixels: int = 100_000_000
    pictures: int = 32
    queue: int = 128
    seconds: float = 60.0
    upload_seconds: float = 60.0
    header_seconds: float = 10.0
    connections: int = 512
    videos: int = 4
    video_seconds: float = 600.0
    result_seconds: float = 3600.0

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if limit.name.endswith("seconds"):
                check_number(limit.name, value, above=0)
            else:
                check_number(limit.name, value, low=1, whole=True)
        if self.pictures > self.queue:
            raise InvalidOption(f"pictures is {self.pictures}, expected at most the length of the queue, {self.queue}")
        if self.request_bytes > self.held_bytes:
            raise InvalidOption(
                f"held_bytes is {self.held_bytes}, expected at least request_bytes, {self.request_bytes}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Settings of a server.

    Attributes:
        models: Names, folders or Hub repositories, as for `Detector.from_pretrained`; the first is the default.
        device: As for `Predictor`.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        workers: Processes, each with a copy of the models.
        threads: Threads of each process that open pictures and run the models; None takes one more than processors.
        limits: See `Limits`.
        keys: API keys, one of which every request under ``/v1`` and of ``/metrics`` must carry; empty asks for none.
        origins: Web origins, such as ``https://example.com``, whose pages may use the server (CORS).
        hosts: Names by which the server may be addressed; empty takes any, on a loopback address only its names.
        fetch_urls: Whether pictures may be given by their address; only public addresses are opened.
        stop_seconds: Time to finish what was accepted when the server is stopped.
        shared_folder: Folder of the jobs of all worker processes; None makes one for this process.
    """

    models: tuple[str, ...] = ("xception-fakefaces",)
    device: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    threads: int | None = None
    limits: Limits = field(default_factory=Limits)
    keys: tuple[str, ...] = field(default=(), repr=False)
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    fetch_urls: bool = True
    stop_seconds: float = 30.0
    shared_folder: str | None = None

    def __post_init__(self) -> None:
        check_number("port", self.port, low=0, high=65535, whole=True)
        check_number("workers", self.workers, low=1, high=256, whole=True)
        check_number("threads", self.threads, low=1, high=256, whole=True, optional=True)
        check_number("stop_seconds", self.stop_seconds, low=0)
        if not self.models:
            raise InvalidOption("models is empty, expected at least one name, folder or Hub repository")
        for origin in self.origins:
            if origin != "null" and "://" not in origin:
                raise InvalidOption(f"origin is {origin!r}, expected a web origin such as https://example.com")

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Names by which the server may be addressed; empty where any will do.

        On a loopback address a page on the internet could reach the server by a name of its own that resolves to this
        machine (DNS rebinding), and read the answers.
        """
        if self.hosts or not is_loopback(self.host):
            return frozenset(host.lower() for host in self.hosts)
        return frozenset({"localhost", "127.0.0.1", "[::1]", self.host.lower()})


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def collect_keys(
    keys_file: Path | None, *, host: str, open_to_all: bool, environment: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Collect the API keys of a file and of the environment.

    Args:
        keys_file: A key on each line; lines that begin with # are comments.
        host: Address to listen on: without keys it must be a loopback address.
        open_to_all: Listen on any address without keys.
        environment: Holds `KEYS_VARIABLE`; None takes that of the process.

    Raises:
        InvalidOption: The file cannot be read, a key is too short, or there is none and ``host`` needs one.
    """
    keys = read_keys(keys_file, (os.environ if environment is None else environment).get(KEYS_VARIABLE, ""))
    if not keys and not open_to_all and not is_loopback(host):
        raise InvalidOption(
            f"host {host} can be reached by others, and there are no API keys; pass --keys FILE, set {KEYS_VARIABLE}, "
            "or pass --open to serve everybody"
        )
    return keys
