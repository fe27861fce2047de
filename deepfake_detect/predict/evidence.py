"""Record a verdict with everything that somebody else needs to check it again."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from deepfake_detect._version import __version__
from deepfake_detect.errors import ImageTooLarge, ImageUnreadable
from deepfake_detect.inputs.image import ImageInput, name_image, open_image
from deepfake_detect.predict.intake import Stamp, hold_file
from deepfake_detect.provenance.inspector import inspect_metadata
from deepfake_detect.weights.card import Card

SCHEMA = "deepfake-detect/case@1"
"""Layout of a case file; ``docs/case.schema.json`` describes it."""

_LIBRARIES = ("torch", "numpy", "pillow", "opencv-python-headless", "openvino", "onnxruntime", "safetensors", "timm")


def record_evidence(
    image: ImageInput,
    verdict: Mapping[str, Any],
    *,
    card: Card,
    faces: str,
    threshold: float | None = None,
    stamp: Stamp | None = None,
    stability: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Collect what is needed to check a verdict again: the file, the weights, the settings, the versions.

    Args:
        image: The picture that was scored. It is read once more, for its sha256 and its metadata.
        verdict: `Prediction.to_dict` of that picture.
        card: Of the weights that scored it.
        faces: Which faces were scored, as for `Predictor.predict`.
        threshold: Threshold that the caller set in place of the card's; None for the card's.
        stamp: Of the file when it was scored; None where there is nothing that could have changed.
        stability: `Stability.to_dict`, where it was measured.
        metadata: `MetadataFindings.to_dict`; inspected here where None and the picture is a file of a format that
            `inspect_metadata` reads.

    Returns:
        Plain JSON values. They hold no pixels; of the file only its metadata findings.

    Raises:
        ImageUnreadable: The picture cannot be opened any more, or has changed since it was scored.
    """
    file = hold_file(image)
    fingerprint = fingerprint_input(image if file is None else file)
    if stamp is not None and not stamp.fits(image, file.getvalue() if file else b""):
        raise ImageUnreadable(
            f"{fingerprint['name']} has changed since it was scored; predict it again, and record that verdict"
        )
    if metadata is None and file is not None:
        metadata = metadata_of(file)
    record = {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "input": fingerprint,
        "weights": {"id": card.id, "sha256": card.sha256, "revision": verdict["revision"], "card": plain_card(card)},
        "settings": {"faces": faces, "threshold": threshold, "preprocessing": fingerprint_card(card)},
        "verdict": dict(verdict),
        "stability": None if stability is None else dict(stability),
        "metadata": None if metadata is None else dict(metadata),
        "environment": environment(),
    }
    return {**record, "sha256": fingerprint_case(record)}


def fingerprint_case(record: Mapping[str, Any]) -> str:
    """Return the sha256 of a case without its own ``"sha256"``: of its JSON text with sorted keys.

    It shows damage, not forgery: whoever edits a case can compute it anew.
    """
    content = {name: value for name, value in record.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def fingerprint_input(image: ImageInput) -> dict[str, Any]:
    """Return name, kind, size and sha256 of an input.

    Args:
        image: Anything that `open_image` takes.

    Returns:
        ``kind`` is ``"file"``, with the sha256 of its bytes; or ``"pixels"`` for arrays, tensors and PIL images, with
        the sha256 of their upright RGB values, row by row.

    Raises:
        ImageUnreadable: It cannot be read.
    """
    file = hold_file(image)
    kind = "pixels" if file is None else "file"
    content = np.ascontiguousarray(open_image(image).pixels).tobytes() if file is None else file.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    return {"name": name_image(image), "kind": kind, "bytes": len(content), "sha256": digest}


def fingerprint_card(card: Card) -> str:
    """Return the sha256 of everything on a card that turns pixels into a label.

    Two cards with the same fingerprint crop, scale, normalise, calibrate and decide in the same way.
    """
    values = card.to_dict()
    decisive = ("preprocessing", "temperature", "bias", "threshold", "uncertain", "classes", "architecture", "texture")
    text = json.dumps({name: values[name] for name in decisive if name in values}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def environment() -> dict[str, Any]:
    """Return the versions and the machine that a verdict was computed with; libraries not installed are left out."""
    versions = {"deepfake-detect": __version__, "python": platform.python_version()}
    versions |= {name: known for name in _LIBRARIES if (known := _version(name)) is not None}
    return {"versions": versions, "system": platform.system(), "machine": platform.machine()}


def metadata_of(file: io.BytesIO) -> dict[str, Any] | None:
    """Inspect a file; None for a format of which no metadata are read, or a file too large."""
    file.seek(0)
    try:
        return inspect_metadata(file).to_dict()
    except (ImageUnreadable, ImageTooLarge):
        return None


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def plain_card(card: Card) -> dict[str, Any]:
    """Return a card as the plain JSON values of its file."""
    values: dict[str, Any] = json.loads(card.to_json())
    return values
