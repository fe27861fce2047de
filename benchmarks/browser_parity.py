"""Does the exported page say in Chromium what Python says of the same pictures?

JPEGs of the test split are scored as they are, and once more as PNG, of which the browser certainly decodes the same
pixels. With --enlarge-px the JPEGs are enlarged first: Python decodes large ones at a reduced scale, the page averages
their pixels. Needs node, Chromium, and playwright-core below NODE_PATH.

    NODE_PATH=~/.cache/deepfake-detect/node/node_modules python benchmarks/browser_parity.py --data DATA
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepfake_detect import Detector, Prediction
from deepfake_detect.datasets.read import read_dataset
from deepfake_detect.export.site import export_site
from deepfake_detect.inputs.image import open_image

DRIVER = Path(__file__).with_suffix(".mjs")
BOX_TOLERANCE_PX = 1.0


def main() -> None:
    """Score in Python and in Chromium, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--model", nargs="+", default=["mobile-fakefaces"])
    parser.add_argument("--count", type=int, default=100, help="pictures, spread over the sources of the test split")
    parser.add_argument("--enlarge-px", type=int, help="shorter side that the JPEGs are enlarged to")
    options = parser.parse_args()
    paths = choose(options.data, options.count)
    print("| weights | file | pictures | faces | other label | other faces | score apart, most | 99 % by less | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.model:
        compare(name, paths, enlarge_px=options.enlarge_px)


def choose(data: Path, count: int) -> list[Path]:
    """Take pictures in turns from each source of the test split."""
    sources: dict[str, list[Path]] = {}
    for sample in read_dataset(data / "manifest.csv", splits=["test"]):
        path = Path(str(sample.image))
        if path.suffix.lower() in (".jpg", ".jpeg"):
            sources.setdefault(path.relative_to(data).parts[0], []).append(path)
    chosen = [paths[:: max(1, len(paths) // count)][:count] for paths in sources.values()]
    turns = [paths[turn] for turn in range(count) for paths in chosen if turn < len(paths)]
    return turns[:count]


def compare(name: str, paths: list[Path], *, enlarge_px: int | None) -> None:
    """Print a line for the files as they are, and one for their pixels as PNG."""
    detector = Detector.from_pretrained(name, device="cpu", dtype="float32", backend="torch")
    with tempfile.TemporaryDirectory() as folder:
        site = export_site(detector, Path(folder, "site"), webgpu=False).path
        files: dict[str, list[str]] = {"JPEG": [], "PNG": []}
        for number, path in enumerate(paths):
            files["JPEG"].append(f"{number:03}.jpg")
            copy_picture(path, site / files["JPEG"][-1], enlarge_px=enlarge_px)
            files["PNG"].append(f"{number:03}.png")
            pixels = open_image(site / files["JPEG"][-1]).pixels
            Image.fromarray(pixels).save(site / files["PNG"][-1], compress_level=1)
        answers = drive(site, files["JPEG"] + files["PNG"])
        for kind, names in files.items():
            mine = [detector.predict(site / name) for name in names]
            found = answers[: len(names)] if kind == "JPEG" else answers[len(names) :]
            print_row(f"| {detector.card.id} | {kind} |", mine, found)


def copy_picture(path: Path, target: Path, *, enlarge_px: int | None) -> None:
    """Copy a JPEG as it is, or enlarge it."""
    if enlarge_px is None:
        shutil.copy(path, target)
        return
    with Image.open(path) as image:
        factor = enlarge_px / min(image.size)
        size = (round(image.width * factor), round(image.height * factor))
        image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(target, quality=92)


def drive(site: Path, pictures: list[str]) -> list[dict[str, Any]]:
    """Score the pictures of a page's folder in Chromium."""
    with tempfile.TemporaryDirectory() as folder:
        job, result = Path(folder, "job.json"), Path(folder, "result.json")
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        job.write_text(json.dumps({"site": str(site), "chromium": chromium, "pictures": pictures}))
        subprocess.run(["node", DRIVER, job, result], check=True)
        answers: list[dict[str, Any]] = json.loads(result.read_text())
    return answers


def print_row(head: str, expected: list[Prediction], found: list[dict[str, Any]]) -> None:
    """Compare labels, faces and scores."""
    labels = sum(prediction.label != answer["label"] for prediction, answer in zip(expected, found, strict=True))
    faces = sum(not same_faces(prediction, answer) for prediction, answer in zip(expected, found, strict=True))
    pairs = [(p.score, a["score"]) for p, a in zip(expected, found, strict=True) if p.score is not None]
    apart = np.array([abs(one - other) if other is not None else 1.0 for one, other in pairs])
    count = sum(len(prediction.faces) for prediction in expected)
    seconds = np.median([answer["seconds"] for answer in found])
    print(
        f"{head} {len(expected)} | {count} | {labels} | {faces} | {apart.max():.5f} | {np.quantile(apart, 0.99):.5f} "
        f"| {seconds:.2f} |",
        flush=True,
    )


def same_faces(prediction: Prediction, answer: dict[str, Any]) -> bool:
    """Tell whether the same faces were found, to a pixel."""
    boxes = [face["box"] for face in answer["faces"]]
    return len(boxes) == len(prediction.faces) and all(
        np.allclose(box, face.box_xyxy, atol=BOX_TOLERANCE_PX)
        for box, face in zip(boxes, prediction.faces, strict=True)
    )


if __name__ == "__main__":
    main()
