"""Make results of the JSON that a server answers with: what their ``to_dict`` gives, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from deepfake_detect import errors
from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.evaluation.stability import Stability
from deepfake_detect.faces.face import Face
from deepfake_detect.predict.content import Content
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.provenance.findings import MetadataFinding, MetadataFindings
from deepfake_detect.video.predict import VideoPrediction
from deepfake_detect.video.tracks import FrameScore, Track

Made = TypeVar("Made")


def prediction_from_dict(values: Mapping[str, Any]) -> Prediction:
    """Read what `Prediction.to_dict` gives.

    Example:
        >>> from deepfake_detect import Detector
        >>> prediction = Detector.from_pretrained("meso4-fakefaces").predict("examples/portrait.jpg")
        >>> prediction_from_dict(prediction.to_dict()).to_dict() == prediction.to_dict()
        True
    """
    changes: dict[str, Any] = {
        "faces": tuple(face_from_dict(face) for face in values["faces"]),
        "size_hw": _pair(values["size_hw"]),
        "error": None if values["error"] is None else error_from_dict(values["error"]),
    }
    if values.get("content") is not None:
        changes["content"] = _known(Content, values["content"], size_hw=_pair(values["content"]["size_hw"]))
    return _known(Prediction, values, **changes)


def face_from_dict(values: Mapping[str, Any]) -> Face:
    """Read what `Face.to_dict` gives."""
    landmarks = np.asarray(values["landmarks_xy"], np.float32).reshape(-1, 2)
    return _known(Face, values, box_xyxy=tuple(values["box_xyxy"]), landmarks_xy=landmarks)


def stability_from_dict(values: Mapping[str, Any]) -> Stability:
    """Read what `Stability.to_dict` gives; the boxes are not in it."""
    boxes: dict[str, Any] = dict.fromkeys(values["scores"])
    return _known(Stability, values, lost=tuple(values["lost"]), boxes=boxes)


def metadata_from_dict(values: Mapping[str, Any]) -> MetadataFindings:
    """Read what `MetadataFindings.to_dict` gives."""
    findings = tuple(_known(MetadataFinding, finding) for finding in values["findings"])
    return _known(MetadataFindings, values, size_hw=_pair(values["size_hw"]), findings=findings)


def video_from_dict(values: Mapping[str, Any]) -> VideoPrediction:
    """Read what `VideoPrediction.to_dict` gives."""
    frames = []
    for frame in values["frames"]:
        faces = tuple(face_from_dict(face) for face in frame["faces"])
        tracks = tuple(face["track"] for face in frame["faces"])
        frames.append(FrameScore(index=frame["index"], time_s=frame["time_s"], faces=faces, tracks=tracks))
    return _known(
        VideoPrediction,
        values,
        uncertain=_pair(values["uncertain"]),
        frames=tuple(frames),
        tracks=tuple(_known(Track, track) for track in values["tracks"]),
        size_hw=_pair(values["size_hw"]),
        error=None if values["error"] is None else error_from_dict(values["error"]),
    )


def error_from_dict(values: Mapping[str, Any]) -> DeepfakeDetectError:
    """Make an error of the library's of its name and message; a `ServerUnavailable` where the name is no class of ours.

    Example:
        >>> error_from_dict({"type": "ImageUnreadable", "message": "a.txt: text"})
        ImageUnreadable('a.txt: text')
    """
    kind = errors.ImageTooLarge if values["type"] == "TooLarge" else getattr(errors, values["type"], None)
    if not (isinstance(kind, type) and issubclass(kind, DeepfakeDetectError)):
        kind = errors.ServerUnavailable
    return kind(str(values["message"]))


def renamed(result: Made, name: str, source: Any = None) -> Made:
    """Give a result the name, and where it keeps one the picture, that the caller knows."""
    known = {field.name for field in fields(result)}  # type: ignore[arg-type]
    return replace(result, name=name, **({"source": source} if "source" in known else {}))  # type: ignore[type-var]


def _known(kind: type[Made], values: Mapping[str, Any], **changes: Any) -> Made:
    """Make an object of the values that it has fields for; a newer server may send more."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in names} | changes)


def _pair(values: Any) -> Any:
    return None if values is None else tuple(values)
