"""Turn a trained run into the bundle that ships: half precision, calibrated, measured, with golden logits.

Usage:
    python -m recipes.ship_preview RUN --data DATA --to deepfake_detect/pretrained

Calibration (Platt 1999) is fitted on the val split; every figure in the card is of the test split.
Prints the table for MODELS.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepfake_detect import Detector
from deepfake_detect.card import Card
from deepfake_detect.evaluate import evaluate
from deepfake_detect.golden import golden_pictures
from deepfake_detect.metrics import expected_calibration_error, fit_platt
from deepfake_detect.rows import Row
from deepfake_detect.weights import load_model, save_bundle
from recipes.measure import show, table

UNCERTAIN = (0.4, 0.6)
"""Scores at which a label would be wrong for two pictures in five or more: said to be uncertain."""

LICENCE = "research and evaluation only: the licences of the training data do not allow more"

TRAINING_DATA = (
    "DFDC face crops: DFDC licence",
    "CIPLAB real and fake face detection: Kaggle, terms unstated",
    "FFHQ photographs (CC BY-NC-SA 4.0 family), StyleGAN and StyleGAN3 faces (non-commercial)",
    "SFHQ-T2I (FLUX.1, SDXL) and Stable Diffusion 1.4 portraits, studio GAN portraits: mixed terms",
    "inswapper-128 and classical face swaps on FFHQ and LFW photographs: research",
    "OpenForensics: research; its labels were inferred",
    "UTKFace, MEBeauty (non-commercial), Caltech faces, Unsplash, web, phone and league portraits: mixed terms",
)


def calibrated(card: Card, rows: Sequence[Row]) -> Card:
    """Fit temperature and bias on scored pictures, so that the score is a probability."""
    found = [row for row in rows if row.logit is not None]
    logit = np.array([row.logit for row in found], float)
    label = np.array([row.label == "fake" for row in found], int)
    temperature, bias = fit_platt(logit, label)
    after = 1 / (1 + np.exp(-(logit / temperature + bias)))
    before = 1 / (1 + np.exp(-logit))
    error = [f"{expected_calibration_error(label, score):.4f}" for score in (before, after)]
    print(f"temperature {temperature:.4f}, bias {bias:.4f}; validation ECE {error[0]} -> {error[1]}")
    return replace(card, temperature=round(temperature, 6), bias=round(bias, 6), threshold=0.5, uncertain=UNCERTAIN)


def golden_logits(folder: Path) -> dict[str, float]:
    """What the bundle says of the pictures made in the package."""
    detector = Detector.from_pretrained(folder, device="cpu", dtype="float32")
    names = golden_pictures()
    logits = [prediction.logit for prediction in detector.predict_many(names.values(), faces="none", batch_size=1)]
    return {name: round(float(logit), 5) for name, logit in zip(names, logits, strict=True) if logit is not None}


def main() -> None:
    """Read the command line, calibrate, measure and write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished training")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--to", type=Path, required=True, help="folder of the packaged bundles")
    parser.add_argument("--limit", action="append", default=[], help="what it is bad at; may be given again")
    parser.add_argument("--recipe", default="", help="the command that trained it")
    options = parser.parse_args()
    manifest = options.data / "manifest.csv"
    model, card = load_model(options.run), Card.from_json((options.run / "card.json").read_bytes())
    card = replace(card, licence=LICENCE, training_data=TRAINING_DATA, limits=tuple(options.limit),
                   recipe=options.recipe)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        save_bundle(model, card, work)  # figures are those of the weights as shipped
        card = calibrated(card, evaluate(Detector.from_pretrained(work), manifest, split="val").rows)
        card = replace(card, golden=golden_logits(work))
        save_bundle(model, card, work)
        report = evaluate(Detector.from_pretrained(work), manifest, split="test")
    figures = table(report)
    card = replace(card, metrics={"test": figures})
    target = options.to / card.id
    save_bundle(model, card, target)
    print(f"\n{card.id} -> {target}, test split, threshold {card.threshold}\n\n{show(figures)}")


if __name__ == "__main__":
    main()
