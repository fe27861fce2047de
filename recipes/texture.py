"""Train the second look: a small network on patches of a face at the pixels in which the picture came.

Usage:
    python -m recipes.texture --faces FACES --weights WEIGHTS --more MORE_WEIGHTS --out RUNS/texture

Traces of decoders and up-samplers at single pixels are lost where a face is scaled to a network's input. Here nothing
is scaled: EfficientNet-B0 gets patches of 128 px, of faces that are at least as large. Pictures that were scaled down
before hold no such traces, so only the sources in `NATIVE` are used, and each fake is paired with its own original or a
photograph, encoded in the same way. A fifth of the fakes are made of the photograph beside them, patch by patch: passed
through the decoder of a latent diffusion model, or made small and large again by an up-sampler, with the spectrum
brought near that of the photograph. Checkpoints and resuming are as in `flagship`.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import torch
from torch.nn import functional

from deepfake_detect.weights.card import Preprocessing
from recipes.face_table import KeptFace
from recipes.flagship import SMOOTHING, Plan, Stage, Training
from recipes.forged_copies import coarsely, level, load_autoencoder
from recipes.mixture import Pair
from recipes.upsamplers import enlarge, load_upsamplers
from recipes.views import View, encoded, forged_mask

WEIGHTS = "efficientnet_b0.imagenet.safetensors"

PATCH_PX = 128

NATIVE = frozenset((
    "gpt-gallery", "sd14", "sd-men", "genphotos", "tpdne", "mebeauty", "unsplash-men", "london", "canada", "3dsk",
    "pixabay", "ciplab", "decoder", "up-sampler", "part-swap",
))  # fmt: skip
"""Sources whose pixels are those of the generator or the camera's program, or were forged as they stand."""

FOLDER = "data/"
"""Table of pictures that were all scaled, whatever their source; faces of it are left out."""

SHARES = {
    "gpt-gallery": 12.0, "sd14": 6.0, "tpdne": 5.0, "genphotos": 4.0, "sd-men": 2.0, "ciplab": 6.0, "part-swap": 2.0,
    "decoder": 1.0, "up-sampler": 1.0,
}  # fmt: skip
"""How often a fake of a source is drawn, in proportion."""

FORGED = 0.22
"""Share of the fakes that are made of the photograph beside them."""

UPSAMPLERS = {"carn-m x2": 0.25, "carn-m x3": 0.15, "carn-m x4": 0.15, "real-esrgan compact": 0.4,
              "real-esrgan x4plus": 0.05}  # fmt: skip

CODINGS = (0.2, 0.5, 0.3)
"""Share of the patches that are encoded not at all, once, twice."""

LOSSLESS = (".png", ".npy")
"""Files of generators that no encoder has gone over; photographs have all been encoded."""

AROUND_PX = 8
"""A patch is forged or encoded with so many pixels around it, so that edges and grids lie outside."""

PLACES = 6
"""So many places are looked at for one where the fake is forged."""

STAGES = (
    Stage(size_px=PATCH_PX, samples=48_000, lr=4e-4),
    Stage(size_px=PATCH_PX, samples=32_000, lr=2e-4, falls=True),
)


def is_native(face: KeptFace) -> bool:
    """Say whether a face has the pixels that this look is for, and enough of them."""
    side = min(face.box_xyxy[2] - face.box_xyxy[0], face.box_xyxy[3] - face.box_xyxy[1])
    return face.source in NATIVE and not face.name.startswith(FOLDER) and side >= PATCH_PX


