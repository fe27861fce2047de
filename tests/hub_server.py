"""A Hub on this machine that speaks its protocol, with faults on demand; large files are on another port."""

import base64
import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub
import huggingface_hub.constants
import pytest
import yaml

LARGE = (".safetensors", ".onnx")


@dataclass
class Repo:
    """Commits by hash, and the branches and tags that point at them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    refusal: tuple[int, str, str] | None = None  # status, X-Error-Code, X-Error-Message
    readable_with: str | None = None
    writable_with: str | None = None

    def find(self, revision: str) -> str | None:
        commit = self.refs.get(revision, revision)
        return commit if commit in self.commits else None


@dataclass
class Request:
    """What a client asked for."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Fault:
    """What goes wrong with the next requests of a method whose path ends so."""

    method: str
    path_end: str
    act: str | int  # a status, or "drop", "cut", "hang", "portal"
    times: int = 1


class HubServer:
    """The Hub, and the host of its large files."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.on_answer: Callable[[Request], None] = lambda request: None
        self.connections: list[socket.socket] = []
        self.lock = threading.Lock()
        self._servers = [_serve(self, HubHandler), _serve(self, BlobHandler)]
        self.url, self.blob_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def commit(self, repo_id: str, files: dict[str, bytes], *, ref: str = "main") -> str:
        """Push files to a branch, beside those that are there."""
        repo = self.repos.setdefault(repo_id, Repo())
        parent = repo.commits.get(repo.refs.get(ref, repo.refs.get("main", "")), {})
        commit = hashlib.sha1(f"{repo_id} {len(repo.commits)}".encode()).hexdigest()
        repo.commits[commit] = {**parent, **files}
        repo.refs[ref] = commit
        for name, content in files.items():
            if name.endswith(LARGE):
                self.blobs.setdefault(hashlib.sha256(content).hexdigest(), content)
        return commit

    def fail(self, method: str, path_end: str, act: str | int, *, times: int = 1) -> None:
        """Let the next requests go wrong."""
        self.faults.append(Fault(method, path_end, act, times))

    def fault(self, method: str, path: str) -> str | int | None:
        """What is to go wrong with this request."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and path.endswith(fault.path_end):
                    fault.times -= 1
                    return fault.act
        return None

    def count(self, method: str, part: str) -> int:
        """How many requests of a method had this in their path."""
        return sum(request.method == method and part in request.path for request in self.requests)

    def stop(self) -> None:
        """Leave the network."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers = []
        for connection in self.connections:
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[HubServer]:
    """Start a Hub and point the client of this process at it, with its home in a folder and without its pauses.

    The client reads the environment on its import; what it read is replaced here.
    """
    server = HubServer()
    settings = {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_TOKEN_PATH": str(folder / "token"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
        "HF_HUB_OFFLINE": False,
    }
    for name, value in settings.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between tries: up to 23 s
    try:
        yield server
    finally:
        getattr(huggingface_hub, "close_session", lambda: huggingface_hub.utils.reset_sessions())()
        server.stop()


class Handler(BaseHTTPRequestHandler):
    """What both hosts share."""

    protocol_version = "HTTP/1.1"
    hub: HubServer

    def setup(self) -> None:
        super().setup()
        self.hub.connections.append(self.connection)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        self.route, self.query = unquote(url.path), parse_qs(url.query)
        self.request_seen = Request(
            self.command, self.route, {name.lower(): value for name, value in self.headers.items()}
        )
        self.hub.requests.append(self.request_seen)
        self.body = self.read_body()
        self.act = self.hub.fault(self.command, self.route)
        if self.act == "drop":
            self.close_connection = True
        elif self.act == "hang":
            threading.Event().wait(0.5)
            self.close_connection = True
        elif self.act == "portal":
            self.answer(200, b"<html>Please log in to the hotel's network</html>", {"Content-Type": "text/html"})
        elif isinstance(self.act, int):
            self.answer(self.act, b"")
        else:
            self.respond()

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815 - the names that http.server looks for

    def respond(self) -> None:
        raise NotImplementedError

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.hub.on_answer(self.request_seen)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.act == "cut":
            content, self.close_connection = content[: len(content) // 2], True
        self.wfile.write(content)

    def answer_json(self, value: object, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str, message: str = "") -> None:
        self.answer(status, b"", {"X-Error-Code": code, "X-Error-Message": message or code})


class BlobHandler(Handler):
    """Gives large files, whole or from a byte on, and takes them."""

    def respond(self) -> None:
        digest = self.route.rpartition("/")[2]
        if self.command == "PUT":
            self.hub.blobs[digest] = self.body
            return self.answer(200, b"")
        content = self.hub.blobs[digest]
        wanted = self.headers.get("Range")
        if wanted is None:
            return self.answer(200, content)
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        return self.answer(206, content[start:], {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"})


class HubHandler(Handler):
    """Gives files and facts, and takes commits."""

    def respond(self) -> None:
        match self.route.strip("/").split("/"):
            case [owner, name, "resolve", *rest]:
                self.resolve(f"{owner}/{name}", "/".join(rest))
            case ["api", "repos", "create"]:
                self.create()
            case ["api", "validate-yaml"]:
                self.validate_yaml()
            case ["api", "models", owner, name, *rest]:
                self.model(f"{owner}/{name}", *rest)
            case [owner, name, "info", "lfs", "objects", "batch"]:
                self.large_files()
            case _:
                self.answer(404, b"")

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def repo(self, repo_id: str) -> Repo | None:
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.readable_with and repo.readable_with != self.token):
            self.refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
            return None
        if repo.refusal:
            self.refuse(*repo.refusal)
            return None
        return repo

    def resolve(self, repo_id: str, rest: str) -> None:
        repo = self.repo(repo_id)
        if repo is None:
            return None
        revision = max((name for name in {*repo.refs, *repo.commits} if rest.startswith(f"{name}/")), default="")
        commit = repo.find(revision)
        if commit is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        content = repo.commits[commit].get(rest.removeprefix(f"{revision}/"))
        if content is None:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        facts = {"X-Repo-Commit": commit}
        if not rest.endswith(LARGE):
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            return self.answer(200, content, {**facts, "ETag": f'"{blob}"'})
        digest = hashlib.sha256(content).hexdigest()
        facts |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        return self.answer(302, b"", {**facts, "Location": f"{self.hub.blob_url}/blobs/{digest}"})

    def create(self) -> None:
        values = json.loads(self.body)
        repo_id = f"{values['organization']}/{values['name']}"
        existing = self.hub.repos.get(repo_id)
        if existing is None:
            private = values.get("private", values.get("visibility") == "private")  # before and from client 2.0 on
            self.hub.repos[repo_id] = Repo(private=private)
            self.hub.commit(repo_id, {".gitattributes": b""})
            return self.answer_json({"url": f"{self.hub.url}/{repo_id}"})
        if existing.writable_with and existing.writable_with != self.token:
            return self.refuse(403, "Forbidden", "You don't have the rights to create a model under this namespace")
        known = {"url": f"{self.hub.url}/{repo_id}", "error": "You already created this model repo"}
        return self.answer_json(known, 409)

    def validate_yaml(self) -> None:
        try:
            yaml.safe_load(json.loads(self.body)["content"].split("---")[1])
        except (IndexError, yaml.YAMLError) as error:
            return self.answer_json({"errors": [{"message": str(error)}], "warnings": []}, 400)
        return self.answer_json({"errors": [], "warnings": []})

    def model(self, repo_id: str, *rest: str) -> None:
        repo = self.repo(repo_id)
        if repo is None:
            return
        match rest:
            case () | ("revision", _):
                commit = repo.find(rest[1] if rest else "main")
                self.answer_json({"id": repo_id, "sha": commit, "private": repo.private, "tags": [], "siblings": []})
            case ("branch", *name):
                known = "/".join(name) in repo.refs
                repo.refs.setdefault("/".join(name), repo.refs["main"])
                self.answer_json({}, 409 if known else 200)
            case ("preupload", *_):
                files = [file["path"] for file in json.loads(self.body)["files"]]
                modes = {path: "lfs" if path.endswith(LARGE) else "regular" for path in files}
                answers = [{"path": path, "uploadMode": modes[path], "shouldIgnore": False} for path in files]
                self.answer_json({"files": answers})
            case ("commit", *revision):
                self.take_commit(repo_id, repo, "/".join(revision))
            case _:
                self.answer(404, b"")

    def large_files(self) -> None:
        objects = [
            {**file, "actions": {"upload": {"href": f"{self.hub.blob_url}/blobs/{file['oid']}", "header": {}}}}
            for file in json.loads(self.body)["objects"]
        ]
        self.answer_json({"transfer": "basic", "objects": objects})

    def take_commit(self, repo_id: str, repo: Repo, revision: str) -> None:
        proposed = self.query.get("create_pr") == ["1"]
        if repo.find(revision) is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        files = {}
        for line in self.body.splitlines():
            match json.loads(line):
                case {"key": "file", "value": {"path": path, "content": content}}:
                    files[path] = base64.b64decode(content)
                case {"key": "lfsFile", "value": {"path": path, "oid": digest}}:
                    files[path] = self.hub.blobs[digest]
        commit = self.hub.commit(repo_id, files, ref="refs/pr/1" if proposed else revision)
        address = f"{self.hub.url}/{repo_id}"
        pull_request = {"pullRequestUrl": f"{address}/discussions/1"} if proposed else {}
        return self.answer_json({"commitUrl": f"{address}/commit/{commit}", "commitOid": commit, **pull_request})


def _serve(hub: HubServer, handler: type[Handler]) -> ThreadingHTTPServer:
    bound = type(handler.__name__, (handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server
