"""Record a verdict with everything that somebody else needs to check it again."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from deepfake_detect._version import __version__
from deepfake_detect.errors import ImageTooLarge, ImageUnreadable, InvalidOption
from deepfake_detect.inputs.image import ImageInput, name_image, open_image
from deepfake_detect.predict.case_file import SCHEMA
from deepfake_detect.predict.intake import Fingerprint, hold_image
from deepfake_detect.provenance.inspector import inspect_metadata
from deepfake_detect.weights.card import Card

SCORE_TOLERANCE = 0.01
"""How far a score may move and still count as the same. Another processor or engine moves it by some 1e-5, another
decoder of JPEG by up to some 1e-3; another crop, weight or calibration by far more."""

_LIBRARIES = (
    *("torch", "numpy", "pillow", "opencv-python-headless", "openvino", "onnxruntime", "safetensors", "timm"),
    *("simplejpeg", "c2pa-python"),
)


def record_evidence(
    image: ImageInput,
    verdict: Mapping[str, Any],
    *,
    card: Card,
    faces: str,
    threshold: float | None = None,
    stability: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Collect what is needed to check a verdict again: the file, the weights, the settings, the versions.

    Args:
        image: The picture that was scored, in memory or as a file that is the same still.
        verdict: `Prediction.to_dict` of that picture.
        card: Of the weights that scored it.
        faces: Which faces were scored, as for `Predictor.predict`.
        threshold: Threshold that the caller set in place of the card's; None for the card's.
        stability: `Stability.to_dict`, where it was measured.
        metadata: `MetadataFindings.to_dict`; inspected here where None and the picture is a file of a format that
            `inspect_metadata` reads.

    Returns:
        Plain JSON values. They hold no pixels; of the file only its metadata findings.

    Raises:
        ImageUnreadable: The picture cannot be opened any more.
        InvalidOption: The stability or the metadata are those of another picture.
    """
    fingerprint = {**fingerprint_input(image), "name": verdict["name"]}
    _check_stability(stability, verdict)
    if metadata is None and fingerprint["kind"] == "file":
        metadata = _metadata_of(image)
    elif metadata is not None and metadata.get("file_bytes") != fingerprint["bytes"]:
        raise InvalidOption(
            f"metadata are of a file of {metadata.get('file_bytes')} bytes, but {verdict['name']} has "
            f"{fingerprint['bytes']}; pass inspect_metadata(picture).to_dict(), or leave them out"
        )
    record = {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "input": fingerprint,
        "weights": {"id": card.id, "sha256": card.sha256, "revision": verdict["revision"], "card": _plain(card)},
        "settings": {"faces": faces, "threshold": threshold, "preprocessing": fingerprint_card(card)},
        "verdict": dict(verdict),
        "stability": None if stability is None else {**stability, "name": verdict["name"]},
        "metadata": None if metadata is None else {**metadata, "name": verdict["name"]},
        "environment": environment(),
    }
    return {**record, "sha256": fingerprint_case(record)}


def _check_stability(stability: Mapping[str, Any] | None, verdict: Mapping[str, Any]) -> None:
    if stability is None:
        return
    scores = (stability.get("score"), verdict["score"])
    close = scores[0] is scores[1] or (None not in scores and abs(scores[0] - scores[1]) <= SCORE_TOLERANCE)
    if not close or any(stability.get(name) != verdict[name] for name in ("model", "threshold")):
        raise InvalidOption(
            f"stability is that of another verdict: {stability.get('model')}, score {scores[0]}, but {verdict['name']} "
            f"has {verdict['model']}, score {scores[1]}; pass detector.stability(picture).to_dict(), or leave it out"
        )


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
        ImageTooLarge: A file of more than 256 MB.
    """
    name = name_image(image)
    if isinstance(image, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(image, "read"):
        fingerprint = Fingerprint.of(hold_image(image).getvalue())
        return {"name": name, "kind": "file", "bytes": fingerprint.size_bytes, "sha256": fingerprint.sha256}
    content = np.ascontiguousarray(open_image(image).pixels).tobytes()
    return {"name": name, "kind": "pixels", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


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


def _metadata_of(image: ImageInput) -> dict[str, Any] | None:
    """Inspect a file that was read before; None for a format of which no metadata are read, or a file too large."""
    try:
        return inspect_metadata(image).to_dict()
    except (ImageUnreadable, ImageTooLarge):
        return None


@functools.cache
def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _plain(card: Card) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(card.to_json())
    return values
