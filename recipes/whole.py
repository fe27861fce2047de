"""Train a small detector of forged pictures without faces, and measure what it is worth.

Usage:
    python -m recipes.whole --data DATA --weights MODELS --more MORE --out RUNS/whole [--others OTHERS]

Photographs of animals, vehicles and other things are forged as a whole, at their own pixels: by the autoencoder of a
latent diffusion model, and by networks that make a small picture large. A photograph and its forged copy are cut,
scaled and encoded alike, so that neither header nor sharpness separates them. `mobile-fakefaces` is fine-tuned on them
through the public interface, with ``faces="none"``. Two generators are kept for the test. Run the command again to
go on with a training that was stopped.
"""

from __future__ import annotations

import argparse
import csv
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from deepfake_detect import Detector, find_faces
from deepfake_detect.datasets.tables import read_table
from deepfake_detect.inputs.image import open_image
from deepfake_detect.training.augment import Augmentation
from recipes.forged_copies import coarsely, level, load_autoencoder, upsample
from recipes.measure import show, table, wilson
from recipes.upsamplers import Upsampler, enlarge, load_upsamplers

Forger = Callable[[np.random.Generator, np.ndarray], np.ndarray]
"""Makes the forged copy of a [H, W, 3] uint8 picture."""

LEARNED = ("taef2", "carn-m x3", "real-esrgan compact")
"""Generators of the training, of the validation and of the test."""

HELD_OUT = ("real-esrgan x4plus", "uneven grid")
"""Generators of the test alone."""

SLOW = {"real-esrgan x4plus": 60}
"""Only so many test photographs are forged by these, for time's sake; by the others, all."""

QUALITY = (60, 96)
"""Range of the JPEG quality of a photograph and its forged copy."""

CHANGES = Augmentation(
    zoom=0, shift=0, rotate=0, shear=0, light=0.3, colour=0.2, grey=0, erase=0, shrink=0.1, blur=0.05, noise=0.05,
    webp=0.05, jpeg=0.35,
)  # fmt: skip
"""Nothing that resamples, but for a few: the traces stand at single pixels."""

EPOCHS, EPOCH_SAMPLES, RATE = 4, 1536, 4e-4

MOST = 60
"""Pictures of another source that are scored."""

SIDE_PX = 160
"""Short side of the photographs that are learned from, and least side of a cut beside a face."""


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """A photograph that is forged."""

    file: Path
    group: str
    split: str


def photographs(data: Path, *splits: str) -> list[Photograph]:
    """List the photographs of things."""
    rows = (row for row in read_table(data / "manifest.csv") if row["source"] == "content" and row["split"] in splits)
    return [Photograph(file=Path(row["file"]), group=row["group"], split=row["split"]) for row in rows]


def forgers(weights: Path, more: Path) -> dict[str, Forger]:
    """Name the ways to forge a picture."""
    autoencoder = load_autoencoder(weights)
    ways: dict[str, Forger] = {"taef2": lambda random, pixels: _decoded(autoencoder, random, pixels)}
    for name, (network, times) in load_upsamplers(weights, more).items():
        ways[name] = partial(_enlarged, network, times)
    return {name: {**ways, "uneven grid": upsample}[name] for name in (*LEARNED, *HELD_OUT)}


