"""Compare the time of a detector with two looks with that of its crop alone, in turns.

Each round scores one warm picture by both, and a series of them by `predict_many`; the ratio of each round counts, so
that other work on the machine counts for both. Weights may be untrained: the time is the same.

    python benchmarks/second_look.py --model xception-fakefaces --architecture efficientnet-b0
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from deepfake_detect import Detector, create_model
from deepfake_detect.weights.load import save_bundle
from deepfake_detect.weights.texture import TextureLook

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"


def two_looks(model: str, architecture: str, patches: int, folder: Path, backend: Any) -> tuple[Detector, Detector]:
    """Give the detector with both looks, and the same with the crop alone."""
    one = Detector.from_pretrained(model, device="cpu", backend="torch")
    if one.card.texture is None:
        look = TextureLook(architecture=architecture, patches=patches)
        save_bundle(one.model, replace(one.card, texture=look), folder, texture=create_model(architecture, seed=0))
    else:
        one.save_pretrained(folder)
    both = Detector.from_pretrained(folder, device="cpu", backend=backend)
    return both, both.without_texture()


def seconds(work: Callable[[], Any]) -> float:
    """Give the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="xception-fakefaces")
    parser.add_argument("--architecture", default="efficientnet-b0")
    parser.add_argument("--patches", type=int, default=4)
    parser.add_argument("--backend", default="openvino", choices=["torch", "openvino"])
    parser.add_argument("--side-px", type=int, default=1400, help="side of the picture; its face has a sixth of it")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--many", type=int, default=24, help="pictures of predict_many in a round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "portrait.jpg")
        Image.open(PORTRAIT).resize((options.side_px,) * 2).save(picture, quality=92)
        both, alone = two_looks(
            options.model, options.architecture, options.patches, Path(folder, "bundle"), options.backend
        )
        looks = both.predict(picture).faces[0].looks
        views, pictures = both.look(picture).views, [picture] * options.many
        count = 0 if views[0].patches is None else len(views[0].patches)
        works: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "networks": (lambda: both.read(views), lambda: alone.read(views)),
            "look": (lambda: both.look(picture), lambda: alone.look(picture)),
            "predict": (lambda: both.predict(picture), lambda: alone.predict(picture)),
            "predict_many": (lambda: list(both.predict_many(pictures)), lambda: list(alone.predict_many(pictures))),
        }
        print(f"{both!r}, {options.backend}, {count} patches, looks {looks}")
        for name, (two, one) in works.items():
            two(), one()
            rounds = [(seconds(two), seconds(one)) for _ in range(options.rounds)]
            ratio = statistics.median(a / b for a, b in rounds)
            times = [1000 * statistics.median(column) for column in zip(*rounds, strict=True)]
            print(f"{name:14} both {times[0]:8.1f} ms   crop alone {times[1]:8.1f} ms   ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
