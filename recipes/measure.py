"""Measure a detector on held-out groups, source by source, through the public interface.

Usage:
    python -m recipes.measure BUNDLE --data DATA [--split test] [--out scores.csv]

A source with one class only is paired with the other class of all other sources. Intervals are 95 %
bootstrap intervals over groups. Pictures in which no face is found are counted and left out; those
that the detector calls uncertain count by the side of the threshold on which they fall. Beside the
detector stand what the file size, the sharpness and the mean colour alone would come to.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deepfake_detect import Detector
from deepfake_detect.data import Sample, read_dataset
from deepfake_detect.metrics import (
    average_precision,
    balanced_accuracy,
    bootstrap_interval,
    expected_calibration_error,
    roc_auc,
)

ROUNDS = 1000


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A sample and what the detector said of it; None where it found no face."""

    sample: Sample
    logit: float | None
    score: float | None
    label: str
    cues: tuple[float, float, float]


def score(detector: Detector, samples: Sequence[Sample]) -> list[Scored]:
    """Ask the detector for every sample, in order."""
    predictions = detector.predict_many([sample.image for sample in samples])
    return [
        Scored(
            sample=sample,
            logit=prediction.logit,
            score=prediction.score,
            label=prediction.label,
            cues=_cues(sample.image),
        )
        for sample, prediction in zip(samples, predictions, strict=True)
    ]


def table(rows: Sequence[Scored], threshold: float) -> dict[str, dict[str, Any]]:
    """Figures for each source, and over all."""
    found = [row for row in rows if row.score is not None]
    sources = sorted({row.sample.source for row in rows})
    figures = {source: _figures(_paired(found, source), threshold) for source in sources}
    figures["all"] = _figures(found, threshold)
    for source, entry in figures.items():
        own = [row for row in rows if source in ("all", row.sample.source)]
        entry["n"] = len(own)
        entry["no_face"] = sum(row.score is None for row in own)
        scored = [row for row in own if row.score is not None]
        entry["uncertain"] = round(float(np.mean([row.label == "uncertain" for row in scored])), 4)
        entry |= _rates(scored, threshold)
    return figures


def show(figures: dict[str, dict[str, Any]]) -> str:
    """The figures as a markdown table."""
    lines = [
        "| source | n | no face | uncertain | AUC | balanced accuracy | false alarms | missed fakes "
        "| AUC of file size / sharpness / colour |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for source, entry in figures.items():
        auc = "{:.3f} [{:.3f}, {:.3f}]".format(entry["auc"], *entry["auc_interval"])
        accuracy = "{:.3f} [{:.3f}, {:.3f}]".format(entry["balanced_accuracy"], *entry["balanced_accuracy_interval"])
        cues = " / ".join(f"{value:.2f}" for value in entry["cue_auc"])
        rates = " | ".join("-" if entry[name] is None else f"{entry[name]:.3f}" for name in ("false_alarms", "missed"))
        counts = f"{entry['n']} | {entry['no_face']} | {entry['uncertain']:.0%}"
        lines.append(f"| {source} | {counts} | {auc} | {accuracy} | {rates} | {cues} |")
    whole = figures["all"]
    lines.append("")
    lines.append(f"AP {whole['ap']:.3f}, ECE {whole['ece']:.3f} over all.")
    return "\n".join(lines)


def write(rows: Sequence[Scored], path: Path) -> None:
    """Keep the scores, one line a picture."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["file", "source", "generator", "group", "split", "label", "logit", "score", "note"])
        for row in rows:
            s = row.sample
            out.writerow([s.image.name, s.source, s.generator, s.group, s.split, s.label, row.logit, row.score, s.note])


def _paired(rows: Sequence[Scored], source: str) -> list[Scored]:
    """A source's pictures, and the other class of all other sources where it has one class only."""
    own = [row for row in rows if row.sample.source == source]
    labels = {row.sample.label for row in own}
    if len(labels) == 2:
        return own
    return own + [row for row in rows if row.sample.source != source and row.sample.label not in labels]


def _figures(rows: Sequence[Scored], threshold: float) -> dict[str, Any]:
    y = np.array([row.sample.label for row in rows])
    p = np.array([row.score for row in rows], float)
    groups = np.array([row.sample.group for row in rows])
    cues = np.array([row.cues for row in rows])

    def interval(statistic: Callable[[np.ndarray, np.ndarray], float]) -> tuple[float, float]:
        low, high = bootstrap_interval(statistic, y, p, groups=groups, rounds=ROUNDS)
        return round(low, 4), round(high, 4)

    def accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
        return balanced_accuracy(labels, scores, threshold=threshold)

    alone = [roc_auc(y, cue) for cue in cues.T]
    return {
        "auc": round(roc_auc(y, p), 4),
        "auc_interval": interval(roc_auc),
        "balanced_accuracy": round(accuracy(y, p), 4),
        "balanced_accuracy_interval": interval(accuracy),
        "ap": round(average_precision(y, p), 4),
        "ece": round(expected_calibration_error(y, p), 4),
        "cue_auc": [round(max(value, 1 - value), 3) for value in alone],
    }


def _rates(rows: Sequence[Scored], threshold: float) -> dict[str, float | None]:
    real = [row.score >= threshold for row in rows if row.sample.label == 0 and row.score is not None]
    fake = [row.score < threshold for row in rows if row.sample.label == 1 and row.score is not None]
    return {
        "false_alarms": round(float(np.mean(real)), 4) if real else None,
        "missed": round(float(np.mean(fake)), 4) if fake else None,
    }


def _cues(file: Path) -> tuple[float, float, float]:
    """File size, sharpness and colour: what a detector should not live on."""
    pixels = cv2.imread(str(file))
    sharpness = float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), cv2.CV_64F).var())
    blue, _, red = pixels.reshape(-1, 3).mean(0)
    return float(file.stat().st_size), sharpness, float(red - blue)


def main() -> None:
    """Read the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="name, name@version or folder")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, help="CSV file for the scores")
    options = parser.parse_args()
    detector = Detector.from_pretrained(options.bundle)
    rows = score(detector, read_dataset(options.data / "manifest.csv", splits=[options.split]))
    print(f"{detector.card.id}, {options.split} split, threshold {detector.card.threshold:.3f}\n")
    print(show(table(rows, detector.card.threshold)))
    if options.out:
        write(rows, options.out)


if __name__ == "__main__":
    main()
