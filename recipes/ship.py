"""Turn a training into a packaged bundle: half precision, calibrated, measured, with golden logits.

Usage:
    python -m recipes.ship RUNS/xception-fakefaces --data DATA --to deepfake_detect/pretrained --version 1 \\
        --recipe "python -m recipes.train xception-fakefaces ..." --limit "..."

Temperature, bias and the uncertain band are fitted on the val split; every figure in the card is of the test split.
Prints the table for MODELS.md.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepfake_detect import Detector
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.evaluation.calibration import calibrate
from deepfake_detect.predict.verdict import judge
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.golden import golden_pictures
from deepfake_detect.weights.load import load_model, save_bundle
from recipes.measure import show, table
from recipes.plans import PLANS

ALARMS, MISSES = 0.02, 0.1
"""Largest shares of validation photographs called fake, and of fakes called real, outside the uncertain band."""

WIDEST = (0.3, 0.95)
"""Widest uncertain band."""

LICENCE = "research and evaluation only: the licences of the training data do not allow more"

MADE_UP = "made-up fakes of these photographs: self-blended, by the TAEF2 autoencoder (MIT), with up-sampling grids"

TRAINING_DATA = (
    "DFDC face crops: DFDC licence",
    "CIPLAB real and fake face detection: Kaggle, terms unstated",
    "FFHQ photographs (CC BY-NC-SA 4.0 family), StyleGAN and StyleGAN3 faces (non-commercial)",
    "SFHQ-T2I (FLUX.1, SDXL) and Stable Diffusion 1.4 portraits, studio GAN portraits: mixed terms",
    "inswapper-128 and classical face swaps on FFHQ and LFW photographs: research",
    "OpenForensics: research; its labels were inferred",
    "UTKFace, MEBeauty (non-commercial), Caltech faces, Unsplash, web, phone and league portraits: mixed terms",
    MADE_UP,
)


def settled(detector: Detector, samples: Sequence[Sample]) -> Detector:
    """Fit the score to a probability (Platt 1999), with the threshold at one half and an uncertain band around it."""
    fitted = calibrate(detector, samples, method="platt+conformal", max_false_alarm=ALARMS)
    predictions = detector.predict_many((s.image for s in samples if s.label == 1), on_error="yield")
    scores = [judge(prediction.logit, card=fitted)[0] for prediction in predictions if prediction.logit is not None]
    low = min(0.49, max(WIDEST[0], float(np.quantile(scores, MISSES))))
    high = max(0.51, min(WIDEST[1], fitted.threshold))
    note = (
        f"The score is a probability for pictures like the {len(samples)} that it was fitted on. From {low:.3f} to "
        f"{high:.3f} it is uncertain: above, {ALARMS:.0%} of these photographs are called fake, unless the band is at "
        f"its widest; below, {MISSES:.0%} of these fakes are called real. Nothing is promised of other pictures."
    )
    kept = ("n", "n_groups", "no_face", "unreadable", "temperature", "bias", "ece_before", "ece_after")
    record = {"method": "platt", **{name: fitted.calibration[name] for name in kept}, "note": note}
    card = replace(
        fitted, threshold=0.5, uncertain=(round(low, 4), round(high, 4)), calibration={**fitted.calibration, **record,
        "max_false_alarm": None, "false_alarms_seen": None, "false_alarm_bound_95": None, "uncertain_rate": None},
    )  # fmt: skip
    shipped = copy.copy(detector)  # the networks are the same
    shipped.card = card
    return shipped


def training_data(name: str) -> tuple[str, ...]:
    """List the training data of a detector; forged copies only where its plan uses them."""
    made_up = name not in PLANS or PLANS[name].pictures.forged_by
    return tuple(text for text in TRAINING_DATA if made_up or text != MADE_UP)


def golden_logits(folder: Path) -> dict[str, float]:
    """Compute the logits of the built-in pictures with a bundle."""
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
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--limit", action="append", default=[], help="what it is bad at; may be given again")
    parser.add_argument("--recipe", required=True, help="the command that trained it")
    options = parser.parse_args()
    manifest = options.data / "manifest.csv"
    networks = find_bundle(options.run).networks
    card, (model, *textures) = networks[0].card, map(load_model, networks)
    texture = textures[0] if textures else None
    card = replace(
        card, version=options.version, licence=LICENCE, training_data=training_data(card.name),
        limits=tuple(options.limit), recipe=options.recipe,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        save_bundle(model, card, work, texture=texture)  # figures are those of the weights as shipped
        card = settled(Detector.from_pretrained(work), read_dataset(manifest, splits=["val"])).card
        card = replace(card, golden=golden_logits(work))
        save_bundle(model, card, work, texture=texture)
        report = Detector.from_pretrained(work).evaluate(manifest, split="test")
    figures = table(report)
    card = replace(card, metrics={"test": figures})
    save_bundle(model, card, options.to / card.id, texture=texture)
    print(f"\n{card.id}, uncertain {card.uncertain}, ECE {report.ece:.4f}, test split\n\n{show(figures)}")


if __name__ == "__main__":
    main()
