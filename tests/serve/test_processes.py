"""Does a real server close slow connections, end what it began, and replace workers that die?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner

from deepfake_detect.cli.main import main
from deepfake_detect.detector import Detector
from deepfake_detect.errors import InvalidOption, MissingExtra
from deepfake_detect.serve import processes
from deepfake_detect.serve.app import create_app
from deepfake_detect.serve.keys import read_keys
from deepfake_detect.serve.processes import FAILED_TO_START, Supervisor, bind, make_server, require_server
from deepfake_detect.serve.settings import Limits, ServeSettings, collect_keys
from tests.serve.stand_in import say_pid
from tests.small_world import PORTRAIT, small_detector

KEY = "a-long-secret-key"


@pytest.fixture(scope="module")
def detector() -> Detector:
    return small_detector()


@pytest.fixture
def running(detector: Detector) -> Iterator[tuple[int, Any, Any]]:
    """Start uvicorn on a port of its own; gives the port, the server, and what it holds."""
    settings = ServeSettings(port=0, limits=Limits(header_seconds=0.4), stop_seconds=10)
    app: Any = create_app(settings, detectors={"small": detector})
    server = make_server(app, settings)
    with bind(settings) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: server.started)
        yield listener.getsockname()[1], server, app.app.state.service
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def talk(port: int, data: bytes) -> bytes:
    """Send some bytes, and return all that comes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, connection.makefile("rb") as file:
        connection.sendall(data)
        return file.read()


def wait_until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_real_server(running: tuple[int, Any, Any], detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    port, server, service = running
    url = f"http://127.0.0.1:{port}"
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    assert talk(port, b"") == b"" and talk(port, request) == b""  # headers that do not come, or never end
    answer = talk(port, request + b"\r\n" + request)
    assert answer.startswith(b"HTTP/1.1 200 OK") and answer.endswith(b'{"status":"ok"}')

    gate, real = threading.Event(), detector.look

    def look(*image: Any, **options: Any) -> Any:
        gate.wait(10)
        return real(*image, **options)

    monkeypatch.setattr(detector, "look", look)
    answers: list[int] = []
    asked = threading.Thread(
        target=lambda: answers.append(
            httpx2.post(f"{url}/v1/predict", files={"images": PORTRAIT.read_bytes()}, timeout=20).status_code
        )
    )
    asked.start()
    wait_until(lambda: service.queue == 1)
    server.should_exit = True  # what SIGTERM does
    wait_until(lambda: not any(listener.is_serving() for listener in server.servers))
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"{url}/healthz")
    gate.set()
    asked.join(20)
    assert answers == [200]


def test_a_killed_worker_is_replaced_and_all_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_RESTART_S", 0.01)
    monkeypatch.setattr(processes, "_log_as_json", lambda: None)
    monkeypatch.setattr(
        signal, "signal", lambda number, handler: None
    )  # the supervisor does not run in the main thread
    settings = ServeSettings(port=0, workers=2)
    with bind(settings) as listener:
        supervisor = Supervisor(settings, listener, str(tmp_path), work=say_pid)
        statuses: list[int] = []
        thread = threading.Thread(target=lambda: statuses.append(supervisor.run()))
        thread.start()

        def pid() -> int:
            with socket.create_connection(listener.getsockname(), timeout=20) as connection:
                return int(connection.recv(20))

        first = pid()
        os.kill(first, signal.SIGKILL)
        seen: set[int] = set()

        def ask() -> bool:
            with suppress(ValueError, ConnectionError):  # the killed worker had taken the connection
                seen.add(pid())
            return len(seen - {first}) == 2

        try:
            wait_until(ask)
        finally:
            supervisor._on_signal(signal.SIGTERM, None)
            thread.join(20)
        assert statuses == [0]
        for worker in seen - {first}:
            with pytest.raises(ProcessLookupError):
                os.kill(worker, 0)


def test_workers_that_cannot_start_end_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_log_as_json", lambda: None)
    settings = ServeSettings(port=0, workers=2, models=("broken",))
    with bind(settings) as listener:
        assert Supervisor(settings, listener, str(tmp_path), work=say_pid).run() == FAILED_TO_START


def test_keys_are_needed_where_others_reach_the_server(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of the page\n{KEY}\n\n{KEY}\n")
    more = {"DEEPFAKE_DETECT_API_KEYS": "another-long-key-1,another-long-key-2"}
    assert collect_keys(file, host="0.0.0.0", open_to_all=False, environment={}) == (KEY,)
    assert collect_keys(file, host="::", open_to_all=False, environment=more)[1:] == (
        "another-long-key-1",
        "another-long-key-2",
    )
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        assert collect_keys(None, host=host, open_to_all=False, environment={}) == ()
    assert collect_keys(None, host="0.0.0.0", open_to_all=True, environment={}) == ()
    with pytest.raises(InvalidOption, match=r"host 0\.0\.0\.0 can be reached by others, and there are no API keys"):
        collect_keys(None, host="0.0.0.0", open_to_all=False, environment={})
    with pytest.raises(InvalidOption, match="an API key of 5 characters"):
        read_keys(None, "short")
    with pytest.raises(InvalidOption, match="cannot be read"):
        read_keys(tmp_path / "gone")


def test_settings_are_checked() -> None:
    for wrong in ({"queue": 0}, {"seconds": 0}, {"queue": 2, "pictures": 3}, {"held_bytes": 5}):
        with pytest.raises(InvalidOption):
            Limits(**wrong)  # type: ignore[arg-type]
    for changes in ({"models": ()}, {"origins": ("example.com",)}, {"workers": 0}):
        with pytest.raises(InvalidOption):
            ServeSettings(**changes)  # type: ignore[arg-type]
    assert KEY not in repr(ServeSettings(keys=(KEY,)))


def test_the_command_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    served = []
    monkeypatch.setattr(processes, "run_server", lambda settings, announce: served.append(settings) or 0)
    arguments = "--host 0.0.0.0 --open --port 0 --model meso4-fakefaces --workers 2 --origin https://e.org --no-urls"
    result = CliRunner().invoke(main, ["serve", *arguments.split(), "--limit", "queue=64", "--limit", "seconds=2.5"])
    assert result.exit_code == 0, result.output
    (settings,) = served
    assert (settings.host, settings.workers, settings.models) == ("0.0.0.0", 2, ("meso4-fakefaces",))
    assert (settings.origins, settings.fetch_urls) == (("https://e.org",), False)
    assert (settings.limits.queue, settings.limits.seconds) == (64, 2.5)
    for wrong, message in {
        "--host 0.0.0.0": "there are no API keys",
        "--limit quee=3": "no such limit; did you mean 'queue'?",
        "--limit queue=many": "expected a number after queue=",
        "--model meso5-fakefaces": "did you mean 'meso4-fakefaces'?",
        "--host 192.0.2.1 --open": "cannot listen on 192.0.2.1",
    }.items():
        if "192" in wrong:
            monkeypatch.undo()
        result = CliRunner().invoke(main, ["serve", *wrong.split()])
        assert result.exit_code == 2 and message in " ".join(result.output.split()), result.output


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(MissingExtra, match=r"the server needs fastapi; run: pip install 'deepfake-detect\[server\]'"):
        require_server()


def test_help_loads_neither_the_server_nor_torch() -> None:
    code = "import sys; from deepfake_detect.cli.main import main\n"
    code += "try: main(['serve', '--help'])\nexcept SystemExit: pass\n"
    code += "import deepfake_detect\nprint(sorted({'fastapi', 'torch', 'uvicorn', 'httpx2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n") and "--workers" in done.stdout
