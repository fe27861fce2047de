"""Score pictures with a training and with other bundles, source by source, on the very same crops of faces.

Usage:
    python -m recipes.flagship_figures RUNS/flagship xception-fakefaces@1 --faces FACES [--split val] [--limit 150]

For each source with fakes: the AUC, and the share of the fakes that is caught where 2 % of the real pictures are called
fake. A source without real pictures is compared with those that stand beside it in training (`mixture.ALIKE`). Beside
it stands what the size of the face, the sharpness of the crop and the size of the file alone would come to. The part
AUC says how well the map tells forged places from others in the same picture. Faces are those of the table: pictures in
which none was found are left out.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from deepfake_detect.faces.crop import crop_face
from deepfake_detect.metrics.classification import roc_auc
from deepfake_detect.models.timm_backbone import Backbone
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.load import load_model
from recipes.face_table import KeptFace, read_table
from recipes.mixture import ALIKE
from recipes.views import PLACE_PX, plain_view

FALSE_ALARMS = 0.02

CUES = ("face size", "sharpness", "file size")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """What a bundle says of pictures: a logit each, and of the places where it has a map."""

    name: str
    logits: np.ndarray
    part_auc: dict[str, float]


def chosen_faces(folder: Path, split: str, limit: int) -> list[KeptFace]:
    """Choose up to so many pictures of each source and class, the same ones at each call."""
    known: dict[tuple[str, int, str], list[KeptFace]] = defaultdict(list)
    for file in sorted(folder.glob("*.jsonl")):
        for face in read_table(file):
            if face.split == split:
                known[face.source, face.label, face.name.partition("/")[0]].append(face)
    random = np.random.default_rng(0)
    picked = []
    for key in sorted(known):
        faces = sorted(known[key], key=lambda face: face.name)
        picked += [faces[index] for index in random.permutation(len(faces))[:limit]]
    return picked


def score(bundle: str, faces: Sequence[KeptFace], *, size: int = 32) -> Scores:
    """Score faces with a bundle, cropped as its card says."""
    source = find_bundle(bundle)
    card, model, prep = source.card, load_model(source), source.card.preprocessing
    model = model.to(memory_format=torch.channels_last)
    has_map = card.architecture == "xception-dense" and isinstance(model, Backbone)
    logits: list[float] = []
    inside: dict[str, list[float]] = defaultdict(list)
    for at in range(0, len(faces), size):
        some = faces[at : at + size]
        crops = [
            crop_face(
                face.load(),
                face.box_xyxy,  # type: ignore[arg-type]
                margin=prep.margin,
                size_px=prep.size_px,
                interpolation=prep.interpolation,
            )
            for face in some
        ]
        with torch.inference_mode():
            batch = to_batch(crops, preprocessing=prep)
            logit, places = model.localise(batch) if has_map else (model(batch), None)
        logits += logit.tolist()
        for face, patch_logits in zip(some, places if places is not None else [], strict=has_map):
            if face.label and (auc := _part_auc(face, patch_logits.numpy(), prep.size_px, prep.margin)) is not None:
                inside[face.source].append(auc)
    means = {source: float(np.mean(values)) for source, values in inside.items()}
    return Scores(name=card.id, logits=np.array(logits), part_auc=means)


def table(faces: Sequence[KeptFace], scores: Sequence[Scores]) -> dict[str, dict[str, Any]]:
    """Give the figures of each source with fakes, and of all."""
    cues = np.array([_cues(face) for face in faces])
    figures = {}
    sources = sorted({face.source for face in faces if face.label == 1})
    for source in [*sources, "all"]:
        rows = np.array([_belongs(face, source, faces) for face in faces])
        y = np.array([face.label for face in faces])[rows]
        if len(set(y.tolist())) < 2:
            continue
        entry: dict[str, Any] = {"real": int((y == 0).sum()), "fake": int(y.sum())}
        for each in scores:
            logits = each.logits[rows]
            entry[f"auc {each.name}"] = round(float(roc_auc(y, logits)), 3)
            entry[f"caught {each.name}"] = round(caught(y, logits), 3)
            if source in each.part_auc:
                entry[f"part auc {each.name}"] = round(each.part_auc[source], 3)
        alone = [roc_auc(y, cue) for cue in cues[rows].T]
        entry |= {name: round(float(max(a, 1 - a)), 2) for name, a in zip(CUES, alone, strict=True)}
        figures[source] = entry
    return figures


def caught(y: np.ndarray, logits: np.ndarray) -> float:
    """Give the share of the fakes above a threshold that `FALSE_ALARMS` of the real pictures pass."""
    reals = np.sort(logits[y == 0])
    allowed = int(FALSE_ALARMS * len(reals))
    return float((logits[y == 1] > reals[len(reals) - 1 - allowed]).mean())


def show(figures: dict[str, dict[str, Any]]) -> str:
    """Write the figures as a markdown table."""
    names = list(dict.fromkeys(name for entry in figures.values() for name in entry))
    lines = ["| source | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {source} | " + " | ".join(str(entry.get(n, "")) for n in names) + " |" for source, entry in figures.items()
    ]
    return "\n".join(lines)


def _belongs(face: KeptFace, source: str, faces: Sequence[KeptFace]) -> bool:
    if source == "all":
        return True
    if face.label == 1:
        return face.source == source
    has_own = any(other.source == source and other.label == 0 for other in faces)
    beside = (source,) if has_own else ALIKE.get(source, ())
    return face.source in beside


def _part_auc(face: KeptFace, places: np.ndarray, size_px: int, margin: float) -> float | None:
    forged = plain_view(face, size_px=size_px, margin=margin).forged
    assert places.shape == (size_px // PLACE_PX,) * 2
    sure = (forged > 0.5) | (forged < 0.05)
    y = (forged > 0.5)[sure]
    return float(roc_auc(y, places[sure])) if 0 < y.sum() < y.size else None


def _cues(face: KeptFace) -> tuple[float, float, float]:
    left, top, right, bottom = (max(0, int(value)) for value in face.box_xyxy)
    grey = cv2.cvtColor(np.ascontiguousarray(face.load()[top : bottom + 1, left : right + 1]), cv2.COLOR_RGB2GRAY)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_64F).var())
    return float(right - left), sharpness, float(Path(face.pixels).stat().st_size)


def main() -> None:
    """Read the command line, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", help="names, name@version, or folders")
    parser.add_argument("--faces", type=Path, required=True, help="folder of the tables of faces")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=150, help="pictures of each source and class")
    parser.add_argument("--out", type=Path, help="file for the figures, JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    faces = chosen_faces(options.faces, options.split, options.limit)
    figures = table(faces, [score(bundle, faces) for bundle in options.bundles])
    print(show(figures))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
