"""Turn photographs of faces into drawings, paintings and flat shapes.

Fakes of `forge`, so that a detector has seen faces that are no photographs, and does not call them real.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from recipes.landmarks import BROWS, EYES, JAW, MOUTH, NOSE

Drawing = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""Maps pixels [H, W, 3] uint8 RGB, 68 landmarks [68, 2] and a random generator to a drawing [H, W, 3] uint8."""


def painting(pixels: np.ndarray, points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Smooth within edges, as in water colours (Gastal and Oliveira 2011, domain transform)."""
    return np.asarray(cv2.stylization(pixels, sigma_s=random.uniform(20, 120), sigma_r=random.uniform(0.2, 0.7)))


def pencil(pixels: np.ndarray, points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw with a pencil, grey or coloured, by the same filter."""
    settings = {"sigma_s": random.uniform(20, 90), "sigma_r": random.uniform(0.05, 0.15)}
    grey, coloured = cv2.pencilSketch(pixels, **settings, shade_factor=random.uniform(0.02, 0.08))
    return np.asarray(coloured if random.random() < 0.5 else cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))


def cartoon(pixels: np.ndarray, points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Reduce to a few colours, with black lines along the edges."""
    smooth = cv2.pyrMeanShiftFiltering(pixels, random.uniform(4, 12), random.uniform(15, 45))
    steps = int(random.integers(4, 10))
    flat = ((smooth.astype(np.float32) / 255 * steps).round() / steps * 255).astype(np.uint8)
    if random.random() < 0.7:
        grey = cv2.medianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), 5)
        block = int(random.integers(3, 8)) * 2 + 1
        lines = cv2.adaptiveThreshold(
            grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, block, random.uniform(3, 9)
        )
        flat[lines == 0] = random.integers(0, 60)
    return flat


def line_drawing(pixels: np.ndarray, points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw dark lines on light paper, where the photograph has edges."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    sigma = random.uniform(0.6, 1.6)
    edges = cv2.GaussianBlur(grey, (0, 0), sigma) - random.uniform(0.94, 0.99) * cv2.GaussianBlur(
        grey, (0, 0), 1.6 * sigma
    )
    ink = 1 / (1 + np.exp(-(edges - random.uniform(-1, 3)) * random.uniform(0.3, 2)))
    paper, colour = random.uniform(200, 256, 3), random.uniform(0, 90, 3)
    drawn = colour + ink[..., None] * (paper - colour) + random.normal(0, random.uniform(0, 5), (*grey.shape, 1))
    return np.asarray(drawn.clip(0, 255), np.uint8)


def flat_shapes(pixels: np.ndarray, points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw head, eyes, brows, nose and mouth as flat shapes in the colours of the photograph, as in an avatar."""
    height, width = pixels.shape[:2]
    top = int(np.clip(points[:, 1].min(), 0, height - 1))
    ground = pixels[:: max(1, height // 8), :2].reshape(-1, 3).mean(0)
    drawn = np.full((height, width, 3), ground, np.float32)
    apart = float(np.linalg.norm(points[36] - points[45]))
    centre = points[27:31].mean(0)
    hair = pixels[max(0, top - int(apart / 2)) : top + 1, int(np.clip(centre[0], 0, width - 1))].reshape(-1, 3).mean(0)
    middle = (int(centre[0]), int(centre[1]))
    cv2.ellipse(drawn, middle, (int(1.15 * apart), int(1.6 * apart)), 0, 0, 360, hair.tolist(), -1, cv2.LINE_AA)
    forehead = [points[0] - (0, 0.5 * apart), points[16] - (0, 0.5 * apart)]
    shapes = [np.concatenate([points[list(JAW)], forehead[::-1]]), points[list(NOSE)], points[list(MOUTH)[:12]]]
    shapes += [points[list(places)] for places in (*BROWS.values(), *EYES.values())]
    for shape in shapes:
        hull = cv2.convexHull(shape.round().astype(np.int32))
        mask = cv2.fillConvexPoly(np.zeros((height, width), np.uint8), hull, 255)
        colour = pixels[mask > 0].reshape(-1, 3).mean(0) if mask.any() else ground
        colour = (colour * random.uniform(0.8, 1.2, 3)).clip(0, 255)
        cv2.fillConvexPoly(drawn, hull, colour.tolist(), cv2.LINE_AA)
        if random.random() < 0.5:
            cv2.polylines(drawn, [hull], True, (colour * 0.4).tolist(), 1 + int(apart / 60), cv2.LINE_AA)
    for places in EYES.values():
        pupil = points[list(places)].mean(0)
        cv2.circle(drawn, (int(pupil[0]), int(pupil[1])), max(1, int(apart / 18)), (20, 20, 20), -1, cv2.LINE_AA)
    return np.asarray(drawn.clip(0, 255), np.uint8)


DRAWINGS: dict[str, Drawing] = {
    "painting": painting, "pencil": pencil, "cartoon": cartoon, "line-drawing": line_drawing,
    "flat-shapes": flat_shapes,
}  # fmt: skip
"""Style to what draws in it."""
