"""Forge photographs, each beside its own original, with masks of what was forged.

Usage:
    python -m recipes.forge --faces FACES --given WEIGHTS --more MORE_WEIGHTS --count 8000

Five ways, none of which needs another fake:

* ``decoder``: the face passes through the tiny autoencoder of a latent diffusion model;
* ``up-sampler``: it is made small, and large again by a network that was trained against a critic, or without one;
* ``part-swap``: eyes, nose, mouth or all of them come from another person, laid on by landmarks and cloned seamlessly;
* ``morph``: the mean of two persons, in shape and in colour;
* ``drawing``: the photograph as a drawing, a painting or flat shapes, since these are no photographs either.

The first two are laid over all of the picture, the face, or some parts of it, with a soft edge, in part at times; their
power spectrum is brought near that of the photograph, so that sharpness does not tell. ``FACES/forged.jsonl`` lists
original and forgery as `face_table` lists pictures, with one group for both; the split is that of the photograph. A
training that has begun takes in what was added. Run the same command again to go on.
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import nn

from deepfake_detect.training.self_blend import face_mask
from recipes.drawings import DRAWINGS
from recipes.face_table import TABLE, KeptFace, append, read_table
from recipes.forged_copies import coarsely, level, load_autoencoder
from recipes.landmarks import BROWS, EYES, JAW, MOUTH, NOSE, Landmarks, find_landmarks, load_landmarks
from recipes.upsamplers import Upsampler, enlarge, load_upsamplers

FORGED = "forged.jsonl"

WAYS = {"decoder": 0.14, "up-sampler": 0.14, "part-swap": 0.54, "morph": 0.1, "drawing": 0.08}

PHOTOGRAPHS = {
    "mebeauty": 28, "ffhq140k": 20, "dfdc": 14, "ciplab": 12, "unsplash-men": 8, "london": 5, "headshots": 4,
    "phone": 4, "utkface": 2, "canada": 1.5, "3dsk": 1.5,
}  # fmt: skip
"""Sources of the photographs, in proportion."""

MORPHED = ("london", "mebeauty", "canada", "ffhq140k")
"""Sources of which morphs are made: faces that look ahead."""

STUDIO = ("london", "canada")
"""Sources whose backgrounds are all alike."""

UPSAMPLERS = {"carn-m x2": 0.2, "carn-m x3": 0.15, "carn-m x4": 0.15, "real-esrgan compact": 0.25,
              "real-esrgan x4plus": 0.25}  # fmt: skip

FACE_PX = (110, 320)
"""Longer side of the face box, to which larger pictures are scaled down; a length between them is drawn."""

Points = np.ndarray
Forgery = tuple[np.ndarray, np.ndarray]
"""A picture [H, W, 3] uint8, and its mask [H, W] uint8: 255 where it is forged."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sitter:
    """A photograph, ready to be forged.

    Attributes:
        face: Its entry; box and landmarks in ``pixels``.
        pixels: [H, W, 3] uint8 RGB.
        points: 68 landmarks [68, 2].
    """

    face: KeptFace
    pixels: np.ndarray
    points: Points


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workshop:
    """The networks that forge."""

    landmarks: Landmarks
    autoencoder: nn.Module
    upsamplers: dict[str, tuple[Upsampler, int]]

    def sit(self, face: KeptFace, random: np.random.Generator) -> Sitter:
        """Load a photograph, scaled down where it is large."""
        pixels, box = face.load(), np.array(face.box_xyxy)
        side = float(max(box[2] - box[0], box[3] - box[1]))
        scale = min(1.0, float(np.exp(random.uniform(*np.log(FACE_PX)))) / side)
        size = tuple(max(1, round(length * scale)) for length in pixels.shape[1::-1])
        if scale < 1:
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        places = [[x * scale, y * scale] for x, y in face.landmarks_xy]
        moved = replace(face, box_xyxy=tuple((box * scale).tolist()), landmarks_xy=tuple(map(tuple, places)))
        points = find_landmarks(self.landmarks, pixels, moved.box_xyxy)
        return Sitter(face=moved, pixels=np.ascontiguousarray(pixels), points=points)

    def decoder(self, sitter: Sitter, random: np.random.Generator) -> tuple[Forgery, str]:
        """Pass the picture through the autoencoder."""
        shrink = (1.0, 1.0, 1.5, 2.0)[random.integers(4)]
        forged = coarsely(self.autoencoder, sitter.pixels, shrink=shrink)
        return lay_over(sitter, forged, random), "taef2"

    def upsampler(self, sitter: Sitter, random: np.random.Generator) -> tuple[Forgery, str]:
        """Make the picture small, and large again by a network."""
        name = random.choice(list(UPSAMPLERS), p=list(UPSAMPLERS.values()))
        network, times = self.upsamplers[name]
        height, width = sitter.pixels.shape[:2]
        most = 72 if name.endswith("plus") else 160  # pixels of the small picture's longer side, for time's sake
        scale = min(1.0, most * times / max(height, width))
        wide, high = max(8, round(width * scale / times)), max(8, round(height * scale / times))
        way = (cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LINEAR)[random.integers(3)]
        small = cv2.resize(sitter.pixels, (wide, high), interpolation=way)
        forged = cv2.resize(enlarge(network, small), (width, height), interpolation=cv2.INTER_CUBIC)
        return lay_over(sitter, forged, random), name

    def drawing(self, sitter: Sitter, random: np.random.Generator) -> tuple[Forgery, str]:
        """Draw the picture in one of the styles of `drawings`."""
        style = list(DRAWINGS)[random.integers(len(DRAWINGS))]
        drawn = DRAWINGS[style](sitter.pixels, sitter.points, random)
        return (drawn, np.full(drawn.shape[:2], 255, np.uint8)), style

    def open_all(self) -> dict[str, Callable[[Sitter, np.random.Generator], tuple[Forgery, str]]]:
        """Name the ways that need one photograph."""
        return {"decoder": self.decoder, "up-sampler": self.upsampler, "drawing": self.drawing}


