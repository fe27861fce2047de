"""Turn pictures into rows of a table, the same ones on one machine and on a cluster."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from typing import Any

from deepfake_detect.detector import Detector
from deepfake_detect.predict.prediction import Prediction

Row = dict[str, Any]


def score_rows(detector: Detector, images: Iterable[Any], *, names: Iterable[str] | None = None) -> list[Row]:
    """Score pictures and return a row for each, also for those that cannot be read.

    Args:
        detector: Scores them, as `Detector.predict_many` does.
        images: Paths, bytes, or anything else that `Detector.predict` takes.
        names: Put into the column ``path`` in place of the names of the images.

    Returns:
        Rows with ``path``, ``label``, ``score``, ``logit``, ``faces`` (a list of ``box_xyxy``, ``label`` and
        ``score``), ``width``, ``height``, ``error``, ``weights`` (name and version) and ``weights_sha256``.

    Example:
        >>> import deepfake_detect as dd
        >>> detector = dd.Detector.from_pretrained("meso4-fakefaces")
        >>> row, bad = score_rows(detector, ["examples/portrait.jpg", b"no picture"])
        >>> len(row["faces"]), bad["label"], row["weights"]
        (1, 'error', 'meso4-fakefaces@1')
    """
    predictions = detector.predict_many(images, on_error="yield")
    rows = [row_of(prediction, sha256=detector.card.sha256) for prediction in predictions]
    if names is not None:
        rows = [{**row, "path": name} for row, name in zip(rows, names, strict=True)]
    return rows


def row_of(prediction: Prediction, *, sha256: str) -> Row:
    """Return the row of a prediction, by weights with a sha256."""
    height, width = prediction.size_hw or (None, None)
    faces = [{"box_xyxy": [*face.box_xyxy], "label": face.label, "score": face.score} for face in prediction.faces]
    return {
        "path": prediction.name,
        "label": prediction.label,
        "score": prediction.score,
        "logit": prediction.logit,
        "faces": faces,
        "width": width,
        "height": height,
        "error": None if prediction.error is None else str(prediction.error),
        "weights": prediction.model,
        "weights_sha256": sha256,
    }


def marks_of(name: str) -> Row:
    """Return the size and the time of change of a file; None of each for a URL, or where there is no file."""
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return {"size_bytes": None, "modified_ns": None}
    return {"size_bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def fingerprint(*parts: object) -> str:
    """Return 16 hexadecimal digits that stand for a set of settings."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]
