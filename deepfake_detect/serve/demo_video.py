"""Compose the page of a video for the demo, and write it beside the verdict and the framed copy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from deepfake_detect.detector import Detector
from deepfake_detect.drawing.html import bullets, figure, paragraph, write_page
from deepfake_detect.reporting.sections import QUALITY, limits_section
from deepfake_detect.reporting.words import headline
from deepfake_detect.video.predict import VideoPrediction
from deepfake_detect.video.timeline import clock


def save_video_page(detector: Detector, path: str, target: Path) -> tuple[str, list[str]]:
    """Score a video, and write its page, its verdict as JSON, and a copy with the faces framed.

    Args:
        detector: Any.
        path: The video.
        target: Path of what is written, without its ending.

    Returns:
        The page, and the paths of the files.

    Raises:
        ImageUnreadable: No video, or a damaged one.
    """
    page, values, film = (target.with_name(f"{target.name}{ending}") for ending in (".html", ".json", ".mp4"))
    prediction = detector.predict_video(path, save=film)
    text = _compose(prediction, detector)
    page.write_text(text, encoding="utf-8")
    replace(prediction, name=Path(path).name).save(values)
    return text, [str(page), str(values), str(film)]


def _compose(prediction: VideoPrediction, detector: Detector) -> str:
    card = json.loads(detector.card.to_json())
    case = {"verdict": prediction.to_dict(), "stability": None, "weights": {"card": card}}
    drawn = figure(
        prediction.plot(), words="Scores over time, and the faces to look at.", format_name="JPEG", quality=QUALITY
    )
    lost = [] if prediction.error is None else [str(prediction.error).replace(prediction.name, "the file")]
    return write_page(
        title=f"{headline(case)}: {Path(prediction.name).name}",
        lead=" ".join(_words(prediction)),
        warnings=lost,
        parts=[
            ("Over time", drawn),
            ("What this does not prove", bullets(_LIMITS) + limits_section(case)),
            ("Details", paragraph(f"Detector: {prediction.model}. Threshold: {prediction.threshold:.4g}.")),
        ],
    )


_LIMITS = (
    "The detector was calibrated on single pictures: the score of a video is no probability.",
    "The frames of one video are alike: many of them are not as many opinions.",
    "A video that is forged for a short while can be called real: look at the frames with the highest scores.",
    "The sound was not examined, nor where the file says it comes from.",
)


def _words(prediction: VideoPrediction) -> Iterator[str]:
    if prediction.score is None:
        yield f"No face was found in {len(prediction.frames)} frames: nothing was scored."
        return
    total, seen, share = len(prediction.frames), prediction.frames_with_face, prediction.share_fake or 0.0
    yield (
        f"Scores run from 0 (real) to 1 (fake); that of the face with the highest mean is {prediction.score:.3f}. Of "
        f"{total} frames {seen} show a face, and {share:.0%} of these are called fake."
    )
    times = ", ".join(clock(frame.time_s) for frame in prediction.worst)
    yield f"The highest scores are at {times}."