def write_copies(chosen: Sequence[Photograph], out: Path, ways: Mapping[str, Forger]) -> Path:
    """Write photographs and forged copies, and a table of them; copies that are there already are kept.

    A photograph of the training or the validation is forged in one way, one of the test in every way.
    """
    rows = [["file", "label", "source", "generator", "group", "split"]]
    order = np.random.default_rng(0).permutation(len(chosen)).tolist()
    for number, photograph in enumerate(chosen[place] for place in order):
        some = [way for way in ways if number < SLOW.get(way, len(chosen))]
        for way in some if photograph.split == "test" else [LEARNED[number % len(LEARNED)]]:
            stem = f"{photograph.file.stem}-{way.replace(' ', '-')}"
            pair = {label: out / label / f"{stem}.jpg" for label in ("real", "fake")}
            if not pair["fake"].exists():
                _write_pair(photograph, ways[way], np.random.default_rng([number, [*ways].index(way)]), pair)
            for label, made in (("real", "camera"), ("fake", way)):
                rows.append([f"{label}/{stem}.jpg", label, way, made, photograph.group, photograph.split])
        if number % 100 == 0:
            logging.info("%d of %d photographs forged", number, len(chosen))
    with (out / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return out / "manifest.csv"


def train(pictures: Path, out: Path, *, epochs: int = EPOCHS, samples: int = EPOCH_SAMPLES) -> Detector:
    """Fine-tune the packaged small detector on whole pictures."""
    start = Detector.from_pretrained("mobile-fakefaces", device="cpu", dtype="float32")
    return start.fine_tune(
        pictures,
        faces="none",
        check="off",  # near-duplicates on two sides of the label are what this is about
        epochs=epochs,
        epoch_samples=samples,
        lr=RATE,
        batch_size=32,
        augment=CHANGES,
        pairs=1.0,
        ema=0.99,
        out=out,
        resume=out.exists(),
    )


def false_alarms(detector: Detector, files: Sequence[Path]) -> str:
    """Count photographs that are called fake, and those that are left uncertain: a line of a table."""
    labels = [prediction.label for prediction in detector.predict_many(files, faces="none")]
    fakes = labels.count("fake")
    low, high = (max(0.0, end) for end in wilson(fakes, len(labels)))
    return f"{len(labels)} | {fakes / len(labels):.1%} [{low:.1%}, {high:.1%}] | {labels.count('uncertain')}"


def write_others(others: Path, out: Path) -> dict[str, list[Path]]:
    """List photographs of other sources: whole, and what lies beside the faces in them, cut at their own pixels."""
    found: dict[str, list[Path]] = {}
    rows = [row for row in read_table(others / "manifest.csv") if row["source"] != "dfdc" and row["label"] == "real"]
    for source in sorted({row["source"] for row in rows}):
        files = [Path(row["file"]) for row in rows if row["source"] == source]
        files = [files[i] for i in np.random.default_rng(0).permutation(len(files))[:MOST]]
        found[f"{source}, whole"] = files
        cuts = [cut for file in files if (cut := _beside(file, out / "beside")) is not None]
        found |= {f"{source}, beside the face": cuts} if len(cuts) >= 10 else {}
    return found


def write_resized(files: Sequence[Path], out: Path) -> list[Path]:
    """Write photographs that were made small and large again, without a network."""
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        picture = Image.open(file).convert("RGB")
        small = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC)
        small.resize(picture.size, Image.Resampling.BICUBIC).save(out / file.name, quality=88)
    return [out / file.name for file in files]


def write_generated(others: Path, real: Sequence[Path], out: Path) -> Path:
    """Write pictures without a face of a generator of today, and photographs, all scaled and encoded alike."""
    fakes = [Path(row["file"]) for row in read_table(others / "manifest.csv") if row["source"] == "gpt-gallery"]
    drawn = (fakes[i] for i in np.random.default_rng(0).permutation(len(fakes)))
    faceless = [file for file in _first(drawn, 500) if not find_faces(file)]
    rows = [["file", "label", "source", "generator", "group"]]
    for label, files in (("fake", faceless), ("real", real)):
        (out / label).mkdir(parents=True, exist_ok=True)
        for file in files:
            _scaled(open_image(file).pixels, SIDE_PX).save(out / label / f"{file.stem}.jpg", quality=88)
            rows.append([f"{label}/{file.stem}.jpg", label, "gpt-gallery", label, file.stem])
    with (out / "manifest.csv").open("w", newline="") as table_file:
        csv.writer(table_file).writerows(rows)
    return out / "manifest.csv"


