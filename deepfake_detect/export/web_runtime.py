"""Get the files of onnxruntime-web, which runs ONNX files in browsers: from the npm registry, a folder or a tarball."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import logging
import os
import tarfile
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from deepfake_detect.datasets.face_cache import default_folder
from deepfake_detect.errors import BackendUnavailable
from deepfake_detect.inputs.download import hide_credentials
from deepfake_detect.weights.load import write_file

VERSION: Final = "1.22.0"
"""Version of onnxruntime-web: the one whose smallest build is smallest, among those with SIMD and threads in one."""

BUILDS: Final[Mapping[str, Mapping[str, str]]] = {
    "wasm": {
        "module": "ort.wasm.min.mjs",
        "glue": "ort-wasm-simd-threaded.mjs",
        "binary": "ort-wasm-simd-threaded.wasm",
    },
    "webgpu": {
        "module": "ort.webgpu.min.mjs",
        "glue": "ort-wasm-simd-threaded.jsep.mjs",
        "binary": "ort-wasm-simd-threaded.jsep.wasm",
    },
}
"""Files of each build: the script that a page imports, the one that starts WebAssembly, and the WebAssembly."""

SHA256: Final[Mapping[str, str]] = {
    "ort.wasm.min.mjs": "6ef726f355b791129f7ddf3f62e7877a16b9b777abe87004b8ab306e6b9cf265",
    "ort-wasm-simd-threaded.mjs": "30dd851d9c00622940500f71ddd2ff8820c5cb65270816080175b958705385a8",
    "ort-wasm-simd-threaded.wasm": "71aef04959c5c1b6de461b6538e2058e306610034a85aad2742d0c7fd4533fe4",
    "ort.webgpu.min.mjs": "e131e81c9324807e1e6f9103e8f8e936112827dcc9993cde9407a333b1f07ae0",
    "ort-wasm-simd-threaded.jsep.mjs": "1cbcba8f2c769c1eecbab66a1b1e55ef11704515bf4306373e3db3c37cf6dcd8",
    "ort-wasm-simd-threaded.jsep.wasm": "b45970d0632383a057c27ca5b660b216f8e00c17cf8db9f6207b5e4abc839368",
}
"""Checksums of those files in the npm package of `VERSION`."""

_NAME = f"onnxruntime-web-{VERSION}"
_REGISTRY = "https://registry.npmjs.org"
_TIME_LIMIT_S = 60
_LARGEST_TARBALL = 2**28

_log = logging.getLogger("deepfake_detect")


def find_runtime(source: str | os.PathLike[str] | None = None, *, build: str = "wasm") -> dict[str, bytes]:
    """Return the files of one build of onnxruntime-web, each with the checksum written down here.

    Without a source they come from the cache, and the first time from the npm registry: that of
    ``NPM_CONFIG_REGISTRY`` or of ``~/.npmrc``, else https://registry.npmjs.org.

    Args:
        source: A folder that holds the files, or the npm package in which they stand below ``dist``; or the package as
            ``.tgz``.
        build: ``"wasm"`` or ``"webgpu"``.

    Returns:
        Name of each file to its bytes.

    Raises:
        BackendUnavailable: A file is missing or another one than expected, or the registry cannot be reached.
    """
    names = tuple(BUILDS[build].values())
    if source is not None:
        return _checked(_read_source(Path(source).expanduser(), names), names, where=str(source))
    cache = default_folder().parent / _NAME
    cached = {name: (cache / name).read_bytes() for name in names if (cache / name).is_file()}
    if all(hashlib.sha256(cached.get(name, b"")).hexdigest() == SHA256[name] for name in names):
        return cached
    address = f"{_registry()}/onnxruntime-web/-/{_NAME}.tgz"
    files = _checked(_unpack(_download(address), names), names, where=hide_credentials(address))
    _keep(cache, files)
    return files


def runtime_files(found: Mapping[str, bytes], *, build: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Prepare the files of a build for a static host: WebAssembly is compressed here, since many hosts do not.

    Args:
        found: From `find_runtime`.
        build: The same.

    Returns:
        Name of each file to its bytes, and what the page needs to know of them.
    """
    parts = BUILDS[build]
    packed = gzip.compress(found[parts["binary"]], 9, mtime=0)
    binary = f"{parts['binary']}.gz"
    files = {parts["module"]: found[parts["module"]], parts["glue"]: found[parts["glue"]], binary: packed}
    facts = {
        "module": parts["module"],
        "glue": parts["glue"],
        "binary": {"name": binary, "bytes": len(packed), "sha256": SHA256[parts["binary"]]},
    }
    return files, facts


def _read_source(source: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    try:
        if source.is_dir():
            folder = source / "dist" if (source / "dist").is_dir() else source
            return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
        return _unpack(source.read_bytes(), names)
    except OSError as error:
        raise BackendUnavailable(
            f"the runtime {source} cannot be read ({error.strerror or error}); expected the folder of the npm package "
            f"onnxruntime-web {VERSION}, or {_NAME}.tgz"
        ) from error


def _unpack(tarball: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
    wanted = {f"package/dist/{name}": name for name in names}
    try:
        with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
            members = [member for member in archive if member.name in wanted and member.isfile()]
            return {wanted[member.name]: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BackendUnavailable(
            f"{len(tarball):,} bytes that are no whole npm package ({error}); download {_NAME}.tgz again"
        ) from error


def _checked(files: Mapping[str, bytes], names: tuple[str, ...], *, where: str) -> dict[str, bytes]:
    missing = [name for name in names if name not in files]
    if missing:
        raise BackendUnavailable(
            f"{where} lacks {', '.join(missing)}; expected the npm package onnxruntime-web {VERSION}"
        )
    for name, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        if digest != SHA256[name]:
            raise BackendUnavailable(
                f"{where}: {name} has sha256 {digest[:16]}..., expected {SHA256[name][:16]}... of onnxruntime-web "
                f"{VERSION}; use exactly this version"
            )
    return dict(files)


def _registry() -> str:
    """Return the npm registry that is configured."""
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    try:
        lines = (Path.home() / ".npmrc").read_text("utf-8").splitlines()
    except (OSError, RuntimeError, UnicodeDecodeError):
        lines = []
    pairs = (line.partition("=") for line in lines)
    configured = [value.strip() for name, _, value in pairs if name.strip() == "registry"]
    return (configured[-1] if configured else _REGISTRY).rstrip("/")


def _download(address: str) -> bytes:
    shown = hide_credentials(address)
    advice = f"download {_NAME}.tgz where there is a network, and pass it with --runtime (in Python: runtime=)"
    if urlsplit(address).scheme not in ("http", "https"):
        raise BackendUnavailable(f"the npm registry {shown} is no http or https address; {advice}")
    _log.info("downloading %s", shown)
    try:
        with urlopen(_request(address), timeout=_TIME_LIMIT_S) as response:
            content: bytes = response.read(_LARGEST_TARBALL)
    except (OSError, HTTPException, ValueError) as error:
        raise BackendUnavailable(f"onnxruntime-web cannot be downloaded from {shown} ({error}); {advice}") from None
    return content


def _request(address: str) -> Request:
    """Move user and password from the address to a header, since urllib takes them for a part of the host's name."""
    parts = urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    request = Request(urlunsplit(parts._replace(netloc=host)))
    if user:
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(unquote(user).encode()).decode()}")
    return request


def _keep(cache: Path, files: Mapping[str, bytes]) -> None:
    try:
        for name, content in files.items():
            write_file(cache / name, content)
    except OSError as error:
        _log.warning("%s cannot be written (%s); the next export downloads onnxruntime-web again", cache, error)