class PatchForger:
    """Forge patches of photographs by networks that leave traces at single pixels.

    Args:
        given: Folder with ``taef2`` and ``carn_m``.
        more: Folder with the two Real-ESRGAN networks; None goes without them.
    """

    def __init__(self, given: Path, more: Path | None) -> None:
        self._autoencoder = load_autoencoder(given)
        self._upsamplers = load_upsamplers(given, more)
        known = {name: share for name, share in UPSAMPLERS.items() if name in self._upsamplers}
        self._names, self._shares = list(known), np.array(list(known.values())) / sum(known.values())

    def __call__(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Forge a photograph [H, W, 3] uint8, wholly or in part of its strength."""
        if random.random() < 0.5:
            forged = coarsely(self._autoencoder, pixels, shrink=(1.0, 1.0, 1.25, 1.5)[random.integers(4)])
        else:
            forged = self._enlarged(pixels, random)
        forged = level(pixels, forged, degree=random.uniform(0, 1.3))
        share = random.uniform(0.6, 1.0) if random.random() < 0.3 else 1.0
        return np.asarray((pixels + share * (forged.astype(np.float32) - pixels)).round().clip(0, 255), np.uint8)

    def _enlarged(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        network, times = self._upsamplers[random.choice(self._names, p=self._shares)]
        height, width = pixels.shape[:2]
        way = (cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LINEAR)[random.integers(3)]
        small = cv2.resize(pixels, (max(8, width // times), max(8, height // times)), interpolation=way)
        return np.asarray(cv2.resize(enlarge(network, small), (width, height), interpolation=cv2.INTER_CUBIC))


def patches(pair: Pair, seed: int, *, forger: PatchForger) -> tuple[View, View]:
    """Cut a patch out of a fake, where it is forged, and one out of the picture beside it, with the same codings."""
    fake, real = pair
    random = np.random.default_rng(seed)
    at = random.random((PLACES, 2))
    other = real.load()
    if random.random() < FORGED:
        place = _corner(real, other.shape[:2], at[0])
        wide, corner = _around(other, place)
        made_up = forger(wide, random)
        if random.random() < 0.7:
            made_up = encoded(made_up, random)
        shown = [_patch(made_up, corner), _patch(other, place)]
    else:
        mask, pixels = forged_mask(fake, fake.load().shape[:2]), fake.load()
        corners = [_corner(fake, pixels.shape[:2], place) for place in at]
        best = max(range(PLACES), key=lambda number: (_patch(mask, corners[number]).mean() > 100, -number))
        shown = [_patch(pixels, corners[best]), _patch(other, _corner(real, other.shape[:2], at[best]))]
        if fake.name.endswith(LOSSLESS) and not fake.name.startswith("forged/"):
            wide, corner = _around(pixels, corners[best])
            shown[0] = _patch(encoded(wide, random), corner)
    turn, flip, state = int(random.integers(4)), random.random() < 0.5, int(random.integers(2**62))
    made = []
    for patch, label in zip(shown, (1.0, 0.0), strict=True):
        codings = np.random.default_rng(state)
        for _ in range(codings.choice(len(CODINGS), p=CODINGS)):
            patch = encoded(patch, codings)
        patch = np.rot90(patch[:, ::-1] if flip else patch, turn)
        made.append(View(pixels=np.ascontiguousarray(patch), forged=np.full((1, 1), label, np.float32)))
    return made[0], made[1]


class TextureTraining(Training):
    """The training of the second look."""

    architecture = "efficientnet-b0"
    fakes: ClassVar[Mapping[str, float]] = SHARES

    def __init__(self, plan: Plan, out: Path, *, start: Path | None, forger: PatchForger) -> None:
        super().__init__(plan, out, start=start)
        self._forger = forger

    @staticmethod
    def is_wanted(face: KeptFace) -> bool:
        """Keep faces at native pixels."""
        return is_native(face)

    def views(self, pair: Pair, *, size_px: int, seed: int) -> tuple[View, View]:
        """Show patches."""
        return patches(pair, seed, forger=self._forger)

    @staticmethod
    def preprocessing(size_px: int) -> Preprocessing:
        """Say how a patch becomes the input: not scaled."""
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        return Preprocessing(size_px=size_px, mean=mean, std=std, interpolation="mipmap")

    def losses(
        self, batch: torch.Tensor, label: torch.Tensor, forged: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Give the loss of the verdict, none of a map, and the logits."""
        logit = self.model(batch)
        verdict = functional.binary_cross_entropy_with_logits(logit, label * (1 - SMOOTHING) + SMOOTHING / 2)
        return verdict, torch.zeros(()), logit


def _corner(face: KeptFace, size_hw: tuple[int, ...], at: np.ndarray) -> tuple[int, int]:
    """Give row and column of a patch within the face, by shares of the way."""
    left, top, right, bottom = face.box_xyxy
    row = top + float(at[0]) * max(0.0, bottom - top - PATCH_PX)
    column = left + float(at[1]) * max(0.0, right - left - PATCH_PX)
    return min(max(0, int(row)), size_hw[0] - PATCH_PX), min(max(0, int(column)), size_hw[1] - PATCH_PX)


def _around(pixels: np.ndarray, corner: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Cut a patch out with the pixels around it, as far as there are any; give its corner therein."""
    top, left = (max(0, place - AROUND_PX) for place in corner)
    wide = pixels[top : corner[0] + PATCH_PX + AROUND_PX, left : corner[1] + PATCH_PX + AROUND_PX]
    return np.ascontiguousarray(wide), (corner[0] - top, corner[1] - left)


def _patch(pixels: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    row, column = corner
    return pixels[row : row + PATCH_PX, column : column + PATCH_PX]


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, help="folder of the tables of faces")
    parser.add_argument("--weights", type=Path, required=True, help="folder with the starting weights")
    parser.add_argument("--more", type=Path, help="folder with the Real-ESRGAN networks")
    parser.add_argument("--out", type=Path, required=True, help="folder of the training")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    forger = PatchForger(options.weights, options.more)
    TextureTraining(Plan(stages=STAGES), options.out, start=options.weights / WEIGHTS, forger=forger).run(options.faces)


if __name__ == "__main__":
    main()