def lay_over(sitter: Sitter, forged: np.ndarray, random: np.random.Generator) -> Forgery:
    """Bring the spectrum of a forgery near the photograph's, and lay it over all of that, the face or parts."""
    forged = level(sitter.pixels, forged, degree=random.uniform(0, 1.3))
    height, width = forged.shape[:2]
    if random.random() < 0.45:
        mask = np.full((height, width), 255, np.uint8)
    elif random.random() < 0.5:
        drawn = face_mask(np.array(sitter.face.landmarks_xy), (width, height), random=random)
        mask = np.asarray(drawn)
    else:
        mask = soften(part_mask(sitter, random), sitter, random)
    share = random.uniform(0.6, 1.0) if random.random() < 0.5 else 1.0
    return blend(sitter.pixels, forged, mask, share=share), mask


def part_swap(sitter: Sitter, donor: Sitter, random: np.random.Generator) -> Forgery | None:
    """Lay parts of another person's face over a face; None where they do not fit into the picture."""
    chosen = part_mask(sitter, random)
    inner = [*range(17, 68)]
    matrix, _ = cv2.estimateAffine2D(donor.points[inner], sitter.points[inner], method=cv2.LMEDS)
    if matrix is None or not 0.2 < abs(np.linalg.det(matrix[:, :2])) < 8:
        return None
    height, width = sitter.pixels.shape[:2]
    moved = cv2.warpAffine(donor.pixels, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    if random.random() < 0.6:
        return _cloned(sitter, moved, chosen)
    mask = soften(chosen, sitter, random)
    return blend(sitter.pixels, _coloured(moved, sitter.pixels, chosen), mask, share=1.0), mask


def morph(first: Sitter, second: Sitter, random: np.random.Generator) -> Forgery | None:
    """Lay the mean of two faces, in shape and colour, over the first."""
    height, width = first.pixels.shape[:2]
    fitted, _ = cv2.estimateAffinePartial2D(second.points, first.points, method=cv2.LMEDS)
    if fitted is None:
        return None
    other = cv2.warpAffine(second.pixels, fitted, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    points = second.points @ fitted[:, :2].T + fitted[:, 2]
    share = random.uniform(0.35, 0.65)
    between = (1 - share) * first.points + share * points
    shapes = [
        _warped(picture, points_of, between) for picture, points_of in ((first.pixels, first.points), (other, points))
    ]
    if any(shape is None for shape in shapes):
        return None
    mean = np.clip((1 - share) * shapes[0] + share * shapes[1], 0, 255).round().astype(np.uint8)
    if first.face.source in STUDIO and random.random() < 0.5:  # backgrounds are alike: the whole picture is the mean
        return mean, np.full((height, width), 255, np.uint8)
    hull = cv2.convexHull(between.round().astype(np.int32))
    mask = soften(cv2.fillConvexPoly(np.zeros((height, width), np.uint8), hull, 255), first, random)
    return blend(first.pixels, mean, mask, share=1.0), mask


def part_mask(sitter: Sitter, random: np.random.Generator) -> np.ndarray:
    """Draw one part of the face, or more: [H, W] uint8, 255 inside, edges hard."""
    mask = np.zeros(sitter.pixels.shape[:2], np.uint8)
    names = ["right eye", "left eye", "nose", "mouth"]
    if random.random() < 0.2:
        hull = np.concatenate([sitter.points[list(JAW)], sitter.points[17:27]])
        return np.asarray(cv2.fillConvexPoly(mask, cv2.convexHull(hull.round().astype(np.int32)), 255))
    chosen = set(random.choice(names, size=random.integers(1, 5), replace=False).tolist())
    if random.random() < 0.5 and chosen & set(EYES):  # most often both eyes are exchanged
        chosen |= set(EYES)
    apart = float(np.linalg.norm(sitter.points[36] - sitter.points[45]))
    for name in chosen:
        landmarks = [*EYES[name], *BROWS[name]] if name in EYES else NOSE if name == "nose" else MOUTH
        hull = cv2.convexHull(sitter.points[list(landmarks)].round().astype(np.int32))
        cv2.fillConvexPoly(mask, hull, 255)
    reach = max(1, round(apart * random.uniform(0.05, 0.14)))
    return np.asarray(cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))))


