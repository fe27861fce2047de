"""Find the largest face of every picture once, and keep a table of them that trainings read.

Usage:
    python -m recipes.face_table --data DATA MORE --out FACES

``FACES/faces.jsonl`` gets a line for each picture: its row of the manifest, the face box and its five landmarks, and
the file of its pixels. A small picture stays where it is; of a larger one, the face with its surroundings is saved as
an array, without another encoding. The table grows while this runs, and a running training reads what was added; run
the same command again to continue. Pictures are shuffled, so that every source soon has some.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.faces.crop import crop_square
from deepfake_detect.faces.finder import FaceFinder
from deepfake_detect.inputs.image import open_image

TABLE = "faces.jsonl"

SMALL_PX = 400
"""Pictures whose longer side is at most this are read from their own file."""

LARGEST_PX = 1024
"""Shorter side to which a large JPEG may be reduced while it is decoded."""

REACH = 2.4
"""Side of what is kept of a larger picture, in longer sides of the face box."""

LAST = "dfdc"
"""A source so large that its second table comes last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFace:
    """A picture, its largest face, and where the pixels are.

    Attributes:
        name: Of the picture: its place in the manifest, with the name of the table's folder.
        pixels: File of the pixels: a picture, or a ``.npy`` array of its face with the surroundings.
        box_xyxy: The face, in those pixels.
        landmarks_xy: Five points, likewise.
        label: 1 is fake.
        source: As in the manifest; likewise the rest.
        mask: File of a greyscale picture: what of the pixels is forged. Empty where the source tells.
    """

    name: str
    pixels: str
    box_xyxy: tuple[float, ...]
    landmarks_xy: tuple[tuple[float, float], ...]
    label: int
    source: str
    generator: str
    group: str
    split: str
    note: str = ""
    mask: str = ""

    def load(self) -> np.ndarray:
        """Give the pixels [H, W, 3] uint8 RGB."""
        if self.pixels.endswith(".npy"):
            return np.asarray(np.load(self.pixels))
        return open_image(self.pixels, min_side_px=LARGEST_PX).pixels


def read_table(path: Path) -> list[KeptFace]:
    """Read the faces that a table lists so far; a line that is being written is passed over."""
    lines = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
    entries = [json.loads(line) for line in lines]
    known = {item.name for item in fields(KeptFace)}
    return [
        KeptFace(**{key: value for key, value in entry.items() if key in known})
        for entry in entries
        if "box_xyxy" in entry
    ]


def append(path: Path, entry: dict[str, Any]) -> None:
    """Add a line to a table."""
    with path.open("a", encoding="utf-8") as table:
        table.write(json.dumps(entry) + "\n")


def find_all(tables: Sequence[Path], out: Path, finder: FaceFinder) -> int:
    """Find the faces of all pictures that the table lacks; give their number."""
    out.mkdir(parents=True, exist_ok=True)
    table = out / TABLE
    known = {json.loads(line)["name"] for line in table.read_text("utf-8").split("\n")[:-1]} if table.exists() else ()
    samples = [(folder, s) for folder in tables for s in read_dataset(folder / "manifest.csv") if s.source != "content"]
    count = 0
    for folder, sample in _mixed(samples):
        name = f"{folder.name}/{Path(sample.image).relative_to(folder).as_posix()}"
        if name in known:
            continue
        try:
            entry = find_face(sample, name, out, finder)
        except DeepfakeDetectError as error:
            entry = {"name": name, "error": str(error)}
        append(table, entry)
        count += 1
        if count % 1000 == 0:
            logging.info("%d pictures", count)
    return count


def find_face(sample: Sample, name: str, out: Path, finder: FaceFinder) -> dict[str, Any]:
    """Give the table's entry of a picture; without a box where no face is found."""
    pixels = open_image(sample.image, min_side_px=LARGEST_PX).pixels
    faces = finder.find(pixels, border=True)
    if not faces:
        return {"name": name}
    box, points = np.array(faces[0].box_xyxy), faces[0].landmarks_xy.astype(float)
    file = Path(sample.image)
    if max(pixels.shape[:2]) > SMALL_PX:
        left, top, right, bottom = crop_square(faces[0].box_xyxy, margin=REACH, size_hw=pixels.shape[:2])
        corner = np.array([max(0, int(left) - 4), max(0, int(top) - 4)])
        kept = pixels[corner[1] : int(bottom) + 5, corner[0] : int(right) + 5]
        box, points = box - np.tile(corner, 2), points - corner
        file = out / "pixels" / f"{name.replace('/', '__')}.npy"
        file.parent.mkdir(exist_ok=True)
        np.save(file, np.ascontiguousarray(kept))
    facts = {key: getattr(sample, key) for key in ("label", "source", "generator", "group", "split", "note")}
    places = {"box_xyxy": box.round(2).tolist(), "landmarks_xy": points.round(2).tolist()}
    return {"name": name, "pixels": str(file), **places, **facts}


def _mixed(samples: Iterable[tuple[Path, Sample]]) -> Iterator[tuple[Path, Sample]]:
    """Shuffle; the second table of the largest source comes last, what is validated on first."""
    listed = list(samples)
    order = np.random.default_rng(0).random(len(listed))
    first = listed[0][0] if listed else None

    def place(index: int) -> float:
        folder, sample = listed[index]
        late = 2.0 if sample.source == LAST and folder != first else 0.0
        return float(order[index]) + late - (sample.split == "val")

    yield from (listed[index] for index in sorted(range(len(listed)), key=place) if listed[index][1].split != "test")
    yield from (listed[index] for index in range(len(listed)) if listed[index][1].split == "test")


def main() -> None:
    """Read the command line and find faces."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with manifest.csv")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    cv2.setNumThreads(1)
    count = find_all(options.data, options.out, FaceFinder(backend="openvino"))
    logging.info("%d pictures looked at; the table is %s", count, options.out / TABLE)


if __name__ == "__main__":
    main()
