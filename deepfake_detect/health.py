"""Check the installation, and that the packaged weights still give their published scores."""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from deepfake_detect.errors import DeepfakeDetectError, MissingExtra

GOLDEN_TOLERANCE = 1e-3
"""Largest difference between a golden logit and the card's. Another processor, or another version of torch,
sums in another order and moves a logit by about 1e-5; a changed filter, mean or weight moves it by more
than 1e-2. A difference of 1e-3 changes no score by more than 0.00025."""

FREE_BYTES = 500 * 2**20
"""Free space that the cache of the Hub should have: room for the largest of the usual backbones."""

_PYTHON = (3, 11)
_PACKAGES = {  # distribution: the module to import, and what to do where that fails
    "torch": ("torch", "pip install --upgrade torch"),
    "timm": ("timm", "install what belongs together: pip install --upgrade torch torchvision timm"),
    "opencv-python-headless": ("cv2", "pip install --upgrade opencv-python-headless"),
    "pillow": ("PIL.Image", "pip install --upgrade pillow"),
    "numpy": ("numpy", "pip install --upgrade numpy"),
    "safetensors": ("safetensors", "pip install --upgrade safetensors"),
    "huggingface-hub": ("huggingface_hub", "pip install --upgrade huggingface-hub"),
}
_DISPENSABLE = ("python", "timm", "Hub cache")
_REINSTALL = "install the package again: pip install --force-reinstall --no-deps deepfake-detect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: What was checked, such as ``"torch"``.
        ok: Whether nothing has to be done.
        found: What was found, such as a version.
        advice: What to do; empty where `ok`.
    """

    name: str
    ok: bool
    found: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{'ok     ' if self.ok else 'PROBLEM'}  {self.name}: {self.found}"
        return f"{line}\n         -> {self.advice}" if self.advice else line


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """The outcome of all checks.

    Attributes:
        checks: In the order in which they were made.
    """

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}

    def to_json(self, *, indent: int | None = None) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def __str__(self) -> str:
        bad = sum(not check.ok for check in self.checks)
        verdict = f"{bad} of {len(self.checks)} checks found a problem." if bad else "All is well."
        return "\n".join([*map(str, self.checks), verdict])


def doctor() -> DoctorReport:
    """Check the installation, and score built-in pictures with every packaged network.

    The weights are compared with the sha256 on their card, and the logits of pictures that are made by code
    (whole picture, float32, on the CPU) with the golden logits on the card. Nothing is downloaded.

    Returns:
        A report with advice for every check that failed. Where a package that everything needs cannot be
        imported, the report ends there.

    Example:
        >>> doctor().ok
        True
    """
    checks = [_python(), *_packages(), _offline(), _cache()]
    if all(check.ok or check.name in _DISPENSABLE for check in checks):
        checks += [_device(), _onnxruntime(), _finder(), *_bundles()]
    return DoctorReport(checks=tuple(checks))


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= _PYTHON
    return Check(name="python", ok=ok, found=found, advice="" if ok else "install Python 3.11 or newer")


def _packages() -> Iterator[Check]:
    for name, (module, advice) in _PACKAGES.items():
        try:
            importlib.import_module(module)
            yield Check(name=name, ok=True, found=metadata.version(name))
        except metadata.PackageNotFoundError:  # another build, such as opencv-python
            yield Check(name=name, ok=True, found=f"{module} is there, installed under another name")
        except Exception as error:  # an installation breaks in many ways; each is reported
            found = f"import {module} fails ({type(error).__name__}: {error})"
            yield Check(name=name, ok=False, found=found, advice=advice)


def _device() -> Check:
    import torch

    from deepfake_detect.engines.openvino_graph import is_installed

    if torch.cuda.is_available():
        return Check(name="device", ok=True, found=f"cuda: {torch.cuda.get_device_name()}")
    if torch.backends.mps.is_available():
        return Check(name="device", ok=True, found="mps: Apple GPU")
    engine = ", networks run by OpenVINO" if is_installed() else ""
    threads = torch.get_num_threads()
    return Check(name="device", ok=True, found=f"cpu, {threads} thread{'' if threads == 1 else 's'}{engine}")


def _onnxruntime() -> Check:
    """Name the version and the devices of onnxruntime, which only ONNX files need."""
    from deepfake_detect.engines.onnx_engine import list_devices, require_onnxruntime

    try:
        found = f"{require_onnxruntime().__version__}, ONNX files run on {', '.join(list_devices())}"
    except MissingExtra as error:
        found = f"not there, so ONNX files cannot be loaded: {error}"
    return Check(name="onnxruntime", ok=True, found=found)


def _finder() -> Check:
    from deepfake_detect.faces.finder import PACKAGED, FaceFinder
    from deepfake_detect.weights.golden import golden_pictures

    try:
        faces = FaceFinder().find(golden_pictures()["face"], border=True)
    except (DeepfakeDetectError, OSError) as error:
        return Check(name="face finder", ok=False, found=_message(error), advice=_REINSTALL)
    if len(faces) != 1:
        found = f"{PACKAGED} finds {len(faces)} faces in the drawing of one"
        return Check(name="face finder", ok=False, found=found, advice=_REINSTALL)
    return Check(name="face finder", ok=True, found=f"{PACKAGED} finds the drawing of a face")


def _bundles() -> Iterator[Check]:
    from deepfake_detect.weights.bundle import list_packaged

    names = list_packaged()
    if not names:
        yield Check(name="weights", ok=False, found="no packaged weights", advice=_REINSTALL)
    for name in names:
        try:
            yield _golden(name)
        except (DeepfakeDetectError, OSError) as error:
            yield Check(name=f"weights {name}", ok=False, found=_message(error), advice=_REINSTALL)


def _golden(name: str) -> Check:
    """Score the golden pictures; loading checks the sha256."""
    from deepfake_detect.weights.bundle import find_bundle
    from deepfake_detect.weights.golden import golden_pictures

    golden, pictures = find_bundle(name).card.golden, golden_pictures()
    if not golden or {key.partition("/")[0] for key in golden} - set(pictures):
        found = f"the card has golden logits for {sorted(golden)}, expected some of {sorted(pictures)}"
        return Check(name=f"weights {name}", ok=False, found=found, advice=_REINSTALL)
    logits = _logits(name, {key: pictures[key.partition("/")[0]] for key in golden})
    differences = {key: math.inf if logit is None else abs(logit - golden[key]) for key, logit in logits.items()}
    wrong = [f"{key!r} by {difference:.3g}" for key, difference in differences.items()
             if not difference <= GOLDEN_TOLERANCE]  # fmt: skip
    if not wrong:
        found = f"sha256 correct, {len(differences)} golden logits within {max(differences.values()):.1g}"
        return Check(name=f"weights {name}", ok=True, found=found)
    return Check(
        name=f"weights {name}",
        ok=False,
        found=f"golden logits differ from those on the card by more than {GOLDEN_TOLERANCE:g}: {', '.join(wrong)}; "
        "scores on this machine are not those that were published",
        advice=f"{_REINSTALL}; if that does not help, report it with the versions above",
    )


def _logits(name: str, pictures: Mapping[str, Any]) -> dict[str, float | None]:
    """Score whole pictures; names ``picture/class`` stand for one logit of the content classes."""
    from deepfake_detect.detector import Detector
    from deepfake_detect.predict.content import content_logits
    from deepfake_detect.weights.bundle import CONTENT

    if name.startswith(f"{CONTENT}@"):
        return {key: content_logits(pixels).get(key.rpartition("/")[2]) for key, pixels in pictures.items()}
    detector = Detector.from_pretrained(name, device="cpu", dtype="float32")
    return {key: detector.predict(pixels, faces="none").logit for key, pixels in pictures.items()}


def _offline() -> Check:
    on = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    found = "HF_HUB_OFFLINE is set: packaged, local and cached weights only" if on else "the Hub may be asked"
    return Check(name="network", ok=True, found=found)


def _cache() -> Check:
    """Ask whether the Hub's cache, or the nearest folder above it that exists, can take weights."""
    folder = _cache_folder()
    if folder is None:
        advice = "set HF_HOME to a folder that can be written; packaged weights work without"
        return Check(name="Hub cache", ok=False, found="there is no home folder", advice=advice)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{folder}, {free / 2**30:.1f} GB free"
    if not (there.is_dir() and os.access(there, os.W_OK)):
        advice = f"make {there} writable, or set HF_HUB_CACHE to a folder that is; packaged weights work without"
        return Check(name="Hub cache", ok=False, found=f"{found}, not writable", advice=advice)
    if free < FREE_BYTES:
        advice = f"free {FREE_BYTES // 2**20} MB, or set HF_HUB_CACHE to another disk; packaged weights work without"
        return Check(name="Hub cache", ok=False, found=found, advice=advice)
    return Check(name="Hub cache", ok=True, found=found)


def _cache_folder() -> Path | None:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    folder = os.path.expanduser(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub"))
    return None if folder.startswith("~") else Path(folder).absolute()  # what cannot be expanded comes back as it is


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
