"""Compare networks from scratch and with transfer on photoshopped faces, side by side.

Usage:
    python -m recipes.compare_ciplab --data DATA --weights MODELS --out RUNS [--only cnn4 --only cnn6]

Each network learns the train split of CIPLAB with `Detector.train`, keeps its best epoch on the val split, and is
measured once on the test split with `Detector.evaluate`. Every run may be stopped and goes on where it was. Prints the
table of docs/comparison.md, and keeps a report with curves and gallery of each in RUNS.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deepfake_detect import Detector
from deepfake_detect.datasets.read import Sample, read_dataset


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network of the comparison."""

    model: str
    start: str | None = None  # file of ImageNet weights in MODELS
    size_px: int = 128
    augment: str = "default"
    epochs: int = 15
    lr: float = 1e-3
    start_name: str = "from scratch"


TRANSFER = "ImageNet weights"
ROWS = {
    "cnn-simple": Row(model="cnn-simple"),
    "cnn4, no augmentation": Row(model="cnn4", augment="none"),
    "cnn4": Row(model="cnn4"),
    "cnn6": Row(model="cnn6"),
    "cnn6-dropout": Row(model="cnn6-dropout"),
    "vgg16": Row(model="vgg16", size_px=64, epochs=2, lr=3e-4),
    "efficientnet-b0": Row(
        model="efficientnet-b0",
        start="efficientnet_b0.imagenet.safetensors",
        size_px=160,
        epochs=10,
        lr=5e-4,
        start_name=TRANSFER,
    ),
    "xception": Row(
        model="xception",
        start="legacy_xception.imagenet-trunk.safetensors",
        size_px=160,
        epochs=10,
        lr=3e-4,
        start_name=TRANSFER,
    ),
}


def run(name: str, row: Row, samples: list[Sample], weights: Path, out: Path) -> dict[str, Any]:
    """Train one network, or read its saved result; return its report and the seconds of the training."""
    folder = out / name.replace(", ", "-").replace(" ", "-")
    saved = folder / "report" / "report.json"
    if not saved.exists():
        detector = Detector.train(
            [s for s in samples if s.split != "test"],
            model=row.model,
            start=weights / row.start if row.start else None,
            size_px=row.size_px,
            epochs=row.epochs,
            lr=row.lr,
            augment=row.augment,
            check="off",  # audited once, in docs/audit.md
            out=folder,
            resume=True,
            seed=0,
        )
        report = detector.evaluate([s for s in samples if s.split == "test"])
        report.save(folder / "report")
        seconds = sum(epoch.seconds for epoch in detector.history)
        (folder / "seconds.json").write_text(json.dumps({"seconds": seconds, "epochs": len(detector.history)}))
    return {**json.loads(saved.read_text()), **json.loads((folder / "seconds.json").read_text())}


def line(name: str, row: Row, report: dict[str, Any]) -> str:
    """Format one line of the table."""

    def figure(metric: str) -> str:
        low, high = report["intervals"][metric]
        return f"{report[metric]:.3f} [{low:.3f}, {high:.3f}]"

    difficulty = report["by"]["difficulty"]
    levels = " / ".join(f"{difficulty[level]['auc']:.2f}" for level in ("easy", "mid", "hard") if level in difficulty)
    collapsed = f"yes: {report['collapsed']}" if report["collapsed"] else "no"
    minutes = f"{report['seconds'] / 60:.0f}"
    return (
        f"| {name} | {row.start_name} | {row.size_px} | {report['epochs']} | {figure('accuracy')} | {figure('auc')} "
        f"| {levels} | {collapsed} | {minutes} |"
    )


def main() -> None:
    """Read the command line, train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--weights", type=Path, required=True, help="folder with ImageNet weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", action="append", choices=list(ROWS), help="may be given again")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    samples = [s for s in read_dataset(options.data / "manifest.csv") if s.source == "ciplab"]
    lines = []
    for name in options.only or ROWS:
        report = run(name, ROWS[name], samples, options.weights, options.out)
        lines.append(line(name, ROWS[name], report))
        majority = report["majority"]
    print("| network | start | px | epochs | accuracy | AUC | AUC easy / mid / hard | collapsed | minutes |")
    print("|---|---|---|---|---|---|---|---|---|")
    print(f"| majority | | | | {majority:.3f} | | | yes | |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
