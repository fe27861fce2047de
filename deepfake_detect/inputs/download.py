"""Download a picture over http or https: bounded in time, in bytes, and in the addresses that may be reached."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import ipaddress
import queue
import re
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, Any
from urllib import request
from urllib.error import HTTPError
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from deepfake_detect.errors import DeepfakeDetectError, ImageTooLarge, ImageUnreadable

TIME_LIMIT_S = 15.0
"""Seconds for a download in all: name lookup, connection, redirects, headers and body."""

MAX_BYTES = 64 * 2**20
"""Most bytes that a download may have."""

MAX_REDIRECTS = 5
"""Most redirects that a download follows."""

_SECRET = re.compile(r"(?i)([?&;][^=&;]*(?:token|sig|key|secret|pass|pwd|cred|auth|session)[^=&;]*=)[^&;#]*")
_USER_INFO = re.compile(r"(?i)^([a-z][a-z0-9+.-]*:)?//[^/?#]*@")
_UNICAST = ipaddress.ip_network("2000::/3")  # all that is assigned to the public internet; NAT64 and 6to4 are embedded
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SPECIAL = tuple(  # some of these count as global in Python's tables, depending on its version
    ipaddress.ip_network(network)
    for network in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")
)  # Azure's metadata service; protocol assignments; 6to4 relays; protocol assignments; documentation
_ISATAP = (0x5EFE, 0x0200_5EFE)  # upper half of an interface identifier whose lower half is an IPv4 address

_Entry = tuple[Any, Any, int, str, Any]  # of socket.getaddrinfo
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def read_url(
    url: str,
    *,
    name: str,
    public_only: bool = False,
    max_bytes: int | None = None,
    time_limit_s: float | None = None,
) -> bytes:
    """Download what stands behind an http or https address.

    A redirect from a public address to one of the local machine or network is refused: else a stranger's server
    could have this process read what only the process can reach. User and password in the address are sent as
    basic authentication, to the first server alone.

    Args:
        url: The address; letters that an address may not hold are quoted.
        name: Stands for it in error messages.
        public_only: Refuse every address that is not public, for servers that open addresses of strangers: the name
            is looked up once and the connection goes to the address that was checked, past any proxy.
        max_bytes: Most bytes of the body; None takes `MAX_BYTES`.
        time_limit_s: Seconds for all of it; None takes `TIME_LIMIT_S`.

    Returns:
        The body.

    Raises:
        ImageUnreadable: No such address, refused, not answered in time, or answered with an error or half a body.
        ImageTooLarge: More than ``max_bytes``.
    """
    parts = _split(url, name)
    watch = _Watch(public_only=public_only, time_limit_s=TIME_LIMIT_S if time_limit_s is None else time_limit_s)
    try:
        content = _read(_opener(watch), _request(parts), name, MAX_BYTES if max_bytes is None else max_bytes)
        watch.check()  # what was cut off may look complete
        return content
    except HTTPError as error:
        error.close()
        raise ImageUnreadable(f"{name}: the server answered {error.code} {error.reason}; check the address") from None
    except (OSError, HTTPException, ValueError) as error:
        if watch.is_over():
            raise ImageUnreadable(
                f"{name}: not complete within {watch.time_limit_s:g} s; download it yourself and pass the path"
            ) from None
        reason = getattr(error, "reason", None) or error  # urllib wraps what a connection raises
        if isinstance(error, DeepfakeDetectError):
            raise
        if isinstance(reason, _Refused):
            raise ImageUnreadable(f"{name}: {reason}") from None
        raise ImageUnreadable(
            f"{name}: cannot be reached ({hide_credentials(str(reason))}); check the address and the network"
        ) from None
    finally:
        watch.stop()


def hide_credentials(address: str) -> str:
    """Take user, password and the values of secret parameters out of an address, for messages.

    Example:
        >>> hide_credentials("https://me:secret@host/a.jpg?size=1&X-Amz-Signature=abc")
        'https://host/a.jpg?size=1&X-Amz-Signature=...'
    """
    return _SECRET.sub(r"\1...", _USER_INFO.sub(r"\1//", address))


def is_public(address: str) -> bool:
    """Tell whether an IP address belongs to the public internet, and to no cloud's metadata service.

    Example:
        >>> is_public("93.184.215.14"), is_public("::ffff:10.0.0.1"), is_public("169.254.169.254")
        (True, False, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _UNICAST and ip not in _NAT64:
        return False
    return all(_is_global(part) for part in (ip, *_embedded(ip)))


def _is_global(ip: _Address) -> bool:
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _SPECIAL)


