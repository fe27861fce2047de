"""Compare the scores of the faster ways to compute with those of the exact one.

The faces of the test split are scored by the plain torch network in float32, and by `Predictor` with each backend and
dtype of this machine. A backend is unfit if labels change, or if a score moves by more than 0.01.

    python benchmarks/fidelity.py --data DATA --model xception-fakefaces mobile-fakefaces meso4-fakefaces
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from deepfake_detect import Detector
from deepfake_detect.datasets.crops import find_crops
from deepfake_detect.datasets.face_cache import FaceStore
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.engines.openvino_graph import is_installed
from deepfake_detect.engines.torch_engine import run
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.predict.verdict import judge
from deepfake_detect.training.crop_dataset import CropDataset

BATCH_SIZE = 4


def main() -> None:
    """Score, compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--model", nargs="+", default=["xception-fakefaces"])
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--backend", nargs="+", default=["torch", *(["openvino"] if is_installed() else [])])
    parser.add_argument("--limit", type=int, help="pictures, spread over the split")
    options = parser.parse_args()
    samples = read_dataset(options.data / "manifest.csv", splits=["test"])
    if options.limit:
        samples = samples[:: max(1, len(samples) // options.limit)]
    ways = [(backend, dtype) for backend in options.backend for dtype in options.dtype]
    print(
        "| weights | computed by | in | faces | labels changed | score moved, most | 99 % by less | logit moved, mean |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in options.model:
        compare(name, ways, samples)


def compare(name: str, settings: list[tuple[Any, str]], samples: list[Sample]) -> None:
    """Print a line for each way of one detector."""
    ways = {way: Detector.from_pretrained(name, device="cpu", backend=way[0], dtype=way[1]) for way in settings}
    plain = Detector.from_pretrained(name, device="cpu", backend="torch")
    store = FaceStore()
    crops = CropDataset(find_crops(samples, store).samples, store, preprocessing=plain.card.preprocessing)
    exact: list[float] = []
    logits: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for start in tqdm(range(0, len(crops), BATCH_SIZE), desc=name, leave=False):
        some = [crops[index][0].numpy() for index in range(start, min(start + BATCH_SIZE, len(crops)))]
        batch = to_batch(some, preprocessing=plain.card.preprocessing)
        exact += run(plain.model, batch, device=plain.device, dtype=torch.float32).tolist()
        for way, detector in ways.items():
            logits[way] += detector.logits(some)
    exact_verdicts = [judge(logit, card=plain.card) for logit in exact]
    for (backend, dtype), others in logits.items():
        pairs = list(zip([judge(logit, card=plain.card) for logit in others], exact_verdicts, strict=True))
        changed = sum(exact_one[1] != other[1] for exact_one, other in pairs)
        moved = np.abs([exact_one[0] - other[0] for exact_one, other in pairs])
        far = np.abs(np.subtract(others, exact)).mean()
        cells = f"{changed} | {moved.max():.2g} | {np.quantile(moved, 0.99):.2g} | {far:.2g}"
        print(f"| `{plain.card.id}` | {backend} | {dtype} | {len(pairs)} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