def soften(mask: np.ndarray, sitter: Sitter, random: np.random.Generator) -> np.ndarray:
    """Blur the edge of a mask by up to a tenth of the way between the eyes."""
    apart = float(np.linalg.norm(sitter.points[36] - sitter.points[45]))
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.4, apart * random.uniform(0.01, 0.08))))


def blend(under: np.ndarray, over: np.ndarray, mask: np.ndarray, *, share: float) -> np.ndarray:
    """Lay one picture over another where the mask says so."""
    alpha = (mask.astype(np.float32) * (share / 255))[..., None]
    return np.asarray((under + alpha * (over.astype(np.float32) - under)).round().clip(0, 255), np.uint8)


def _cloned(sitter: Sitter, moved: np.ndarray, mask: np.ndarray) -> Forgery | None:
    """Clone seamlessly (Perez and others 2003, "Poisson image editing")."""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    if not len(rows) or rows.min() < 2 or columns.min() < 2 or rows.max() > height - 3 or columns.max() > width - 3:
        return None
    centre = (int(columns.min() + columns.max() + 1) // 2, int(rows.min() + rows.max() + 1) // 2)
    cloned = cv2.seamlessClone(moved, sitter.pixels, mask.copy(), centre, cv2.NORMAL_CLONE)  # it spoils its mask
    return np.asarray(cloned), mask


def _coloured(picture: np.ndarray, like: np.ndarray, mask: np.ndarray) -> np.ndarray:
    inside = mask > 0
    if inside.sum() < 16:
        return picture
    source, target = picture[inside].astype(np.float32), like[inside].astype(np.float32)
    scaled = (picture - source.mean(0)) * ((target.std(0) + 1) / (source.std(0) + 1)) + target.mean(0)
    return np.asarray(scaled.clip(0, 255).round(), np.uint8)


def _warped(picture: np.ndarray, points: Points, target: Points) -> np.ndarray | None:
    """Move landmarks to other places, and what lies between them along, triangle by triangle."""
    height, width = picture.shape[:2]
    border = np.array([(x, y) for x in (0, width / 2, width - 1) for y in (0, height / 2, height - 1)])[
        [0, 1, 2, 3, 5, 6, 7, 8]
    ]
    source, goal = np.concatenate([points, border]), np.concatenate([target, border])
    if goal.min() < 0 or (goal > (width - 1, height - 1)).any():
        return None
    plane = cv2.Subdiv2D((0, 0, width, height))
    places = {}
    for index, (x, y) in enumerate(goal.astype(np.float32).tolist()):
        places[x, y] = index
        plane.insert((x, y))
    away = np.zeros((height, width, 2), np.float32)
    for corners in plane.getTriangleList().reshape(-1, 3, 2).tolist():
        chosen = [places.get((x, y)) for x, y in corners]
        if None in chosen:
            continue
        matrix = cv2.getAffineTransform(goal[chosen].astype(np.float32), source[chosen].astype(np.float32))
        inside = cv2.fillConvexPoly(np.zeros((height, width), np.uint8), goal[chosen].round().astype(np.int32), 1)
        rows, columns = np.nonzero(inside)
        away[rows, columns] = np.stack([columns, rows, np.ones_like(rows)], 1) @ matrix.T
    return np.asarray(cv2.remap(picture, away, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT))


class Album:
    """Photographs to be forged, by source."""

    def __init__(self, faces: Sequence[KeptFace]) -> None:
        self._faces: dict[tuple[str, str], list[KeptFace]] = defaultdict(list)
        for face in faces:
            side = max(face.box_xyxy[2] - face.box_xyxy[0], face.box_xyxy[3] - face.box_xyxy[1])
            if face.label == 0 and face.split in ("train", "val") and side >= FACE_PX[0]:
                self._faces[face.source, face.split].append(face)

    def draw(self, split: str, sources: Sequence[str], random: np.random.Generator) -> KeptFace:
        """Draw a photograph."""
        there = [source for source in sources if self._faces[source, split]]
        if not there:
            raise SystemExit(f"no photograph of {', '.join(sources)} with a face of {FACE_PX[0]} px; find faces first")
        share = np.array([PHOTOGRAPHS[source] for source in there])
        known = self._faces[there[random.choice(len(there), p=share / share.sum())], split]
        return known[random.integers(len(known))]

    def donor(self, face: KeptFace, random: np.random.Generator) -> KeptFace:
        """Draw a photograph of another person that looks alike: of six, the one with the nearest colours."""
        known = self._faces[face.source, face.split]
        others = [known[index] for index in random.integers(len(known), size=6)]
        others = [other for other in others if other.group != face.group] or [
            self.draw(face.split, [*PHOTOGRAPHS], random)
        ]
        colour = _colour(face)
        return min(others, key=lambda other: float(np.abs(_colour(other) - colour).sum()))


def _colour(face: KeptFace) -> np.ndarray:
    pixels = face.load()
    left, top, right, bottom = (max(0, int(value)) for value in face.box_xyxy)
    return np.asarray(pixels[top : bottom + 1 : 4, left : right + 1 : 4].mean((0, 1)))


def forge_one(number: int, album: Album, workshop: Workshop, seed: int) -> tuple[Sitter, Forgery, str, str] | None:
    """Make the forgery of a number: the photograph, the forgery, its way, and what made it."""
    random = np.random.default_rng([seed, number])
    split = "val" if number % 20 == 0 else "train"
    way = str(random.choice(list(WAYS), p=list(WAYS.values())))
    face = album.draw(split, MORPHED if way == "morph" else [*PHOTOGRAPHS], random)
    sitter = workshop.sit(face, random)
    if way in ("decoder", "up-sampler", "drawing"):
        forgery, tool = workshop.open_all()[way](sitter, random)
        return sitter, forgery, way, tool
    donor = workshop.sit(album.donor(face, random), random)
    forgery = (morph if way == "morph" else part_swap)(sitter, donor, random)
    return (sitter, forgery, way, way) if forgery is not None else None


def write(number: int, made: tuple[Sitter, Forgery, str, str], out: Path) -> None:
    """Write photograph, forgery and mask, and list them."""
    sitter, (pixels, mask), way, tool = made
    folder = out / "forged" / way
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:06}-{what}" for what in ("real.npy", "fake.npy", "mask.png")]
    np.save(files[0], sitter.pixels)
    np.save(files[1], pixels)
    Image.fromarray(mask).save(files[2])
    shared = {"source": way, "group": f"{sitter.face.group} {way} {number}", "note": f"photograph={sitter.face.source}"}
    real = replace(sitter.face, name=f"forged/{files[0].name}", pixels=str(files[0]), **shared)
    fake = replace(
        real, name=f"forged/{files[1].name}", pixels=str(files[1]), label=1, generator=tool, mask=str(files[2])
    )
    for entry in (fake, real):
        append(out / FORGED, asdict(entry))


def main() -> None:
    """Read the command line and forge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, help="folder of the tables of faces")
    parser.add_argument("--given", type=Path, required=True, help="folder with taef2, carn_m and the landmarks")
    parser.add_argument("--more", type=Path, help="folder with realesrgan_x4plus and the compact one")
    parser.add_argument("--count", type=int, default=8000, help="forgeries in all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    album = Album(read_table(options.faces / TABLE))
    workshop = Workshop(
        landmarks=load_landmarks(options.given),
        autoencoder=load_autoencoder(options.given),
        upsamplers=load_upsamplers(options.given, options.more),
    )
    begin = 1 + max((int(face.name[7:13]) for face in read_table(options.faces / FORGED)), default=-1)
    count: Counter[str] = Counter()
    for number in range(begin, options.count):
        made = forge_one(number, album, workshop, options.seed)
        if made is not None:
            write(number, made, options.faces)
        count[made[2] if made else "not to be made"] += 1
        if number % 200 == 0:
            logging.info("%d: %s", number, dict(count))


if __name__ == "__main__":
    main()
