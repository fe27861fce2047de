import base64
import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deepfake_detect.errors import ImageTooLarge, ImageUnreadable
from deepfake_detect.inputs.source import describe_bytes, open_bytes

CONTENT = bytes(range(256))


class Site(BaseHTTPRequestHandler):
    """Answers /ok, /deaf (not found), /moved (to /ok) and /ftp (a redirect to another kind of address)."""

    asked: list[tuple[str, str | None]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["User-Agent"]))
        target = {"/moved": "/ok", "/ftp": "ftp://127.0.0.1/ok"}.get(self.path)
        self.send_response(302 if target else 404 if self.path == "/deaf" else 200)
        if target:
            self.send_header("Location", target)
        self.send_header("Content-Length", "0" if target else str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(b"" if target else CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Site.asked = []
    with HTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def content_of(image: object) -> bytes:
    with open_bytes(image, name="it") as file:
        assert file.tell() == 0 and file.seekable()
        return file.read()


def test_bytes_come_from_memory() -> None:
    for image in (CONTENT, bytearray(CONTENT), memoryview(CONTENT)):
        assert content_of(image) == CONTENT


def test_bytes_come_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "ä picture"
    path.write_bytes(CONTENT)
    assert content_of(path) == content_of(str(path)) == CONTENT


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        expected = {
            tmp_path / "pipe": "a named pipe, expected a file; read it and pass the bytes",
            tmp_path / "socket": "a socket, expected a file",
            tmp_path / "loop": "cannot be read .*symbolic links",
            Path("/dev/zero"): "a device, expected a file",
            Path("/dev/null"): "a device, expected a file",
        }
        for path, words in expected.items():
            with pytest.raises(ImageUnreadable, match=words):
                open_bytes(path, name=str(path))


def test_file_object_is_read_from_its_start() -> None:
    file = io.BytesIO(CONTENT)
    file.seek(100)
    assert content_of(file) == content_of(file) == CONTENT


def test_file_object_need_not_seek() -> None:
    class Stream:
        def read(self) -> bytes:
            return CONTENT

    assert content_of(Stream()) == CONTENT


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png;base64," + base64.b64encode(CONTENT).decode(),
        "DATA:image/png;name=a;BASE64," + base64.b64encode(CONTENT).decode().rstrip("="),
        "data:;base64," + base64.b64encode(CONTENT).decode().replace("+", "%2B").replace("/", "%2F"),
        "data:;base64," + base64.encodebytes(CONTENT).decode(),
        "data:application/octet-stream," + "".join(f"%{value:02x}" for value in CONTENT),
    ],
)
def test_data_uri_holds_its_bytes(uri: str) -> None:
    assert content_of(uri) == CONTENT


@pytest.mark.parametrize(
    ("uri", "found"), [("data:;base64,aaaa****", "damaged base64"), ("data:image/png", "no comma")]
)
def test_damaged_data_uri_is_refused(uri: str, found: str) -> None:
    with pytest.raises(ImageUnreadable, match=found):
        open_bytes(uri, name="it")


def test_url_is_downloaded(site: str) -> None:
    assert content_of(f"{site}/ok") == CONTENT
    assert content_of(site.replace("http", "HTTP") + "/moved?a=b") == CONTENT
    assert {agent for _, agent in Site.asked} == {"deepfake-detect"}


def test_url_may_hold_letters_that_must_be_quoted(site: str) -> None:
    assert content_of(f"{site}/ok ä%20+?q=1&r=[2]") == CONTENT
    assert Site.asked[-1][0] == "/ok%20%C3%A4%20+?q=1&r=[2]"


def test_url_that_does_not_answer_well_is_named(site: str) -> None:
    with pytest.raises(ImageUnreadable, match=r"the-name: the server answered 404 Not Found"):
        open_bytes(f"{site}/deaf", name="the-name")


def test_host_that_cannot_be_reached_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        with pytest.raises(ImageUnreadable, match=r"the-name: cannot be reached \(.*refused"):
            open_bytes(f"http://127.0.0.1:{taken.getsockname()[1]}/", name="the-name")


