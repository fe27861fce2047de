"""Make the fake of this folder: replace the face of a portrait with its own mirror image.

    python examples/make_fake.py examples/portrait.jpg portrait_fake.jpg

A classical face swap in forty lines. The face is taken from the mirrored portrait, laid on the real one by its five
landmarks, coloured a little differently, passed through fewer pixels as a swapping network would, and blended in with
a soft mask. Nothing is drawn at random: the same portrait and the same options give the same fake.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from deepfake_detect import Face, find_faces

MIRRORED = [1, 0, 2, 4, 3]  # right eye, left eye, nose, right and left mouth corner, seen in a mirror


def swap_face(
    pixels: np.ndarray, face: Face, *, stretch: float, colour: float, detail_px: int, feather: float
) -> np.ndarray:
    """Replace a face by its mirror image.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        face: Where it is.
        stretch: Height of the new face, in parts of the old one's.
        colour: How far the new face is shifted towards red, in grey levels.
        detail_px: Pixels along the side of the new face, before it is scaled to its place.
        feather: Width of the soft edge, in parts of the distance between the eyes.

    Returns:
        [H, W, 3] uint8 RGB.
    """
    height, width = pixels.shape[:2]
    points = face.landmarks_xy.astype(float)
    mirrored = (np.array([width - 1, 0]) + np.array([-1, 1]) * points)[MIRRORED]
    target = points.mean(0) + (points - points.mean(0)) * [1, stretch]
    homogeneous = np.column_stack([mirrored, np.ones(5)])
    matrix = np.linalg.lstsq(homogeneous, target, rcond=None)[0].T
    swapped = cv2.warpAffine(pixels[:, ::-1], matrix, (width, height), flags=cv2.INTER_CUBIC)
    swapped = limit_detail(swapped, scale=detail_px / (face.box_xyxy[3] - face.box_xyxy[1]))
    shifted = swapped + np.array([1.0, -0.3, -0.7]) * colour
    alpha = soft_mask(points, (height, width), feather=feather)[..., None]
    return np.clip(alpha * shifted + (1 - alpha) * pixels, 0, 255).round().astype(np.uint8)


def limit_detail(pixels: np.ndarray, *, scale: float) -> np.ndarray:
    """Scale down and up again."""
    height, width = pixels.shape[:2]
    small = cv2.resize(pixels, None, fx=min(scale, 1), fy=min(scale, 1), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def soft_mask(points: np.ndarray, size_hw: tuple[int, int], *, feather: float) -> np.ndarray:
    """Draw an ellipse over brows, nose and mouth, 1 inside and 0 outside, its edge blurred."""
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    apart = float(np.linalg.norm(points[1] - points[0]))
    tilt = float(np.degrees(np.arctan2(*(points[1] - points[0])[::-1])))
    axes = (0.95 * apart, 0.62 * float(np.linalg.norm(mouth - eyes)) + 0.42 * apart)
    mask = cv2.ellipse(np.zeros(size_hw, np.float32), ((eyes + mouth) / 2, np.multiply(axes, 2), tilt), 1.0, -1)
    return cv2.GaussianBlur(mask, (0, 0), max(feather * apart, 0.1))


def main() -> None:
    """Read the portrait, swap its largest face, write the fake."""
    parser = argparse.ArgumentParser(description="Make a fake out of a portrait.")
    parser.add_argument("portrait", type=Path)
    parser.add_argument("fake", type=Path)
    parser.add_argument("--stretch", type=float, default=1.06, help="height of the new face (default %(default)s)")
    parser.add_argument("--colour", type=float, default=10.0, help="shift towards red (default %(default)s)")
    parser.add_argument("--detail-px", type=int, default=56, help="pixels of the new face (default %(default)s)")
    parser.add_argument("--feather", type=float, default=0.15, help="softness of the edge (default %(default)s)")
    options = vars(parser.parse_args())
    pixels = np.asarray(Image.open(options.pop("portrait")).convert("RGB"))
    fake = options.pop("fake")
    face = find_faces(pixels)[0]
    Image.fromarray(swap_face(pixels, face, **options)).save(fake, quality=92, subsampling="4:2:0")


if __name__ == "__main__":
    main()
