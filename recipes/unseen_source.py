"""Measure what fine-tuning on 200 pictures of an unseen source gains, and what it costs on other sources.

Usage:
    python -m recipes.forged_copies swap --data DATA --splits val,test --count 450 --out COPIES
    python -m recipes.unseen_source --copies COPIES --data DATA

The packaged detector was not trained on this forgery: faces that are covered with their own mirror image. It is
fine-tuned on 100 photographs and their forged copies (15 % of them for validation), and measured before and after on
other photographs and their copies, and on a part of the test split of the known sources. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from deepfake_detect import Detector, Report
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.drawing.html import format_figure

LEARNED = 100  # photographs, each with its forged copy
KNOWN = 600  # pictures of the test split of known sources

WAYS: dict[str, dict[str, Any]] = {
    "last layer alone, 40 epochs": {"epochs": 40, "freeze": "backbone"},
    "all layers, 10 epochs": {"epochs": 10},
}


def main() -> None:
    """Read the command line, measure, teach, measure again, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=Path, required=True, help="folder that recipes.forged_copies wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--model", default="xception-fakefaces")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    copies = read_dataset(options.copies)
    groups = sorted({sample.group for sample in copies})
    learned = set(groups[:: len(groups) // LEARNED][:LEARNED])
    new = [sample for sample in copies if sample.group not in learned]
    known = read_dataset(options.data, splits=["test"])
    known = known[:: len(known) // KNOWN]
    detector = Detector.from_pretrained(options.model)
    print("| detector | minutes | unseen source: AUC | balanced accuracy | known sources: AUC | balanced accuracy |")
    print("|---|---|---|---|---|---|")
    print(
        line(f"`{detector.card.id}`, as packaged", None, measured(detector, new), measured(detector, known)), flush=True
    )
    for name, how in WAYS.items():
        began = time.monotonic()
        tuned = detector.fine_tune([sample for sample in copies if sample.group in learned], check="off", **how)
        minutes = (time.monotonic() - began) / 60
        print(line(name, minutes, measured(tuned, new), measured(tuned, known)), flush=True)


def measured(detector: Detector, samples: Sequence[Sample]) -> Report:
    """Measure on pictures that nothing was learned from."""
    return detector.evaluate(list(samples))


def line(name: str, minutes: float | None, new: Report, known: Report) -> str:
    """One line of the table."""
    figures = [
        format_figure(getattr(report, metric), report.intervals[metric])
        for report in (new, known)
        for metric in ("auc", "balanced_accuracy")
    ]
    return f"| {name} | {'' if minutes is None else f'{minutes:.1f}'} | {' | '.join(figures)} |"


if __name__ == "__main__":
    main()