def test_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepfake_detect.inputs.download.TIME_LIMIT_S", 0.05)
    started = time.perf_counter()
    timed_out = pytest.raises(ImageUnreadable, match=r"not complete within 0\.05 s")
    with socket.create_server(("127.0.0.1", 0)) as silent, timed_out:
        open_bytes(f"http://127.0.0.1:{silent.getsockname()[1]}/", name="it")
    assert time.perf_counter() - started < 5


def test_download_ends_at_its_limit(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepfake_detect.inputs.download.MAX_BYTES", len(CONTENT))
    assert content_of(f"{site}/ok") == CONTENT
    monkeypatch.setattr("deepfake_detect.inputs.download.MAX_BYTES", len(CONTENT) - 1)
    with pytest.raises(ImageTooLarge, match="more than 255 bytes"):
        open_bytes(f"{site}/ok", name="it")


def test_only_web_addresses_are_fetched(site: str) -> None:
    for url in ("ftp://127.0.0.1/a.jpg", "file:///etc/hosts", "s3://bucket/a.jpg"):
        with pytest.raises(ImageUnreadable, match="addresses are not read"):
            open_bytes(url, name=url)
    with pytest.raises(ImageUnreadable, match="unknown url type: ftp"):
        open_bytes(f"{site}/ftp", name="it")


def test_missing_file_says_so_and_nothing_else() -> None:
    with pytest.raises(ImageUnreadable) as caught:
        open_bytes("/no/such/photo.jpg", name="/no/such/photo.jpg")
    assert str(caught.value) == "/no/such/photo.jpg: no such file"


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (Path(__file__).parent, "a folder, expected a picture"),
        ("", "an empty string is no path"),
        ("a\0b", "cannot be read"),
        ("A" * 9999, "cannot be read"),
        (io.StringIO("text"), "read.. gave str, expected bytes; open it with mode 'rb'"),
        (None, "cv2.imread"),
        (["a.jpg"], "list is no kind of picture.*one by one"),
        (3.5, "float is no kind of picture, expected a path, URL"),
    ],
)
def test_what_holds_no_bytes_is_refused(image: object, found: str) -> None:
    with pytest.raises(ImageUnreadable, match=found):
        open_bytes(image, name="it")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\n<!DOCTYPE HTML><html>", "an HTML page"),
        (b"\xef\xbb\xbf<?xml version=", "an XML or SVG file"),
        (b"PK\x03\x04\x14", "a ZIP archive or an office document"),
        (b"\x1aE\xdf\xa3", "a WebM or Matroska video"),
        (b"\0\0\0\x18ftypisom\0\0", "an MP4 or QuickTime video"),
        (b"RIFF\0\0\0\0AVI LIST", "an AVI video"),
        (b"RIFF\0\0\0\0WEBP", None),
        (b"\0\0\0\x18ftypavif\0\0", None),
        (b"hello,\n  you", 'text: "hello, you"'),
        ("ä".encode() * 40 + "ä".encode()[:1], 'text: "' + "ä" * 40 + '"'),
        (b"a" * 64, 'text: "' + "a" * 40 + '..."'),
        (b"\0\1\2\3", None),
        (b"\xff\xfe\xfd", None),
    ],
)
def test_bytes_are_described(head: bytes, words: str | None) -> None:
    assert describe_bytes(head) == words


def test_a_closed_file_and_one_that_fails_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(CONTENT)
    with (tmp_path / "a.jpg").open("rb") as file:
        pass
    with pytest.raises(ImageUnreadable, match="it: a closed file; open it again"):
        open_bytes(file, name="it")

    class Broken:
        def read(self) -> bytes:
            raise RuntimeError("no more paper")

    with pytest.raises(ImageUnreadable, match=r"read\(\) failed \(RuntimeError: no more paper\)"):
        open_bytes(Broken(), name="it")
