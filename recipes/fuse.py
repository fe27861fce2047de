"""Join a detector of face crops and a texture network to a bundle with two looks, fused on validation pictures.

Usage:
    python -m recipes.fuse RUNS/flagship RUNS/texture --faces FACES --to RUNS/two-looks [--limit 60]

Both networks score the same faces of the val split, the texture network at native pixels wherever a face is as large as
a patch. The smallest face, the least detail, and the logits that add nothing are those with the lowest loss of the
fused score on pictures left out of the fit (by group, in folds), each source and class counting the same; of those
about as low, the ones that use the second look least. Then the weight is fitted on all. The figures of the fused score
are of pictures left out as well. No test picture is used. Calibrate and measure the bundle with `ship`.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from deepfake_detect.evaluation.two_looks import fit_fusion
from deepfake_detect.metrics.logistic import fit_logistic
from deepfake_detect.predict.patches import cut_patches, detail_of
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.load import load_model, save_bundle
from deepfake_detect.weights.texture import TextureLook
from recipes.face_table import KeptFace
from recipes.flagship_figures import Scores, chosen_faces, score, show, table

FOLDS = 5

SIDES = (1.0, 1.25, 1.5, 2.0, 3.0)
"""Least sides of a face that are tried, in sides of a patch."""

QUANTILES = (0.0, 0.1, 0.2, 0.3, 0.5)
"""Least details that are tried: so many of the faces that are large enough hold less; 0 withholds none."""

TIE = 0.002
"""Of choices whose losses differ by less from the lowest, the one is taken that withholds the look most often."""

UNSURE = ((0.0, 0.0), (-1.0, 0.0), (-1.0, 1.0), (-2.0, 1.0))
"""Intervals of texture logits that add nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What the two networks make of faces [N], and what decides whether the second is withheld.

    Attributes:
        crop: Logits of the crops.
        texture: Logits of the texture; nan where a face is smaller than a patch.
        side: Shorter side of the face box, in pixels.
        detail: See `detail_of`; nan where there is no patch.
        label: 1 is fake.
        group: Of the picture, as a number.
        source: Of the picture.
    """

    crop: np.ndarray
    texture: np.ndarray
    side: np.ndarray
    detail: np.ndarray
    label: np.ndarray
    group: np.ndarray
    source: np.ndarray

    def take(self, rows: np.ndarray) -> Seen:
        """Return some of the faces."""
        return Seen(**{name: getattr(self, name)[rows] for name in self.__slots__})

    def shown(self, look: TextureLook) -> np.ndarray:
        """Return the logits of the texture; nan where the look is withheld."""
        kept = (self.side >= look.min_side_px) & (np.nan_to_num(self.detail) >= look.min_detail)
        return np.where(kept, self.texture, np.nan)

    def fused(self, look: TextureLook) -> np.ndarray:
        """Return the fused logits."""
        shown = self.shown(look)
        return np.asarray(self.crop + look.weight * np.nan_to_num(shown - np.clip(shown, *look.unsure)))

    @property
    def weight(self) -> np.ndarray:
        """Return weights with which each source and class counts the same."""
        keys = list(zip(self.source.tolist(), self.label.tolist(), strict=True))
        count = Counter(keys)
        labels = Counter(label for _, label in count)
        return np.array([1 / (count[key] * labels[key[1]]) for key in keys]) / 2


def look_at_textures(bundle: str, faces: Sequence[KeptFace], look: TextureLook) -> tuple[np.ndarray, ...]:
    """Score the patches of faces with a texture network; give logit, shorter side and detail of each face."""
    source = find_bundle(bundle)
    model, preprocessing = load_model(source).to(memory_format=torch.channels_last), source.card.preprocessing
    found = []
    for face in faces:
        pixels = face.load()
        left, top, right, bottom = np.array(face.box_xyxy).clip(0, np.tile(pixels.shape[1::-1], 2))
        patches = cut_patches(pixels, face.box_xyxy, look=look)  # type: ignore[arg-type]
        if patches is None:
            found.append((np.nan, min(right - left, bottom - top), np.nan))
            continue
        with torch.inference_mode():
            logit = float(model(to_batch(patches, preprocessing=preprocessing)).double().mean())
        found.append((logit, min(right - left, bottom - top), detail_of(patches)))
    return tuple(np.array(column, float) for column in zip(*found, strict=True))


def choose(seen: Seen, look: TextureLook) -> TextureLook:
    """Choose when the texture look is withheld or unsure, and fit its weight."""
    large = seen.detail[np.isfinite(seen.detail)]
    details = [0.0 if share == 0 else round(float(np.quantile(large, share)), 6) for share in QUANTILES]
    tried = [
        replace(look, min_side_px=round(look.patch_px * side), min_detail=detail, unsure=unsure)
        for side, detail, unsure in itertools.product(SIDES, details, UNSURE)
    ]
    losses = [loss(left_out(seen, each), seen) for each in tried]
    for each, value in sorted(zip(tried, losses, strict=True), key=lambda pair: pair[1])[:5]:
        print(f"loss {value:.4f}: min_side_px {each.min_side_px}, min_detail {each.min_detail:g}, unsure {each.unsure}")
    print(f"loss {loss(left_out(seen, None), seen):.4f}: crop alone")
    best = min(
        (each for each, value in zip(tried, losses, strict=True) if value < min(losses) + TIE),
        key=lambda each: (np.isfinite(seen.shown(each)).sum(), each.unsure[0] - each.unsure[1]),
    )
    return fit_fusion(seen.crop, seen.shown(best), seen.label, look=best)


def left_out(seen: Seen, look: TextureLook | None) -> np.ndarray:
    """Return log-odds of each face by weights that were fitted without its fold; None takes the crop alone."""
    logits = np.zeros(len(seen.label))
    for fold in range(FOLDS):
        out = seen.group % FOLDS == fold
        rest, others = seen.take(~out), seen.take(out)
        fitted = look and fit_fusion(rest.crop, rest.shown(look), rest.label, look=look)
        before, now = (part.fused(fitted) if fitted else part.crop for part in (rest, others))
        (slope,), bias = fit_logistic(before[:, None], rest.label)
        logits[out] = slope * now + bias
    return logits


def loss(logits: np.ndarray, seen: Seen) -> float:
    """Return the mean cross-entropy, each source and class counting the same."""
    return float(seen.weight @ np.logaddexp(0, np.where(seen.label == 1, -logits, logits)))


def figures(faces: Sequence[KeptFace], seen: Seen, look: TextureLook) -> str:
    """Write the figures of crop and fused score of all faces, and with the texture of those that it sees."""
    shown = seen.shown(look)
    named = {"crop": left_out(seen, None), "texture": shown, "fused": left_out(seen, look)}
    parts = []
    for title, rows, names in (
        ("All faces", np.ones(len(faces), bool), ("crop", "fused")),
        ("Faces with a texture look", np.isfinite(shown), ("crop", "texture", "fused")),
    ):
        some = [face for face, kept in zip(faces, rows, strict=True) if kept]
        scores = [Scores(name=name, logits=named[name][rows], part_auc={}) for name in names]
        parts.append(f"{title}: {len(some)}\n\n{show(table(some, scores))}")
    return "\n\n".join(parts)


def main() -> None:
    """Read the command line, score, fit, print and write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", help="bundle of the crop's network: a name or a folder")
    parser.add_argument("texture", help="bundle of the texture network: the folder of its training")
    parser.add_argument("--faces", type=Path, required=True, help="folder of the tables of faces")
    parser.add_argument("--to", type=Path, required=True, help="folder for the bundle")
    parser.add_argument("--limit", type=int, default=60, help="pictures of each source and class")
    parser.add_argument("--patches", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    first, second = find_bundle(options.detector), find_bundle(options.texture)
    prep = second.card.preprocessing
    look = TextureLook(
        architecture=second.card.architecture, patch_px=prep.size_px, min_side_px=prep.size_px,
        patches=options.patches, mean=prep.mean, std=prep.std,
    )  # fmt: skip
    faces = chosen_faces(options.faces, "val", options.limit)
    texture, side, detail = look_at_textures(options.texture, faces, look)
    groups: dict[str, int] = {}
    seen = Seen(
        crop=score(options.detector, faces).logits, texture=texture, side=side, detail=detail,
        label=np.array([face.label for face in faces]), source=np.array([face.source for face in faces]),
        group=np.array([groups.setdefault(face.group or face.name, len(groups)) for face in faces]),
    )  # fmt: skip
    look = choose(seen, look)
    print(f"\n{look}\n\n{figures(faces, seen, look)}")
    card = replace(first.card, texture=look, temperature=1.0, bias=0.0, threshold=0.5, calibration={}, golden={})
    card = save_bundle(load_model(first), card, options.to, texture=load_model(second))
    print(f"\n{card.id} with two looks is in {options.to}")


if __name__ == "__main__":
    main()
