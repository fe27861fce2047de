"""Compose the pictures that the face finder is trained on.

Pictures of the train split, composed: one face large or small, several in one picture, none at
all, turned, darkened, blurred, recompressed. The teacher labels the result, not the parts.
"""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

FACELESS = "content"


def read_split(data: Path, *splits: str) -> tuple[list[Path], list[Path]]:
    """Give the pictures with and those without faces of some splits of the manifest."""
    faces, others = [], []
    with (data / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] in splits:
                (others if row["source"] == FACELESS else faces).append(data / row["file"])
    return faces, others


class Scenes:
    """An endless supply of square BGR scenes, the same for the same seed."""

    def __init__(self, faces: list[Path], others: list[Path], *, side_px: int, seed: int) -> None:
        self.faces, self.others, self.side_px = faces, others, side_px
        self.random = np.random.default_rng(seed)

    def batch(self, count: int) -> np.ndarray:
        """Make uint8 scenes [count, 3, side, side]."""
        return np.stack([self.scene() for _ in range(count)]).transpose(0, 3, 1, 2)

    def scene(self) -> np.ndarray:
        kind = self.random.random()
        if kind < 0.12:
            scene = self._alone(self._picture(self.others), (0.9, 1.6))
        elif kind < 0.55:
            scene = self._alone(self._picture(self.faces), (0.35, 1.5))
        else:
            scene = self._crowd()
        return self._spoil(scene)

    def _picture(self, files: list[Path]) -> np.ndarray:
        pixels = cv2.imread(str(files[self.random.integers(len(files))]))
        return pixels[:, ::-1] if self.random.random() < 0.5 else pixels

    def _alone(self, picture: np.ndarray, zoom: tuple[float, float]) -> np.ndarray:
        """One picture, turned and zoomed, its border continued by one of four rules."""
        random, side = self.random, self.side_px
        scale = np.exp(random.uniform(*np.log(zoom))) * side / max(picture.shape[:2])
        angle = random.normal(0, 14) if random.random() < 0.85 else random.uniform(-50, 50)
        height, width = picture.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
        free = max(0.0, 1 - scale * max(height, width) / side) * side / 2 + 0.15 * side
        matrix[:, 2] += side / 2 - np.array([width, height]) / 2 + random.uniform(-free, free, 2)
        border = [cv2.BORDER_CONSTANT, cv2.BORDER_CONSTANT, cv2.BORDER_REFLECT_101, cv2.BORDER_REPLICATE]
        if scale < 0.5:
            picture, matrix = _halve(picture, matrix)
        colour = [int(c) for c in random.integers(0, 256, 3)]
        return cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR,
                              borderMode=border[random.integers(4)], borderValue=colour)  # fmt: skip

    def _crowd(self) -> np.ndarray:
        """Several pictures in cells of a random grid over a background."""
        random, side = self.random, self.side_px
        scene = self._alone(self._picture(self.others), (1.4, 2.5))
        rows, columns = random.integers(1, 6), random.integers(2, 6)
        ys = np.linspace(0, side, rows + 1).astype(int)
        xs = np.linspace(0, side, columns + 1).astype(int)
        for top, bottom in pairwise(ys):
            for left, right in pairwise(xs):
                if random.random() < 0.3:
                    continue
                picture = self._tight(self._picture(self.faces))
                scale = min((bottom - top) / picture.shape[0], (right - left) / picture.shape[1])
                scale *= random.uniform(0.5, 1.3)
                small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                y = int(np.clip((top + bottom - small.shape[0]) / 2, 0, side - 1))
                x = int(np.clip((left + right - small.shape[1]) / 2, 0, side - 1))
                part = small[: side - y, : side - x]
                scene[y : y + part.shape[0], x : x + part.shape[1]] = part
        return scene

    def _tight(self, picture: np.ndarray) -> np.ndarray:
        keep = self.random.uniform(0.6, 1.0)
        height, width = picture.shape[:2]
        h, w = int(height * keep), int(width * keep)
        y, x = (height - h) // 2, (width - w) // 2
        return picture[y : y + h, x : x + w]

    def _spoil(self, scene: np.ndarray) -> np.ndarray:
        """Dark, flat, grey, blurred, noisy, recompressed: each in some of the scenes."""
        random = self.random
        if random.random() < 0.5:
            gain, lift = random.uniform(0.25, 1.4), random.uniform(-30, 30)
            scene = np.clip(scene * np.float32(gain) + np.float32(lift), 0, 255).astype(np.uint8)
        if random.random() < 0.1:
            scene = cv2.cvtColor(cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        if random.random() < 0.2:
            scene = cv2.GaussianBlur(scene, (0, 0), random.uniform(0.5, 2.5))
        if random.random() < 0.15:
            noise = random.normal(0, random.uniform(2, 14), scene.shape)
            scene = np.clip(scene + noise, 0, 255).astype(np.uint8)
        if random.random() < 0.3:
            quality = int(random.integers(20, 90))
            scene = cv2.imdecode(cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)
        return scene


def _halve(picture: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average pixels two by two first, so that shrinking by more than two does not alias."""
    small = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    matrix = matrix.copy()
    matrix[:, :2] *= 2
    return small, matrix
