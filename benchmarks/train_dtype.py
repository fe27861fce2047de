"""Compare the detectors that the same training gives in bfloat16 and in float32.

    python benchmarks/train_dtype.py --data DATA --source ciplab --start TRUNK --size-px 128 --pictures 512 --epochs 4

The same network is trained on the same batches with the same seed in both. Their scores on the validation split are
compared: AUC with its interval, and the difference over the same resamples.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from deepfake_detect.datasets.crops import find_crops
from deepfake_detect.datasets.face_cache import FaceStore
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.metrics.classification import bootstrap_interval, roc_auc
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.training.augment import Augmentation
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.training.initial import untrained
from deepfake_detect.training.loop import fit
from deepfake_detect.training.schedule import Schedule


def main() -> None:
    """Train twice for each seed, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--source", default="ciplab")
    parser.add_argument("--model", default="xception")
    parser.add_argument("--start", type=Path, help=".safetensors file of timm's weights; random ones where missing")
    parser.add_argument("--size-px", type=int, default=128)
    parser.add_argument("--pictures", type=int, default=512, help="to learn from, in each epoch")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    store = FaceStore()
    learned = find_crops(spread(options, "train", options.pictures), store).samples
    held = find_crops(spread(options, "val", None), store).samples
    model, card = untrained(options.model, name="dtype", start=options.start, size_px=options.size_px)
    prep = card.preprocessing
    crops = CropDataset(learned, store, preprocessing=prep, augmentation=Augmentation())
    shown = CropDataset(held, store, preprocessing=prep)
    label, groups = np.array([sample.label for sample in held]), np.array([sample.group for sample in held])
    print(f"{len(learned)} pictures, {options.epochs} epochs, {options.size_px} px; AUC on {len(held)} others")
    print("| seed | numbers | AUC | seconds |\n|---|---|---|---|")
    for seed in range(options.seeds):
        logits = {}
        for dtype in ("float32", "bfloat16"):
            schedule = Schedule(epochs=options.epochs, lr=3e-4, batch_size=32, seed=seed)
            pupil, start = copy.deepcopy(model), time.monotonic()
            with tempfile.TemporaryDirectory() as out:
                fit(pupil, crops, card=card, schedule=schedule, out=Path(out), device="cpu", dtype=dtype)
            seconds = time.monotonic() - start
            predictor = Predictor(model=pupil, card=card, device="cpu", backend="torch")
            logits[dtype] = np.array([predictor.logits([shown[place][0].numpy()])[0] for place in range(len(shown))])
            low, high = bootstrap_interval(roc_auc, label, logits[dtype], groups=groups)
            print(f"| {seed} | {dtype} | {roc_auc(label, logits[dtype]):.3f} [{low:.3f}, {high:.3f}] | {seconds:.0f} |")
        apart = partial(difference, logits["bfloat16"], logits["float32"])
        low, high = bootstrap_interval(apart, label, np.arange(len(label)), groups=groups)
        print(f"| {seed} | bfloat16 over float32 | [{low:+.3f}, {high:+.3f}] | |", flush=True)


def spread(options: argparse.Namespace, split: str, count: int | None) -> list[Sample]:
    """Choose pictures of the source evenly over the split."""
    samples = read_dataset(options.data / "manifest.csv", splits=[split])
    samples = [sample for sample in samples if sample.source == options.source]
    places = np.linspace(0, len(samples) - 1, min(count or len(samples), len(samples))).astype(int)
    return [samples[place] for place in places]


def difference(first: np.ndarray, second: np.ndarray, y: np.ndarray, places: np.ndarray) -> float:
    """Tell how far apart two AUC lie on the pictures drawn."""
    drawn = places.astype(int)
    return roc_auc(y, first[drawn]) - roc_auc(y, second[drawn])


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
