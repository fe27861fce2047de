"""Write a detector as a web page: a folder that any static host serves, and that is a package for npm as well."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from deepfake_detect._options import check_flag, check_type
from deepfake_detect._version import __version__
from deepfake_detect.errors import InvalidOption
from deepfake_detect.export.web_model import HEAT, INPUT, LOGIT, HeatKind, make_web_model
from deepfake_detect.export.web_runtime import VERSION, find_runtime, runtime_files
from deepfake_detect.predict.evidence import fingerprint_card
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.provenance.tables import trace_tables
from deepfake_detect.weights.load import digest_of, write_file

SCHEMA: Final = "deepfake-detect/model@1"
"""Layout of ``model/model.json``."""

LARGE_MODEL_BYTES: Final = 16_000_000
"""Size of a model from which a page brings the runtime for WebGPU: below, loading that takes longer than it saves."""

_PAGE = Path(__file__).with_name("page")
_PACKAGE_ONLY = frozenset({"deepfake-detect.d.ts", "package.json", "README.md", "LICENSE", "test.mjs", "sw.js"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteReport:
    """What was exported.

    Attributes:
        path: The folder.
        model: ``name@version``.
        files: Path of each file in the folder to its size in bytes.
        heat: What the page's heat maps are; None where it shows none.
        has_webgpu: Whether the page can run on WebGPU.
    """

    path: Path
    model: str
    files: Mapping[str, int] = field(repr=False)
    heat: HeatKind | None
    has_webgpu: bool

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(self.files.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"path": str(self.path), "size_bytes": self.size_bytes}

    def to_json(self, *, indent: int | None = None) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def __str__(self) -> str:
        gpu = ", WebGPU where there is one" if self.has_webgpu else ""
        return (
            f"{self.model}: {self.path}, {self.size_bytes / 1e6:.1f} MB in {len(self.files)} files{gpu}; "
            f"look at it: python -m http.server --directory {self.path}"
        )


def export_site(
    predictor: Predictor,
    folder: str | os.PathLike[str],
    *,
    runtime: str | os.PathLike[str] | None = None,
    webgpu: bool | None = None,
) -> SiteReport:
    """Write a detector as a web page that scores pictures in the browser.

    Args:
        predictor: A `Predictor` or a `Detector`.
        folder: Made where it is missing; ``~`` is expanded, and files that are there are replaced.
        runtime: Where onnxruntime-web comes from; see `find_runtime`.
        webgpu: Bring the runtime for WebGPU, too, 5.5 MB. None does for models above `LARGE_MODEL_BYTES`.

    Returns:
        What was written.

    Raises:
        InvalidOption: The folder is a file, or the detector has a face finder of its own.
        MissingExtra: The extra ``[onnx]`` is not installed.
        BackendUnavailable: The network cannot be translated, or onnxruntime-web is not to be had.
        OSError: The folder cannot be written.
    """
    check_type("folder", folder, (str, os.PathLike), expected="a folder")
    if webgpu is not None:
        check_flag("webgpu", webgpu)
    target = Path(folder).expanduser()
    if target.exists() and not target.is_dir():
        raise InvalidOption(f"folder is {str(target)!r}, which is a file; a page is a folder of files")
    card = replace(predictor.card, sha256=digest_of(predictor.model))
    detector, heat = make_web_model(predictor.model, card)
    has_webgpu = len(detector) > LARGE_MODEL_BYTES if webgpu is None else webgpu
    files = _model_files(predictor, detector, heat=heat, facts=_facts(card))
    files |= _runtime_folder(runtime, has_webgpu=has_webgpu)
    files |= _page_files(files, model=card.id)
    for name, content in files.items():
        write_file(target / name, content)
    return SiteReport(
        path=target,
        model=card.id,
        files={name: len(content) for name, content in sorted(files.items())},
        heat=heat,
        has_webgpu=has_webgpu,
    )


def _facts(card: Any) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "library_version": __version__,
        "card": json.loads(card.to_json()),
        "preprocessing_sha256": fingerprint_card(card),
        "traces": trace_tables(),
    }


def _model_files(
    predictor: Predictor, detector: bytes, *, heat: HeatKind | None, facts: Mapping[str, Any]
) -> dict[str, bytes]:
    finder = predictor.finder
    contents = {"detector": ("detector.onnx", detector)}
    if finder is not None:
        contents["finder"] = ("finder.onnx", finder.weights)
    listed = {
        role: {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for role, (name, content) in contents.items()
    }
    manifest = {
        **facts,
        "files": {"finder": None, **listed},
        "input": INPUT,
        "outputs": {"logit": LOGIT, "heat": HEAT if heat else None},
        "heat": heat,
    }
    text = json.dumps(manifest, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return {
        "model/model.json": text.encode(),
        **{f"model/{name}": content for name, content in contents.values()},
    }


def _runtime_folder(source: str | os.PathLike[str] | None, *, has_webgpu: bool) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    manifest: dict[str, Any] = {"version": VERSION, "wasm": None, "webgpu": None}
    for build in ("wasm", "webgpu") if has_webgpu else ("wasm",):
        prepared, manifest[build] = runtime_files(find_runtime(source, build=build), build=build)
        files |= prepared
    files["runtime.json"] = json.dumps(manifest).encode()
    return {f"runtime/{name}": content for name, content in files.items()}


def _page_files(others: Mapping[str, bytes], *, model: str) -> dict[str, bytes]:
    """Return the files of the page itself; the service worker keeps those that a browser needs."""
    sources = {path.name: path.read_bytes() for path in sorted(_PAGE.iterdir()) if path.is_file()}
    sources["package.json"] = _filled(sources["package.json"], {"version": __version__, "runtime": VERSION})
    sources["README.md"] = _filled(sources["README.md"], {"version": __version__, "model": model})
    needed = {name: content for name, content in {**sources, **others}.items() if name not in _PACKAGE_ONLY}
    digest = hashlib.sha256(b"".join(hashlib.sha256(needed[name]).digest() for name in sorted(needed)))
    # without the runtime for WebGPU, which is large, a page that is offline runs on WebAssembly
    kept = sorted(name for name in needed if "jsep" not in name and "webgpu" not in name)
    listed = json.dumps(["./", *kept], indent=2)
    sources["sw.js"] = _filled(sources["sw.js"], {"version": digest.hexdigest()[:16], "files": listed})
    return sources


def _filled(template: bytes, values: Mapping[str, str]) -> bytes:
    text = template.decode()
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", value)
    return text.encode()
