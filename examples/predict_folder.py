"""Score all pictures of a folder, and draw the verdict on each.

    python examples/predict_folder.py FOLDER DRAWN

Scores every picture, the damaged ones included, and writes each with its faces framed to the folder DRAWN.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from deepfake_detect import Detector

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


def main() -> None:
    """Print a line for each picture."""
    parser = argparse.ArgumentParser(description="Score the pictures of a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("drawn", type=Path)
    parser.add_argument("--model", default="xception-fakefaces")
    options = parser.parse_args()

    paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    options.drawn.mkdir(parents=True, exist_ok=True)
    detector = Detector.from_pretrained(options.model)
    for path, prediction in zip(paths, detector.predict_many(paths, on_error="yield"), strict=True):
        if prediction.error is not None:
            print(f"error    {path}: {prediction.error}")
            continue
        score = "    -" if prediction.score is None else f"{prediction.score:5.3f}"
        print(f"{prediction.label:8} {score} {path}")
        prediction.save(options.drawn / f"{path.stem}.png")


if __name__ == "__main__":
    main()
