"""Measure verdicts on each family of forgeries, on families left out of the training, and on photographs.

Usage:
    python -m recipes.verdict shipped BUNDLE --data DATA --out FIGURES    # a bundle on held-out groups
    python -m recipes.verdict unseen RUNS --data DATA --out FIGURES       # families and photographs left out
    python -m recipes.verdict made-up RUNS --data DATA --out FIGURES      # trained without fakes
    python -m recipes.verdict folds RUNS --data DATA --out FIGURES        # inswapper, in five folds

Everything goes through `Detector.evaluate`: faces found, cropped, scored. Intervals are 95 % bootstrap intervals over
groups. Each command adds its figures to a JSON file in FIGURES and prints them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from deepfake_detect import Detector, Report
from deepfake_detect.datasets.face_cache import FaceStore
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.evaluation.scored import Row
from recipes.measure import wilson
from recipes.ship import settled
from recipes.subgroups import by_person, by_thirds
from recipes.training_pictures import FAMILIES, FOLDS, PLAIN_OUT, TrainingPictures

STUDIO = ("ffhq140k", "inswapper", "headshots")
"""Sources of the photographs that GAN portraits are compared with: FFHQ, and the grey background of studios."""

ROBUST = ("jpeg50", "half", "webp")
DELIVERED = 500
"""Number of DFDC pictures that are scored after deliveries, beside all of the other sources."""


def families(known: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Return the fakes of each family with the photographs that they are compared with."""
    sets = {}
    for name, sources in FAMILIES.items():
        chosen = [s for s in known if s.source in sources]
        fakes = [s for s in chosen if s.label == 1]
        if name == "gan":
            chosen = fakes + [s for s in known if s.label == 0 and s.source in STUDIO]
        if name == "diffusion":
            chosen = fakes + [s for s in known if s.label == 0 and s.source != "dfdc"]
        sets[name] = chosen
    return sets


def figures_of(report: Report) -> dict[str, float | list[float]]:
    """Return the figures of a report that the table shows."""
    names = ("auc", "balanced_accuracy")
    figures = {name: _rounded(getattr(report, name)) for name in names}
    intervals = {f"{name}_interval": [_rounded(end) for end in report.intervals[name]] for name in names}
    return {"n": report.n, "no_face": report.no_face, **figures, **intervals, "ece": _rounded(report.ece)}


def alarms(report: Report) -> dict[str, float | int]:
    """Count the photographs called fake, and those called uncertain."""
    verdicts = [row.predicted for row in report.rows if row.label == "real" and row.score is not None]
    n, fake = len(verdicts), verdicts.count("fake")
    low, high = wilson(fake, n)
    return {
        "n": n, "called_fake": _rounded(fake / n), "interval": [_rounded(low), _rounded(high)],
        "uncertain": _rounded(verdicts.count("uncertain") / n),
    }  # fmt: skip


def shipped(bundle: str, data: Path) -> dict[str, object]:
    """Measure a bundle on the test split: each family, every delivery; and CIPLAB on val and test."""
    detector = Detector.from_pretrained(bundle)
    known = read_dataset(data / "manifest.csv")
    test = [s for s in known if s.split == "test"]
    figures: dict[str, object] = {"all": figures_of(whole := detector.evaluate(test)), "alarms": alarms(whole)}
    rows = {row.image: row for row in whole.rows}
    for name, samples in families(test).items():
        figures[name] = _figures_of_rows([rows[s.image] for s in samples], whole)
    valid = detector.evaluate([s for s in known if s.source == "ciplab" and s.split == "val"])
    ciplab = [row for row in whole.rows if row.source == "ciplab"] + list(valid.rows)
    figures["photoshop, val and test"] = _figures_of_rows(ciplab, whole)
    tables = {row.tags.get("qsum") for row in ciplab if row.label == "real"}
    same = [row for row in ciplab if row.tags.get("qsum") in tables]
    figures["photoshop, fakes with the quantisation of a real"] = _figures_of_rows(same, whole)
    figures["thirds of dfdc"] = by_thirds(whole.rows, FaceStore(), source="dfdc")
    figures["people"] = by_person(whole.rows, test)
    some = [s for s in test if s.source == "dfdc"][::2][:DELIVERED] + [s for s in test if s.source != "dfdc"]
    delivered = detector.evaluate(some, robustness=("clean", *ROBUST))
    figures["delivered"] = {
        name: {key: _rounded(getattr(delivery, key)) for key in ("auc", "lost_auc", "balanced_accuracy")}
        for name, delivery in delivered.robustness.items()
    }
    return figures


def unseen(runs: Path, data: Path) -> dict[str, object]:
    """Measure each training on the family and the photographs that it left out."""
    known = read_dataset(data / "manifest.csv")
    held = [s for s in known if s.split in ("val", "test")]
    figures: dict[str, object] = {}
    for name, samples in families(held).items():
        detector = _ready(runs / f"without-{name}", [s for s in known if s.split == "val" and _in_training(s, name)])
        figures[name] = figures_of(detector.evaluate(samples))
        for source in PLAIN_OUT[name]:
            figures[source] = alarms(detector.evaluate([s for s in known if s.source == source]))
    figures["mean"] = sum(figures[name]["auc"] for name in FAMILIES) / len(FAMILIES)  # type: ignore[index]
    return figures


def made_up(runs: Path, data: Path) -> dict[str, object]:
    """Measure the training without fakes on each family."""
    held = [s for s in read_dataset(data / "manifest.csv") if s.split in ("val", "test")]
    detector = Detector.from_pretrained(runs / "made-up", dtype="bfloat16")
    sets = families(held)
    sets |= {source: [s for s in held if s.source == source] for source in ("inswapper", "lfw-faceswap", "ffhq140k")}
    return {name: figures_of(detector.evaluate(samples)) for name, samples in sets.items()}


def in_folds(runs: Path, data: Path) -> dict[str, object]:
    """Measure each fold's training on the fold that it left out, all folds together."""
    known, rows = read_dataset(data / "manifest.csv"), []
    for number in range(FOLDS):
        left = TrainingPictures(fold=number).in_fold(known, left_out=True)
        detector = Detector.from_pretrained(runs / f"fold-{number}", dtype="bfloat16")
        rows += detector.evaluate(left).rows
    return {"inswapper": figures_of(Report.of_rows(rows, threshold=0.5, model="five folds"))}


def _figures_of_rows(rows: Sequence[Row], whole: Report) -> dict[str, float | list[float]]:
    return figures_of(Report.of_rows(rows, threshold=whole.threshold, model=whole.model))


def _in_training(sample: Sample, family: str) -> bool:
    return sample.source not in (*FAMILIES[family], *PLAIN_OUT[family])


def _ready(run: Path, valid: Sequence[Sample]) -> Detector:
    """Calibrate a training as those that ship, on the kinds of pictures that it was trained on."""
    some = [s for s in valid if s.source != "dfdc"] + [s for s in valid if s.source == "dfdc"][::3]
    return settled(Detector.from_pretrained(run, dtype="bfloat16"), some)


def _rounded(value: float) -> float:
    return round(float(value), 4)


def main() -> None:
    """Read the command line, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("shipped", "unseen", "made-up", "folds"))
    parser.add_argument("where", help="a bundle, or the folder of all trainings")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder of the figures")
    options = parser.parse_args()
    if options.what == "shipped":
        figures, name = shipped(options.where, options.data), Path(options.where).name
    else:
        measure = {"unseen": unseen, "made-up": made_up, "folds": in_folds}[options.what]
        figures, name = measure(Path(options.where), options.data), options.what
    text = json.dumps(figures, indent=1)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{name}.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
