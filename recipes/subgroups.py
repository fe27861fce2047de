"""Measure a detector on subgroups of faces: dark, small, blurred, turned, and by group of people."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from deepfake_detect.datasets.face_cache import FaceStore, Surroundings
from deepfake_detect.datasets.read import Sample
from deepfake_detect.evaluation.scored import Row
from deepfake_detect.metrics.classification import roc_auc

FEWEST = 8
"""Groups with fewer pictures are left out."""

UTK_SEX = {"0": "male", "1": "female"}
UTK_GROUP = {"0": "White", "1": "Black", "2": "Asian", "3": "Indian", "4": "others"}


def facts_of(face: Surroundings) -> dict[str, float]:
    """Measure a face: mean grey level, longer side in pixels, sharpness, and how far the nose is off the middle.

    Sharpness is the logarithm of the variance of the Laplacian, at 96 pixels; the turn is in eye distances.
    """
    x1, y1, x2, y2 = (max(0, round(value)) for value in face.box_xyxy)
    grey = cv2.cvtColor(np.ascontiguousarray(face.pixels[y1:y2, x1:x2]), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (96, 96), interpolation=cv2.INTER_AREA)
    eyes, nose = face.landmarks_xy[:2], face.landmarks_xy[2]
    across = eyes[1] - eyes[0]
    width = max(1.0, float(np.hypot(*across)))
    turn = abs(float((nose - eyes.mean(0)) @ across)) / width**2
    return {
        "brightness": float(grey.mean()),
        "side": float(max(x2 - x1, y2 - y1)),
        "sharpness": math.log(1 + float(cv2.Laplacian(small, cv2.CV_64F).var())),
        "turn": turn,
    }


def by_thirds(rows: Sequence[Row], store: FaceStore, *, source: str) -> dict[str, dict[str, dict[str, float]]]:
    """Split a source's pictures into thirds by each fact, and measure the verdicts in the lowest and the highest."""
    scored = [row for row in rows if row.score is not None and row.source == source]
    known = [(row, face) for row in scored if (face := store.load(row.image)) is not None]
    facts = [facts_of(face) for _, face in known]
    result = {}
    for name in facts[0] if facts else ():
        order = np.argsort([fact[name] for fact in facts])
        ends = {"lowest third": order[: len(order) // 3], "highest third": order[-(len(order) // 3) :]}
        result[name] = {end: figures([known[index][0] for index in places]) for end, places in ends.items()}
    return result


def by_person(rows: Sequence[Row], samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Split photographs by group of the person: MEBeauty has it in the notes, UTKFace in the file names."""
    words = {sample.image: words_of(sample) for sample in samples}
    groups = defaultdict(list)
    for row in rows:
        for word in words.get(row.image, ()) if row.score is not None else ():
            groups[word].append(row)
    return {word: figures(members) for word, members in sorted(groups.items()) if len(members) >= FEWEST}


def words_of(sample: Sample) -> list[str]:
    """Return sex and group of a person, as far as the data name them."""
    if sample.source == "mebeauty":
        sex, _, group = sample.note.removeprefix("group=").partition("-")
        return [f"mebeauty {sex}", f"mebeauty {group}"]
    if sample.source == "utkface":
        age, sex, group = Path(sample.image).name.split("_")[:3]
        old = "under 18" if int(age) < 18 else "18 to 59" if int(age) < 60 else "60 and more"
        return (
            [f"utkface {UTK_SEX[sex]}", f"utkface {UTK_GROUP[group]}", f"utkface {old}"] if group in UTK_GROUP else []
        )
    return []


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """Compute the AUC where there are both classes, and the share of either class called the other."""
    y, score = [int(row.label == "fake") for row in rows], [float(row.score or 0) for row in rows]
    result: dict[str, float] = {"n": len(rows)}
    if 0 < sum(y) < len(y):
        result["auc"] = round(roc_auc(y, score), 3)
    for label, other in (("real", "fake"), ("fake", "real")):
        verdicts = [row.predicted for row in rows if row.label == label]
        if verdicts:
            result[f"{label} called {other}"] = round(verdicts.count(other) / len(verdicts), 3)
    return result
