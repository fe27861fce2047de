"""Measure whether the memory of `predict_many` stays constant over many pictures.

    python benchmarks/memory.py --count 100000 --model meso4-fakefaces

The pictures are a few JPEGs of many sizes over and over, one in twenty of twelve megapixels; the resident set is noted
ten times on the way.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from deepfake_detect import Detector

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"
SIDES_PX = (*range(160, 388, 12), 4000)
"""Of the pictures; the last is three quarters as high."""


def main() -> None:
    """Run, and print how much memory there was in use."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--model", default="meso4-fakefaces")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--faces", default="none")
    options = parser.parse_args()
    most, began = 0, time.monotonic()
    detector = Detector.from_pretrained(options.model, device="cpu", backend=options.backend)
    with tempfile.TemporaryDirectory() as folder:
        pictures = itertools.islice(itertools.cycle(written(Path(folder))), options.count)
        for number, _ in enumerate(detector.predict_many(pictures, faces=options.faces), start=1):
            if number % 50 == 0:
                most = max(most, resident())
            if number % max(1, options.count // 10) == 0:
                rate = number / (time.monotonic() - began)
                print(f"{number:7,} pictures, {rate:.0f}/s: {resident()} MiB, {most} at most", flush=True)


def resident() -> int:
    """Give the memory in use, in MiB; Linux tells it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 2**20


def written(folder: Path) -> Iterator[Path]:
    portrait = Image.open(PORTRAIT).convert("RGB")
    for side in SIDES_PX:
        path = folder / f"{side}.jpg"
        portrait.resize((side, side * 3 // 4 if side > 1000 else side)).save(path, quality=90)
        yield path


if __name__ == "__main__":
    main()
