"""Does a faster way to compute say the same of every picture?

The faces of the test split are scored by the network as it is, in float32, and by what `Predictor` runs on this machine
in each dtype. A label that changes, or a score that moves by more than 0.01, speaks against a way.

    python benchmarks/fidelity.py --data DATA --model xception-fakefaces mobile-fakefaces meso4-fakefaces
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from deepfake_detect import Detector
from deepfake_detect.crops import CropDataset, find_crops
from deepfake_detect.data import Sample, read_dataset
from deepfake_detect.facestore import FaceStore
from deepfake_detect.forward import run
from deepfake_detect.preprocess import to_batch
from deepfake_detect.scoring import judge

BATCH_SIZE = 4


def main() -> None:
    """Score, compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--model", nargs="+", default=["xception-fakefaces"])
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--limit", type=int, help="pictures, spread over the split")
    options = parser.parse_args()
    samples = read_dataset(options.data / "manifest.csv", splits=["test"])
    if options.limit:
        samples = samples[:: max(1, len(samples) // options.limit)]
    print("| weights | computed in | faces | labels changed | score moved, most | 99 % by less | logit moved, mean |")
    print("|---|---|---|---|---|---|---|")
    for name in options.model:
        compare(name, options.dtype, samples)


def compare(name: str, dtypes: list[str], samples: list[Sample]) -> None:
    """Print a line for each dtype of one detector."""
    ways = {dtype: Detector.from_pretrained(name, device="cpu", dtype=dtype) for dtype in dtypes}
    plain = Detector.from_pretrained(name, device="cpu")
    store = FaceStore()
    crops = CropDataset(find_crops(samples, store).samples, store, preprocessing=plain.card.preprocessing)
    logits: dict[str, list[float]] = {way: [] for way in ("plain", *ways)}
    for start in tqdm(range(0, len(crops), BATCH_SIZE), desc=name, leave=False):
        some = [crops[index][0].numpy() for index in range(start, min(start + BATCH_SIZE, len(crops)))]
        batch = to_batch(some, preprocessing=plain.card.preprocessing)
        logits["plain"] += run(plain.model, batch, device=plain.device, dtype=torch.float32).tolist()
        for dtype, detector in ways.items():
            logits[dtype] += detector.logits(some)
    judged = {way: [judge(logit, card=plain.card) for logit in values] for way, values in logits.items()}
    for dtype in ways:
        pairs = list(zip(judged[dtype], judged["plain"], strict=True))
        changed = sum(one[1] != other[1] for one, other in pairs)
        moved = np.abs([one[0] - other[0] for one, other in pairs])
        far = np.abs(np.subtract(logits[dtype], logits["plain"])).mean()
        told = f"{changed} | {moved.max():.2g} | {np.quantile(moved, 0.99):.2g} | {far:.2g}"
        print(f"| `{plain.card.id}` | {dtype} | {len(pairs)} | {told} |", flush=True)


if __name__ == "__main__":
    main()
