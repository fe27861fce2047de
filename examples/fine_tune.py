"""Teach a packaged detector on one's own pictures, and see whether it became better.

    python examples/fine_tune.py [FOLDER]

FOLDER has real/ and fake/; without it, stand-ins are made of the two portraits.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageEnhance

from deepfake_detect import Detector

EXAMPLES = Path(__file__).parent


def stand_ins(folder: Path) -> Path:
    """Make a folder of class folders out of the two portraits."""
    for label, file in (("real", "portrait.jpg"), ("fake", "portrait_fake.jpg")):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            brighter = ImageEnhance.Brightness(Image.open(EXAMPLES / file)).enhance(0.7 + number / 20)
            brighter.save(folder / label / f"{number:02}.jpg")
    return folder


def main() -> None:
    """Fine-tune the last layer, the quickest way, and keep the detector in the folder ``mine``."""
    detector = Detector.from_pretrained("meso4-fakefaces")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(sys.argv[1]) if len(sys.argv) > 1 else stand_ins(Path(folder, "faces"))
        check = "warn" if len(sys.argv) > 1 else "off"  # the stand-ins are all near duplicates
        mine = detector.fine_tune(data, freeze="backbone", epochs=20, lr=1e-2, check=check)
    for epoch in mine.history[::5]:
        print(f"epoch {epoch.epoch:>2}: loss {epoch.loss:.3f}, validation AUC {epoch.valid_auc:.3f}")
    mine.save_pretrained("mine")
    print(f"{mine.card.id}: kept in mine/, {mine.calibration['note']}")


if __name__ == "__main__":
    main()
