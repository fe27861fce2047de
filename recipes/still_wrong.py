"""Make fakes that the default detector misses, from a picture that may be published.

Usage:
    python -m recipes.still_wrong tests/data/still_wrong

All are the portrait of `examples/` with its face swapped for its own mirror image, as `examples/make_fake.py` does.
Prints what the newest flagship says of each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from deepfake_detect import Detector, find_faces
from examples.make_fake import swap_face

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def pictures() -> dict[str, tuple[Image.Image, int]]:
    """Return each picture with its JPEG quality, by a name that describes the forgery."""
    fake = Image.open(EXAMPLES / "portrait_fake.jpg").convert("RGB")
    return {
        "sharp-swap": (sharp_swap(), 92),
        "swap-in-a-jpeg-of-quality-20": (fake, 20),
        "swap-out-of-focus": (fake.filter(ImageFilter.GaussianBlur(1.5)), 92),
        "swap-at-a-third-of-the-size": (fake.resize((170, 170), Image.Resampling.BICUBIC), 92),
    }


def sharp_swap() -> Image.Image:
    """Swap the face with nearly all of its detail."""
    pixels = np.asarray(Image.open(EXAMPLES / "portrait.jpg").convert("RGB"))
    face = find_faces(pixels)[0]
    return Image.fromarray(swap_face(pixels, face, stretch=1.03, colour=0, detail_px=110, feather=0.1))


def main() -> None:
    """Read the command line, write the pictures and print the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the pictures")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, (picture, quality) in pictures().items():
        picture.save(folder / f"{name}.jpg", quality=quality)
    detector = Detector.from_pretrained("xception-fakefaces")
    for prediction in detector.predict_many(sorted(folder.glob("*.jpg"))):
        print(prediction)


if __name__ == "__main__":
    main()
