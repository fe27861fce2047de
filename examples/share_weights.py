"""Save weights to a folder, load them on another machine, and share them on the Hub.

    python examples/share_weights.py FOLDER

Writes the two files of a bundle, `card.json` and `model.safetensors`, and loads them again. The folder can be copied
to a machine without a network; `detector.push_to_hub("owner/name")` publishes the same two files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from deepfake_detect import Detector

PORTRAIT = Path(__file__).with_name("portrait.jpg")


def main() -> None:
    """Save, load, compare."""
    parser = argparse.ArgumentParser(description="Save a detector to a folder and load it again.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="meso4-fakefaces")
    options = parser.parse_args()

    detector = Detector.from_pretrained(options.model)
    detector.save_pretrained(options.folder)
    again = Detector.from_pretrained(options.folder)
    before, after = detector.predict(PORTRAIT), again.predict(PORTRAIT)
    for path in sorted(options.folder.iterdir()):
        print(f"{path.stat().st_size:>10,} bytes {path}")
    print(f"{detector.card.id}: logit {before.logit} before, {after.logit} after")
    if before.logit != after.logit:
        raise SystemExit("the logits differ")


if __name__ == "__main__":
    main()