def measure(detector: Detector, data: Path, out: Path, *, copies: Path, others: Path | None) -> None:
    """Print the figures: each generator, other sources, and a generator of today."""
    report = detector.evaluate(copies)
    report.save(out / "report")
    print(show(table(report)))
    test = [photograph.file for photograph in photographs(data, "test")]
    sets = {"the test photographs, as they came": test}
    sets["the test photographs, made small and large again"] = write_resized(test, out / "resized")
    sets |= write_others(others, out) if others else {}
    print("\n| photographs | n | called fake | uncertain |\n|---|---|---|---|")
    for name, files in sets.items():
        print(f"| {name} | {false_alarms(detector, files)} |", flush=True)
    if others:
        print("\n" + show(table(detector.evaluate(write_generated(others, test, out / "generated")))))


def _write_pair(photograph: Photograph, forge: Forger, random: np.random.Generator, pair: dict[str, Path]) -> None:
    pixels = _cut(open_image(photograph.file).pixels, random)
    forged = level(pixels, forge(random, pixels), degree=random.uniform(0, 1.3))
    quality = int(random.integers(*QUALITY))
    subsampling = ("4:2:0", "4:2:0", "4:4:4")[random.integers(3)]
    for label, shown in (("real", pixels), ("fake", forged)):
        pair[label].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shown).save(pair[label], quality=quality, subsampling=subsampling)


def _cut(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Move the grid of the first compression, scale half of the pictures down, and make the sides multiples of 8."""
    top, left = random.integers(8, size=2)
    pixels = pixels[top:, left:]
    if random.random() < 0.5:
        scale = random.uniform(0.7, 1)
        size = tuple(max(64, round(side * scale)) for side in pixels.shape[1::-1])
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    height, width = (side // 8 * 8 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width])


def _decoded(autoencoder: torch.nn.Module, random: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    return coarsely(autoencoder, pixels, shrink=(1.0, 1.0, 1.5, 2.0)[random.integers(4)])


def _enlarged(network: Upsampler, times: int, random: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    way = (cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LINEAR)[random.integers(3)]
    small = cv2.resize(pixels, (max(8, round(width / times)), max(8, round(height / times))), interpolation=way)
    return np.asarray(cv2.resize(enlarge(network, small), (width, height), interpolation=cv2.INTER_CUBIC))


def _beside(file: Path, out: Path) -> Path | None:
    """Cut out the largest part of a photograph that has no face; None where it is small."""
    pixels = open_image(file).pixels
    faces = find_faces(pixels)
    if not faces:
        return None
    boxes = np.array([face.box_xyxy for face in faces])
    left, right, bottom = max(0, int(boxes[:, 0].min())), int(boxes[:, 2].max()), int(boxes[:, 3].max())
    parts = (pixels[:, :left], pixels[:, right:], pixels[bottom:])
    part = max(parts, key=lambda part: min(part.shape[:2]))
    if min(part.shape[:2]) < SIDE_PX:
        return None
    out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(part)).save(out / f"{file.stem}.png")
    return out / f"{file.stem}.png"


def _scaled(pixels: np.ndarray, side_px: int) -> Image.Image:
    picture = Image.fromarray(pixels)
    scale = side_px / min(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)


def _first(files: Iterator[Path], count: int) -> list[Path]:
    return [file for _, file in zip(range(count), files, strict=False)]


def main() -> None:
    """Read the command line; forge, train and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--weights", type=Path, required=True, help="folder with taef2 and carn_m")
    parser.add_argument("--more", type=Path, required=True, help="folder with realesrgan_x4plus and the compact one")
    parser.add_argument("--out", type=Path, required=True, help="folder of the training")
    parser.add_argument("--others", type=Path, help="folder with manifest.csv of photographs of other sources")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    ways, splits = forgers(options.weights, options.more), {"learned": ("train", "val"), "test": ("test",)}
    copies = {
        name: write_copies(photographs(options.data, *chosen), options.out / name, ways)
        for name, chosen in splits.items()
    }
    detector = train(copies["learned"], options.out / "whole-forged")
    measure(detector, options.data, options.out, copies=copies["test"], others=options.others)


if __name__ == "__main__":
    main()