def _embedded(ip: _Address) -> Iterable[_Address]:
    """Return the IPv4 addresses that an IPv6 address leads to."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ()
    lower = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    is_tunnel = ip in _NAT64 or (int(ip) >> 32) & 0xFFFFFFFF in _ISATAP
    return [part for part in (ip.sixtofour, lower if is_tunnel else None) if part is not None]


def _split(url: str, name: str) -> SplitResult:
    with contextlib.suppress(ValueError):  # its text may hold the password
        parts = urlsplit(url)
        if parts.hostname and (parts.port is None or parts.port > 0):
            return parts
    raise ImageUnreadable(f"{name}: not a valid address; expected http://host/path or https://host/path")


def _request(parts: SplitResult) -> request.Request:
    user_info, _, host = parts.netloc.rpartition("@")
    address = urlunsplit(parts._replace(netloc=host.encode("idna").decode() if not host.isascii() else host))
    req = request.Request(quote(address, safe="%/:=&?~#+!$,;'@()*[]"), headers={"User-Agent": "deepfake-detect"})
    if user_info:
        code = base64.b64encode(unquote(user_info).encode()).decode()
        req.add_unredirected_header("Authorization", f"Basic {code}")
    return req


def _read(opener: request.OpenerDirector, req: request.Request, name: str, max_bytes: int) -> bytes:
    with opener.open(req) as response:
        stated = response.headers.get("Content-Length")
        if stated and stated.isdecimal() and int(stated) > max_bytes:
            raise _too_large(name, max_bytes)
        content: bytes = response.read(max_bytes + 1)
        missing = response.length or 0
    if len(content) > max_bytes:
        raise _too_large(name, max_bytes)
    if missing:
        raise ImageUnreadable(
            f"{name}: the server sent {len(content):,} bytes of {len(content) + missing:,}; try again"
        )
    return content


def _too_large(name: str, max_bytes: int) -> ImageTooLarge:
    return ImageTooLarge(f"{name}: more than {max_bytes:,} bytes; download it and pass the path")


class _Watch:
    """The connections of one download: where they may lead, and that they end at the deadline."""

    def __init__(self, *, public_only: bool, time_limit_s: float) -> None:
        self.public_only, self._must_be_public, self.time_limit_s = public_only, public_only, time_limit_s
        self._deadline = time.monotonic() + time_limit_s
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(time_limit_s, self._shut_down)  # a slow server restarts every socket timeout
        self._timer.daemon = True
        self._timer.start()

    def is_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def check(self) -> None:
        if self.is_over():
            raise TimeoutError("timed out")

    def stop(self) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def connect(self, address: tuple[str, int], *_: Any) -> socket.socket:
        """Connect to an address that is allowed; takes what `socket.create_connection` takes."""
        entries = self._look_up(*address)
        self._check(address[0], entries)
        return self._connect(entries)

    def connect_to_proxy(self, address: tuple[str, int], *_: Any) -> socket.socket:
        return self._connect(self._look_up(*address))

    def check_redirect(self, old: str, new: str) -> None:
        """Refuse a redirect from a public address to another kind, where a proxy connects."""
        try:
            before, after = self._look_up(old, 80), self._look_up(new, 80)
        except OSError:  # the proxy may know names that are unknown here
            return
        self._must_be_public = self._must_be_public or _all_public(before)
        self._check(new, after)

    def _check(self, host: str, entries: Sequence[_Entry]) -> None:
        public = _all_public(entries)
        if self._must_be_public and not public:
            why = "only public addresses are opened" if self.public_only else "a public address redirects there"
            raise _Refused(f"{host} is no public address; {why}")
        self._must_be_public = public  # and so must be what it redirects to

    def _connect(self, entries: Sequence[_Entry]) -> socket.socket:
        problem: OSError = OSError("no address")
        for family, kind, protocol, _, address in entries:
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(self._remaining_s())
                connection.connect(address)
                with self._lock:
                    self._connections.append(connection.dup())
                self.check()
                return connection
            except OSError as error:
                connection.close()
                problem = error
        raise problem

    def _remaining_s(self) -> float:
        self.check()
        return max(1e-3, self._deadline - time.monotonic())

    def _look_up(self, host: str, port: int) -> Sequence[_Entry]:
        """Resolve a name in a thread of its own, since that cannot be interrupted."""
        result: queue.SimpleQueue[Sequence[_Entry] | Exception] = queue.SimpleQueue()

        def resolve() -> None:
            try:
                result.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except Exception as error:  # raised where the caller waits
                result.put(error)

        threading.Thread(target=resolve, daemon=True).start()
        try:
            answer = result.get(timeout=self._remaining_s())
        except queue.Empty:
            raise TimeoutError("timed out") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _shut_down(self) -> None:
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # closed already
                    connection.shutdown(socket.SHUT_RDWR)


class _Refused(OSError):
    """The address may not be opened."""


def _all_public(entries: Sequence[_Entry]) -> bool:
    return all(is_public(str(entry[4][0])) for entry in entries)


class _Http(request.HTTPHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def http_open(self, req: request.Request) -> HTTPResponse:
        return self.do_open(functools.partial(_connection, http.client.HTTPConnection, self.watch, req), req)


class _Https(request.HTTPSHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def https_open(self, req: request.Request) -> HTTPResponse:
        return self.do_open(functools.partial(_connection, http.client.HTTPSConnection, self.watch, req), req)


def _connection(
    kind: type[http.client.HTTPConnection], watch: _Watch, req: request.Request, host: str, **options: Any
) -> http.client.HTTPConnection:
    connection: Any = kind(host, **options)
    proxied = req.has_proxy() or getattr(req, "_tunnel_host", None)
    connection._create_connection = watch.connect_to_proxy if proxied else watch.connect
    return connection  # type: ignore[no-any-return]


class _Redirects(request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS

    def __init__(self, watch: _Watch) -> None:
        self.watch = watch

    def redirect_request(
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> request.Request | None:
        if req.has_proxy() or getattr(req, "_tunnel_host", None):
            self.watch.check_redirect(urlsplit(req.full_url).hostname or "", urlsplit(newurl).hostname or "")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(watch: _Watch) -> request.OpenerDirector:
    """Make an opener for http and https alone; ``build_opener`` would also follow a redirect to ftp."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler({} if watch.public_only else None),
        request.UnknownHandler(),
        _Http(watch),
        _Https(watch),
        request.HTTPDefaultErrorHandler(),
        _Redirects(watch),
        request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
