"""Measure a detector on held-out groups, source by source, through the public interface.

Usage:
    python -m recipes.measure BUNDLE --data DATA [--split test] [--out FOLDER]

A source with one class only is paired with the other class of all other sources. Intervals are 95 %
bootstrap intervals over groups. Pictures in which no face is found are counted and left out; those
that the detector calls uncertain count by the side of the threshold on which they fall. Beside the
detector stand what the file size, the sharpness and the mean colour alone would come to.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deepfake_detect import Detector
from deepfake_detect.evaluation.evaluator import evaluate
from deepfake_detect.evaluation.report import Report
from deepfake_detect.evaluation.scored import Row
from deepfake_detect.evaluation.summary import Figures
from deepfake_detect.metrics.classification import roc_auc


def table(report: Report) -> dict[str, dict[str, Any]]:
    """Compute the figures for each source, and over all, as they stand on a card."""
    scored = [row for row in report.rows if row.score is not None]
    cues = {row.name: _cues(row.image) for row in scored}
    figures = {}
    for source, part in {**report.by["source"], "all": report}.items():
        rows = scored if source == "all" else _paired(scored, source)
        y = [row.label == "fake" for row in rows]
        alone = [roc_auc(y, cue) for cue in np.array([cues[row.name] for row in rows]).T]
        figures[source] = {**_figures(part), "cue_auc": [round(max(value, 1 - value), 3) for value in alone]}
    return figures


def show(figures: dict[str, dict[str, Any]]) -> str:
    """Format the figures as a Markdown table."""
    lines = [
        "| source | n | no face | uncertain | AUC | balanced accuracy | false alarms | missed fakes "
        "| AUC of file size / sharpness / colour |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for source, entry in figures.items():
        auc, accuracy = (_with_interval(entry, name) for name in ("auc", "balanced_accuracy"))
        cues = " / ".join(f"{value:.2f}" for value in entry["cue_auc"])
        rates = " | ".join("-" if entry[name] is None else f"{entry[name]:.3f}" for name in ("false_alarms", "missed"))
        counts = f"{entry['n']} | {entry['no_face']} | {entry['uncertain']:.0%}"
        lines.append(f"| {source} | {counts} | {auc} | {accuracy} | {rates} | {cues} |")
    whole = figures["all"]
    lines.append("")
    lines.append(f"AP {whole['ap']:.3f}, ECE {whole['ece']:.3f} over all.")
    return "\n".join(lines)


def wilson(hits: int, n: int, *, z: float = 1.96) -> tuple[float, float]:
    """Compute the 95 % interval of a share (Wilson 1927)."""
    share = hits / n
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def _paired(rows: Sequence[Row], source: str) -> list[Row]:
    """Return a source's pictures, with the other class of all other sources where it has one class only."""
    chosen = [row for row in rows if row.source == source]
    labels = {row.label for row in chosen}
    return chosen if len(labels) == 2 else chosen + [row for row in rows if row.label not in labels]


def _figures(figures: Figures) -> dict[str, Any]:
    names = ("auc", "balanced_accuracy", "ap", "ece", "false_alarms", "missed")
    return {
        "n": figures.n + figures.no_face + figures.unreadable,
        "no_face": figures.no_face,
        "uncertain": round(figures.uncertain / figures.n, 4) if figures.n else None,
        **{name: _rounded(getattr(figures, name)) for name in names},
        **{f"{name}_interval": [_rounded(end) for end in figures.intervals[name]] for name in names[:2]},
    }


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _with_interval(entry: dict[str, Any], name: str) -> str:
    low, high = entry[f"{name}_interval"]
    return f"{entry[name]:.3f} " + ("[?]" if low is None else f"[{low:.3f}, {high:.3f}]")


def _cues(file: Path) -> tuple[float, float, float]:
    """Measure file size, sharpness and colour, which a detector should not rely on."""
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
    parser.add_argument("--out", type=Path, help="folder for the whole report")
    options = parser.parse_args()
    detector = Detector.from_pretrained(options.bundle)
    report = evaluate(detector, options.data / "manifest.csv", split=options.split)
    print(f"{report.model}, {options.split} split, threshold {report.threshold:.3f}\n")
    print(show(table(report)))
    if options.out:
        report.save(options.out)


if __name__ == "__main__":
    main()
