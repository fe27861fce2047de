"""Compare the speed of the mobile detector with that of the flagship.

Both score the same crops, and the same pictures including the search for faces, in turns, so that other load on the
machine affects both alike.

    python benchmarks/mobile_speed.py --threads 1
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deepfake_detect import Detector

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"
WAYS = ("model, one crop", "model, 16 crops", "predict_many, faces found")


def ways_of(detector: Detector, count: int) -> dict[str, Callable[[], int]]:
    """Give the ways to score; each says how many faces it scored."""
    prep = detector.card.preprocessing
    crop = np.asarray(Image.open(PORTRAIT).resize((prep.size_px, prep.size_px)))
    pictures = [np.asarray(Image.open(PORTRAIT))] * count

    def bare(size: int) -> int:
        for _ in range(max(1, count // size)):
            detector.logits([crop] * size)
        return max(1, count // size) * size

    ways = (lambda: bare(1), lambda: bare(16), lambda: sum(len(p.faces) for p in detector.predict_many(pictures)))
    return dict(zip(WAYS, ways, strict=True))


def main() -> None:
    """Read the command line, measure in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=32, help="faces in a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = ("xception-fakefaces", "mobile-fakefaces")
    detectors = {name: ways_of(Detector.from_pretrained(name, device="cpu"), options.count) for name in names}
    rates: dict[tuple[str, str], list[float]] = {}
    for turn in range(options.rounds + 1):  # the first one warms up
        for way in WAYS:
            for name in names:
                began = time.perf_counter()
                faces = detectors[name][way]()
                if turn:
                    rates.setdefault((way, name), []).append(faces / (time.perf_counter() - began))
    print(f"torch {torch.__version__}, {options.threads} threads; faces/s, median of {options.rounds} rounds")
    for way in WAYS:
        slow, fast = (rates[way, name] for name in names)
        ratios = [second / first for first, second in zip(slow, fast, strict=True)]
        print(
            f"{way:<26} {statistics.median(slow):7.1f} {statistics.median(fast):7.1f}   "
            f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
