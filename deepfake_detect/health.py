"""Is everything installed that is needed, and do the packaged weights still score as they did?"""

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

from deepfake_detect.errors import DeepfakeDetectError

GOLDEN_TOLERANCE = 1e-3
"""How far a golden logit may lie from the card's. Another processor, or another version of torch, adds
up in another order and moves a logit by some 1e-5; a changed filter, mean or weight moves it by more
than 1e-2. A move of 1e-3 changes no score by more than 0.00025."""

FREE_BYTES = 500 * 2**20
"""Free space that the Hub's cache should have: room for the largest of the usual backbones."""

_PYTHON = (3, 11)
_PACKAGES = {  # distribution: what is imported, and what to do without it
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
    """One thing that was looked at.

    Attributes:
        name: What.
        ok: Nothing has to be done.
        found: What is there, in plain words.
        advice: What to do; empty where all is well.
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
    """All that was looked at.

    Attributes:
        checks: In the order they were made.
    """

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Nothing has to be done."""
        return all(check.ok for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Give plain Python values."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}

    def to_json(self, *, indent: int | None = None) -> str:
        """Give the text of `to_dict`."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def __str__(self) -> str:
        bad = sum(not check.ok for check in self.checks)
        verdict = f"{bad} of {len(self.checks)} checks found a problem." if bad else "All is well."
        return "\n".join([*map(str, self.checks), verdict])


def doctor() -> DoctorReport:
    """Look at the installation, and score built-in pictures with every packaged network again.

    The bytes of the weights are held against the sha256 on their card, and the logits of pictures that
    are made by code (whole picture, float32, on the CPU) against those that the card remembers. Nothing
    is downloaded.

    Returns:
        What was found, and what to do where it is not well. Where a package that all needs cannot be
        imported, the report ends there.

    Example:
        >>> doctor().ok
        True
    """
    checks = [_python(), *_packages(), _offline(), _cache()]
    if all(check.ok or check.name in _DISPENSABLE for check in checks):
        checks += [_device(), _finder(), *_bundles()]
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
    told = ", networks run by OpenVINO" if is_installed() else ""
    return Check(name="device", ok=True, found=f"cpu, {torch.get_num_threads()} threads{told}")


def _finder() -> Check:
    from deepfake_detect.faces.finder import PACKAGED, FaceFinder
    from deepfake_detect.weights.golden import golden_pictures

    try:
        faces = FaceFinder().find(golden_pictures()["face"], border=True)
    except (DeepfakeDetectError, OSError) as error:
        return Check(name="face finder", ok=False, found=_told(error), advice=_REINSTALL)
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
            yield Check(name=f"weights {name}", ok=False, found=_told(error), advice=_REINSTALL)


def _golden(name: str) -> Check:
    """Score the golden pictures again; loading holds the bytes against the sha256."""
    from deepfake_detect.weights.bundle import find_bundle
    from deepfake_detect.weights.golden import golden_pictures

    wanted, pictures = find_bundle(name).card.golden, golden_pictures()
    if not wanted or {key.partition("/")[0] for key in wanted} - set(pictures):
        found = f"the card has golden logits for {sorted(wanted)}, expected some of {sorted(pictures)}"
        return Check(name=f"weights {name}", ok=False, found=found, advice=_REINSTALL)
    logits = _logits(name, {key: pictures[key.partition("/")[0]] for key in wanted})
    moves = {key: math.inf if logit is None else abs(logit - wanted[key]) for key, logit in logits.items()}
    moved = [f"{key!r} by {move:.3g}" for key, move in moves.items() if not move <= GOLDEN_TOLERANCE]
    if not moved:
        found = f"sha256 right, {len(moves)} golden logits within {max(moves.values()):.1g}"
        return Check(name=f"weights {name}", ok=True, found=found)
    return Check(
        name=f"weights {name}",
        ok=False,
        found=f"golden logits moved from those on the card, expected at most {GOLDEN_TOLERANCE:g}: {', '.join(moved)}; "
        "scores on this machine are not those that were published",
        advice=f"{_REINSTALL}; if it stays, report it with the versions above",
    )


def _logits(name: str, pictures: Mapping[str, Any]) -> dict[str, float | None]:
    """Score pictures whole; those called ``picture/class`` by the content classes."""
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


def _cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser().absolute()


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
