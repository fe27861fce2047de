"""Test that a download is bounded in time, complete, and restricted to allowed addresses."""

from __future__ import annotations

import _socket
import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deepfake_detect.errors import ImageTooLarge, ImageUnreadable
from deepfake_detect.inputs import download
from deepfake_detect.inputs.download import hide_credentials, is_public, read_url
from deepfake_detect.inputs.image import name_image, open_image

Answer = Callable[[socket.socket], None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], tuple[str, list[bytes]]]]:
    """Start servers of one behaviour each: gives the address, and what was asked."""
    monkeypatch.setenv("NO_PROXY", "*")
    servers: list[socket.socket] = []

    def start(answer: Answer) -> tuple[str, list[bytes]]:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        asked: list[bytes] = []

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(65536))
                    try:
                        answer(connection)
                    except OSError:
                        continue  # the client hung up

        threading.Thread(target=run, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}", asked

    yield start
    for server in servers:
        server.close()


def reply(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    head = "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode()
    return lambda connection: connection.sendall(head + body)


def drip(start: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    return answer


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 2",
        b"",
    ],
    ids=["body", "body without end", "header", "status", "nothing"],
)
def test_a_server_that_drips_is_given_up(serve: Any, start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIME_LIMIT_S", 0.4)
    url, _ = serve(drip(start))
    began = time.monotonic()
    with pytest.raises(ImageUnreadable, match=r"it: not complete within 0\.4 s"):
        read_url(url, name="it")
    assert time.monotonic() - began < 10


def test_redirects_share_one_deadline(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIME_LIMIT_S", 0.5)
    hops = 0

    def answer(connection: socket.socket) -> None:
        nonlocal hops
        hops += 1
        time.sleep(0.2)
        reply(b"", f"Location: /{hops}", "Content-Length: 0", status="302 Found")(connection)

    with pytest.raises(ImageUnreadable, match="not complete within"):
        read_url(serve(answer)[0], name="it")
    assert hops <= 4


def test_half_a_body_is_an_error(serve: Any) -> None:
    url, _ = serve(reply(b"x" * 100, "Content-Length: 250"))
    with pytest.raises(ImageUnreadable, match="the server sent 100 bytes of 250; try again"):
        read_url(url, name="it")
    url, _ = serve(reply(b"40\r\n" + b"x" * 20, "Transfer-Encoding: chunked"))
    with pytest.raises(ImageUnreadable, match="cannot be reached"):
        read_url(url, name="it")


def test_a_body_that_will_be_too_large_is_refused_at_once(serve: Any) -> None:
    url, _ = serve(reply(b"", f"Content-Length: {2**40}"))
    with pytest.raises(ImageTooLarge, match="more than 67,108,864 bytes"):
        read_url(url, name="it")


@pytest.mark.parametrize(
    "url", ["http://[::1/x", "http://", "http:///a.jpg", "http://a:b@host:port/", "http://host:99999/", "http://h:0/"]
)
def test_an_address_that_cannot_be_parsed_is_named(url: str) -> None:
    with pytest.raises(ImageUnreadable, match="not a valid address; expected http://host/path") as caught:
        open_image(url)
    assert "a:b" not in str(caught.value) and caught.value.__cause__ is None


def test_credentials_are_sent_to_the_first_server_and_stand_nowhere(serve: Any) -> None:
    second, asked_second = serve(reply(b"", "Content-Length: 0", status="404 Not Found"))
    first, asked_first = serve(reply(b"", f"Location: {second}/a.jpg", "Content-Length: 0", status="302 Found"))
    url = first.replace("http://", "http://me:p%40ss@") + "/a.jpg?token=abc&size=1"
    with pytest.raises(ImageUnreadable, match="404") as caught:
        open_image(url)
    code = base64.b64encode(b"me:p@ss")
    assert b"Authorization: Basic " + code in asked_first[0] and b"token=abc" in asked_first[0]
    assert b"Authorization" not in asked_second[0]
    for secret in ("me:", "p%40ss", "p@ss", "abc"):
        assert secret not in str(caught.value) and secret not in name_image(url)
    assert "size=1" in str(caught.value)


def test_hidden_credentials() -> None:
    assert hide_credentials("https://host/a.jpg?size=1") == "https://host/a.jpg?size=1"
    assert hide_credentials("https://u@host/a@b.jpg") == "https://host/a@b.jpg"
    assert (
        hide_credentials("http://h/?X-Amz-Credential=x&b=2&sig=y#z") == "http://h/?X-Amz-Credential=...&b=2&sig=...#z"
    )


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("100.100.100.200", False),
        ("168.63.129.16", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("::7f00:1", False),
        ("::ffff:0:7f00:1", False),
        ("64:ff9b::5db8:d70e", True),
        ("64:ff9b:1::7f00:1", False),
        ("2001:4860::5efe:a00:1", False),
        ("2001:4860::200:5efe:a00:1", False),
        ("2001:0:7f00:1::", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("fec0::1", False),
        ("5f00::1", False),
        ("4000::1", False),
        ("ff0e::1", False),
        ("192.0.0.8", False),
        ("192.88.99.1", False),
        ("198.18.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_public_only_refuses_this_machine(serve: Any) -> None:
    url, asked = serve(reply(b"secret", "Content-Length: 6"))
    assert read_url(url, name="it") == b"secret"
    for host in (url, url.replace("127.0.0.1", "localhost"), url.replace("127.0.0.1", "2130706433")):
        with pytest.raises(ImageUnreadable, match=r"no public address; only public|cannot be reached"):
            read_url(host, name="it", public_only=True)
    with pytest.raises(ImageUnreadable, match="no public address"):
        open_image(url, public_only=True)
    assert len(asked) == 1


def test_a_redirect_from_a_public_address_to_this_machine_is_refused(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, asked_inner = serve(reply(b"secret", "Content-Length: 6"))
    outer, _ = serve(reply(b"", f"Location: {inner}", "Content-Length: 0", status="302 Found"))
    assert read_url(outer, name="it") == b"secret"  # from this machine to this machine
    monkeypatch.setattr(download, "is_public", lambda address: address == "127.0.0.7")
    real = socket.getaddrinfo

    def resolve(host: str, port: int, **options: Any) -> Any:
        if host != "public.example":
            return real(host, port, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.7", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with socket.create_server(("127.0.0.7", 0)) as server:

        def redirect() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                reply(b"", f"Location: {inner}", "Content-Length: 0", status="302 Found")(connection)

        thread = threading.Thread(target=redirect)
        thread.start()
        with pytest.raises(ImageUnreadable, match=r"127\.0\.0\.1 is no public address; a public address redirects"):
            read_url(f"http://public.example:{server.getsockname()[1]}/", name="it")
        thread.join()
    assert len(asked_inner) == 1


def test_a_name_with_one_local_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("93.184.215.14", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    with pytest.raises(ImageUnreadable, match=r"twofold\.example is no public address"):
        read_url("http://twofold.example/", name="it", public_only=True)


HOSTILE = [  # addresses that lead to this machine or its network, each in a form that has fooled somebody
    "http://127.0.0.1/",
    "http://127.0.0.1:22/",
    "http://127.1/",
    "http://127.000.000.001/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://[::]/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1%25lo]/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://0xa9fea9fe/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://10.0.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://me.localhost/",
    "http://public.example@127.0.0.1/",
    "http://public.example:80@127.0.0.1:80/",
    "http://127.0.0.1#@public.example/",
    "http://127.0.0.1?@public.example/",
    "http://127.0.0.1/@public.example",
    "http://\u2460\u2461\u2466.0.0.1/",
    "http://127\u30020\u30020\u30021/",
    "https://127.0.0.1/",
    "http://inside.example/",
    "http://half.example/",
]


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Resolve some names as an attacker would, and record every connection in place of making it."""
    made: list[Any] = []
    names = {
        "public.example": ["93.184.215.14"],
        "inside.example": ["10.1.2.3"],
        "half.example": ["93.184.215.14", "127.0.0.1"],
        "localhost": ["127.0.0.1"],
        "me.localhost": ["127.0.0.1"],
    }

    def resolve(host: str, port: int, **options: Any) -> Any:
        known = names.get(host.rstrip(".").lower())
        if known is None:
            return _socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)  # asks nobody
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known]

    class Recorded:
        def __init__(self, *_: Any) -> None: ...

        def settimeout(self, _: float) -> None: ...

        def close(self) -> None: ...

        def connect(self, address: Any) -> None:
            made.append(address)
            raise ConnectionRefusedError("recorded")

    monkeypatch.setattr(download.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(download.socket, "socket", Recorded)
    return made


@pytest.mark.parametrize("url", HOSTILE)
def test_an_address_that_leads_inside_is_never_connected_to(url: str, connections: list[Any]) -> None:
    with pytest.raises(ImageUnreadable, match=r"no public address|not a valid address|cannot be reached"):
        read_url(url, name="it", public_only=True)
    assert connections == []


def test_a_public_address_is_connected_to(connections: list[Any]) -> None:
    for url in ("http://public.example/", "http://127.0.0.1@public.example:8080/", "http://PUBLIC.example./"):
        with pytest.raises(ImageUnreadable, match="cannot be reached"):
            read_url(url, name="it", public_only=True)
    assert connections == [("93.184.215.14", 80), ("93.184.215.14", 8080), ("93.184.215.14", 80)]


@pytest.mark.parametrize(
    "url", ["ftp://public.example/", "file:///etc/passwd", "gopher://127.0.0.1/", "jar:http://x!/"]
)
def test_other_schemes_are_not_opened(url: str, connections: list[Any]) -> None:
    with pytest.raises(ImageUnreadable):
        open_image(url, public_only=True)
    assert connections == []


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2:{port}/",
        "//127.0.0.2:{port}/",
        "http://2130706434:{port}/",
        "http://rebinds.example:{port}/",
        "file:///etc/passwd",
        "ftp://public.example/",
        "data:,secret",
    ],
)
def test_a_redirect_inside_is_refused_at_every_hop(serve: Any, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """127.0.0.1 stands for a public address; a name resolves to it once, and then to another (DNS rebinding)."""
    answered: list[str] = []

    def resolve(host: str, port: int, **options: Any) -> Any:
        answered.append(host)
        rebound = host == "rebinds.example"
        inner = rebound or host in ("127.0.0.2", "2130706434")
        address = "127.0.0.2" if inner else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(download, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(download.socket, "getaddrinfo", resolve)
    inner, asked_inner = serve(reply(b"secret", "Content-Length: 6"))
    port = inner.rpartition(":")[2]
    location = target.format(port=port)
    second, _ = serve(reply(b"", f"Location: {location}", "Content-Length: 0", status="302 Found"))
    first, _ = serve(reply(b"", f"Location: {second}", "Content-Length: 0", status="307 Temporary Redirect"))
    with pytest.raises(ImageUnreadable):
        read_url(first.replace("127.0.0.1", "public.example"), name="it", public_only=True)
    assert asked_inner == []


def test_a_name_is_looked_up_once(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes to the address that was checked, whatever the name means a moment later."""
    url, asked = serve(reply(b"picture", "Content-Length: 7"))
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    def resolve(host: str, port: int, **options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers.pop(0)]

    monkeypatch.setattr(download, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(download.socket, "getaddrinfo", resolve)
    assert read_url(url.replace("127.0.0.1", "rebinds.example"), name="it", public_only=True) == b"picture"
    assert len(asked) == 1 and len(answers) == 1


def test_redirects_in_a_ring_end(serve: Any) -> None:
    hops: list[int] = []

    def answer(connection: socket.socket) -> None:
        hops.append(1)
        reply(b"", f"Location: /{len(hops)}", "Content-Length: 0", status="302 Found")(connection)

    with pytest.raises(ImageUnreadable):
        read_url(serve(answer)[0], name="it")
    assert len(hops) == download.MAX_REDIRECTS + 1


def test_limits_can_be_given(serve: Any) -> None:
    with pytest.raises(ImageTooLarge, match="more than 5 bytes"):
        read_url(serve(reply(b"picture", "Content-Length: 7"))[0], name="it", max_bytes=5)
    with pytest.raises(ImageUnreadable, match=r"not complete within 0\.2 s"):
        read_url(serve(drip(b""))[0], name="it", time_limit_s=0.2)
