"""How much faster is predict_many than a plain loop over the same model?

Both score the same pictures with the same weights, in turns, so that whatever else the machine does
falls on both alike. The plain loop is what one writes by hand: open with Pillow, find the faces, cut
them out, and run the model on one after the other.

    python benchmarks/predict_many.py --data FOLDER      # with a manifest.csv that has a column "file"
    python benchmarks/predict_many.py                    # pictures made of examples/portrait.jpg
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deepfake_detect import Detector
from deepfake_detect.faces import FaceFinder, crop_face
from deepfake_detect.preprocess import to_batch

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"
SIZES_PX = (160, 224, 300, 512, 768, 1080, 2048, 4000)
"""Sides of the pictures that are made: crops as in collections, pictures of the web, and of a camera."""


def main() -> None:
    """Measure, and print a table."""
    options = read_options()
    torch.set_num_threads(options.threads)
    detector = Detector.from_pretrained(options.model, device=options.device)
    with tempfile.TemporaryDirectory() as folder:
        pictures = listed(options.data, options.count) if options.data else made(Path(folder), options.count)
        many = {"batch_size": options.batch_size, "workers": options.workers}
        runs: dict[str, Callable[[], list[float]]] = {
            "plain loop": lambda: plain_loop(detector, pictures),
            "predict_many": lambda: with_predict_many(detector, pictures, **many),
        }
        for run in runs.values():
            run()  # warm
        seconds, logits = measure(runs, rounds=options.rounds)
    report(detector, seconds, logits, count=len(pictures))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with a manifest.csv; pictures are made where missing")
    parser.add_argument("--model", default="xception-fakefaces")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--count", type=int, default=500, help="pictures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    return parser.parse_args()


def listed(folder: Path, count: int) -> list[Path]:
    """Choose pictures evenly over the table, which goes source by source."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        files = [folder / row["file"] for row in csv.DictReader(file)]
    chosen = np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)
    return [files[index] for index in chosen]


def made(folder: Path, count: int) -> list[Path]:
    """Write the portrait in several sizes, as JPEG; every tenth picture shows it four times."""
    portrait = Image.open(PORTRAIT).convert("RGB")
    pictures = []
    for number in range(count):
        side = SIZES_PX[number % len(SIZES_PX)]
        picture = portrait.resize((side, side), Image.Resampling.BICUBIC)
        if number % 10 == 0:
            half = portrait.resize((side // 2, side // 2))
            for corner in ((0, 0), (side // 2, 0), (0, side // 2), (side // 2, side // 2)):
                picture.paste(half, corner)
        pictures.append(folder / f"{number}.jpg")
        picture.save(pictures[-1], quality=85 + number % 10)
    return pictures


def plain_loop(detector: Detector, pictures: list[Path]) -> list[float]:
    finder, wanted, logits = FaceFinder(), detector.card.preprocessing, []
    for path in pictures:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        for face in finder.find(pixels, border=True):
            crop = crop_face(
                pixels,
                face.box_xyxy,
                margin=wanted.margin,
                size_px=wanted.size_px,
                interpolation=wanted.interpolation,
            )
            with torch.inference_mode():
                logits.append(float(detector.model(to_batch([crop], preprocessing=wanted).to(detector.device))))
    return logits


def with_predict_many(
    detector: Detector, pictures: list[Path], *, batch_size: int | None, workers: int | None
) -> list[float]:
    predictions = detector.predict_many(pictures, batch_size=batch_size, workers=workers)
    return [face.logit or 0.0 for prediction in predictions for face in prediction.faces]


def measure(
    runs: dict[str, Callable[[], list[float]]], *, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Run everything in turns, the order reversed each time."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    logits = {}
    for turn in range(rounds):
        for name in list(runs)[:: -1 if turn % 2 else 1]:
            start = time.perf_counter()
            logits[name] = runs[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds, logits


def report(detector: Detector, seconds: dict[str, list[float]], logits: dict[str, list[float]], *, count: int) -> None:
    print(f"{detector}, torch {torch.__version__} with {torch.get_num_threads()} threads, {count} pictures")
    for name, times in seconds.items():
        spread = f"{count / max(times):.2f} to {count / min(times):.2f}"
        print(f"{name:<14} {count / statistics.median(times):8.2f} pictures/s  ({spread}, {len(times)} rounds)")
    ratios = [loop / many for loop, many in zip(*seconds.values(), strict=True)]
    print(f"{'ratio':<14} {statistics.median(ratios):8.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")
    faces = [len(values) for values in logits.values()]
    print(f"{'faces':<14} {faces[0]:8d} and {faces[1]}")
    if faces[0] == faces[1]:
        moved = np.abs(np.subtract(*logits.values()))
        print(f"{'logits moved':<14} {np.max(moved, initial=0):8.4f} at most, {np.median(moved):.1g} in the middle")


if __name__ == "__main__":
    main()
