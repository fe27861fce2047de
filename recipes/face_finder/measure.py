"""Compare our face finder with the teacher, on pictures that neither was trained on.

Usage:
    python -m recipes.face_finder.measure --data DATA --teacher yunet_n_dynamic.onnx [--finder finder.onnx]

Both networks go through the same code. False positives are counted on the pictures without faces
(a few hold people: counted alike for both). Our threshold is the lowest that makes no more false
positives than the teacher does at its own; recall is the share of the teacher's faces that ours
finds there, at an overlap (IoU) of at least a half.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from deepfake_detect.faces.face import Face
from deepfake_detect.faces.finder import THRESHOLD as SHIPPED
from deepfake_detect.faces.finder import FaceFinder
from recipes.face_finder.scenes import read_split

LOWEST = 0.2
THRESHOLD = 0.6  # the teacher's


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def matches(wanted: list[tuple[float, ...]], found: list[Face], *, least: float) -> int:
    """Count the wanted boxes that are found, each found box used once."""
    left, hits = [face.box_xyxy for face in found], 0
    for box in wanted:
        best = max(left, key=lambda other: overlap(box, other), default=None)
        if best is not None and overlap(box, best) >= least:
            left.remove(best)
            hits += 1
    return hits


def surer(faces: list[Face], threshold: float) -> list[Face]:
    """Keep the faces from a confidence on."""
    return [face for face in faces if face.confidence >= threshold]


def look(finder: FaceFinder, files: list[Path], *, border: bool) -> dict[Path, list[Face]]:
    """Find the faces of every picture."""
    return {file: finder.find(cv2.imread(str(file))[..., ::-1], border=border) for file in files}


def matched_threshold(ours: dict[Path, list[Face]], allowed: int) -> float:
    """The lowest threshold at which ours makes no more false positives than allowed."""
    sure = sorted((face.confidence for faces in ours.values() for face in faces), reverse=True)
    return max(LOWEST, sure[allowed] + 1e-6) if len(sure) > allowed else LOWEST


def read_boxes(folder: Path) -> dict[Path, list[tuple[float, ...]]]:
    """The hand-drawn boxes of the group photographs."""
    boxes: dict[Path, list[tuple[float, ...]]] = defaultdict(list)
    with (folder / "boxes.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            x, y, w, h = (float(row[name]) for name in ("x", "y", "width", "height"))
            boxes[folder / row["file"]].append((x, y, x + w, y + h))
    return boxes


def main() -> None:
    """Read the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--finder", type=Path, help="ours; the packaged one where not given")
    parser.add_argument("--every", type=int, default=1, help="look at every n-th picture only")
    options = parser.parse_args()
    teacher = FaceFinder(options.teacher, threshold=LOWEST)
    ours = FaceFinder(options.finder, threshold=LOWEST)
    faces, others = read_split(options.data, "val", "test")
    faces = faces[:: options.every]
    plain = look(teacher, others, border=False), look(ours, others, border=False)
    allowed = sum(len(surer(found, THRESHOLD)) for found in plain[0].values())
    threshold = matched_threshold(plain[1], allowed)
    print(f"{len(others)} pictures without faces: teacher {allowed} false positives at {THRESHOLD}; "
          f"ours makes as many at {threshold:.3f}, and at {SHIPPED}, as shipped, "
          f"{sum(len(surer(found, SHIPPED)) for found in plain[1].values())}")  # fmt: skip
    by_teacher, by_ours = look(teacher, faces, border=False), look(ours, faces, border=False)
    hits, wanted, boxes, shipped = defaultdict(int), defaultdict(int), [], 0
    for file in faces:
        sure = [face.box_xyxy for face in surer(by_teacher[file], THRESHOLD)]
        source = file.relative_to(options.data).parts[0]
        wanted[source] += len(sure)
        shipped += matches(sure, surer(by_ours[file], SHIPPED), least=0.5)
        hits[source] += matches(sure, surer(by_ours[file], threshold), least=0.5)
        if sure and by_ours[file]:
            boxes.append(overlap(sure[0], by_ours[file][0].box_xyxy))
    for source in sorted(wanted):
        print(f"  {source:14} {hits[source]:5} of {wanted[source]:5}  {hits[source] / max(1, wanted[source]):.4f}")
    print(f"recall of the teacher's faces: {sum(hits.values())} of {sum(wanted.values())} = "
          f"{sum(hits.values()) / sum(wanted.values()):.4f}, at {SHIPPED} {shipped / sum(wanted.values()):.4f}; "
          f"median overlap {np.median(boxes):.3f}")  # fmt: skip
    for name, found in (("teacher", by_teacher), ("ours", by_ours)):
        bound = THRESHOLD if name == "teacher" else threshold
        print(f"  {name}: no face in {sum(not surer(f, bound) for f in found.values())} of {len(faces)} pictures")
    _groups(options.data / "groups", teacher, ours, threshold)


def _groups(folder: Path, teacher: FaceFinder, ours: FaceFinder, threshold: float) -> None:
    truth = read_boxes(folder)
    for name, finder, bound in (("teacher", teacher, THRESHOLD), ("ours", ours, threshold)):
        found = look(finder, list(truth), border=False)
        hits = {
            file.name: (matches(boxes, surer(found[file], bound), least=0.3), len(boxes))
            for file, boxes in truth.items()
        }
        extra = sum(len(surer(found[file], bound)) for file in truth) - sum(hit for hit, _ in hits.values())
        missed = {file: pair for file, pair in hits.items() if pair[0] < pair[1]}
        print(f"groups, {name}: {sum(hit for hit, _ in hits.values())} of {sum(n for _, n in hits.values())} boxes, "
              f"{extra} faces without a box; missed in {missed or 'none'}")  # fmt: skip


if __name__ == "__main__":
    main()
