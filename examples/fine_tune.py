"""Fine-tune a packaged detector on your own pictures, and print how the validation AUC changes.

    python examples/fine_tune.py [FOLDER]

FOLDER holds the folders real/ and fake/. Without it, the two portraits are copied in several brightnesses.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageEnhance

from deepfake_detect import Detector

EXAMPLES = Path(__file__).parent


def write_samples(folder: Path) -> Path:
    """Write copies of the two portraits to the class folders real/ and fake/."""
    for label, file in (("real", "portrait.jpg"), ("fake", "portrait_fake.jpg")):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            brighter = ImageEnhance.Brightness(Image.open(EXAMPLES / file)).enhance(0.7 + number / 20)
            brighter.save(folder / label / f"{number:02}.jpg")
    return folder


def main() -> None:
    """Fine-tune the last layer, which is fastest, and save the detector to the folder ``mine``."""
    detector = Detector.from_pretrained("meso4-fakefaces")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(sys.argv[1]) if len(sys.argv) > 1 else write_samples(Path(folder, "faces"))
        check = "warn" if len(sys.argv) > 1 else "off"  # the copies are all near duplicates
        mine = detector.fine_tune(data, freeze="backbone", epochs=20, lr=1e-2, check=check)
    for epoch in mine.history[::5]:
        print(f"epoch {epoch.epoch:>2}: loss {epoch.loss:.3f}, validation AUC {epoch.valid_auc:.3f}")
    mine.save_pretrained("mine")
    print(f"{mine.card.id}: kept in mine/, {mine.calibration['note']}")


if __name__ == "__main__":
    main()
