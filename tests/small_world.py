"""A detector that costs nothing, and pictures with as many faces as a test needs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from deepfake_detect import Card, Detector, Preprocessing, create_model
from deepfake_detect.weights.load import save_bundle
from deepfake_detect.weights.texture import TextureLook

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepfake-detect"
"""Where ``.ci/run`` puts what the tests in a browser need."""

CARD = Card(name="small", version=0, architecture="meso4", preprocessing=Preprocessing(size_px=64))


LOOK = TextureLook(
    architecture="cnn4",
    patch_px=32,
    patches=4,
    min_side_px=70,
    weight=2.0,
    unsure=(-0.0625, 0.03125),
)
"""The portrait's face, 89 px wide, is large enough for it; those of `group`, 65 px wide, are not."""


class Texture(torch.nn.Module):
    """The logit is the fine detail in a square of a picture of 64 px, rows 16 to 31 and columns 32 to 47."""

    def __init__(self) -> None:
        super().__init__()
        self.detail = torch.nn.Conv2d(3, 1, 3, padding=1, bias=False)
        torch.nn.init.zeros_(self.detail.weight)
        self.detail.weight.data[0, :, 1, 1] = 1.0
        self.detail.weight.data[0, :, 1, 2] = -1.0
        self.pool = torch.nn.AvgPool2d(8)
        self.head = torch.nn.Linear(64, 1)
        torch.nn.init.zeros_(self.head.weight)
        self.head.weight.data.view(8, 8)[2:4, 4:6] = 4.0
        torch.nn.init.constant_(self.head.bias, -8.0)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.head(self.pool(self.detail(batch).abs()).flatten(1))[:, 0])


def small_model() -> torch.nn.Module:
    """Give random weights whose logits differ from picture to picture by some units."""
    model = create_model("meso4", seed=0)
    with torch.no_grad():
        last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
        last.weight *= 300
    return model.eval()


def small_detector(**changes: Any) -> Detector:
    """Give a detector of 64 px on the CPU; ``changes`` are of its card."""
    return Detector(model=small_model(), card=replace(CARD, **changes), device="cpu")


def small_texture() -> torch.nn.Module:
    """Give random weights for `LOOK` whose logits differ from patch to patch."""
    model = create_model("cnn4", seed=1)
    with torch.no_grad():
        [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1].weight *= 100
    return model.eval()


def two_looks(**changes: Any) -> Detector:
    """Give a detector with both looks on the CPU; ``changes`` are of its card."""
    card = replace(CARD, **{"texture": LOOK, **changes})
    return Detector(model=small_model(), card=card, texture=small_texture(), device="cpu")


def small_bundle(folder: Path, **changes: Any) -> Path:
    """Write such a detector to a folder; ``changes`` are of its card."""
    save_bundle(small_model(), replace(CARD, **changes), folder, half=False)
    return folder


def portrait() -> np.ndarray:
    """Give the portrait: [512, 512, 3] uint8 RGB, one face."""
    return np.asarray(Image.open(PORTRAIT).convert("RGB"))


def group(count: int) -> np.ndarray:
    """Put the head of the portrait into one row as often as wanted."""
    head = Image.fromarray(portrait()).crop((120, 0, 392, 300)).resize((190, 210))
    picture = Image.new("RGB", (190 * count + 40, 250), (90, 90, 90))
    for number in range(count):
        picture.paste(head, (20 + 190 * number, 20))
    return np.asarray(picture)


def empty_scene() -> np.ndarray:
    """Give a picture without a face: [120, 160, 3]."""
    y, x = np.mgrid[:120, :160]
    return np.stack([x, y, (x + y) // 2], 2).astype(np.uint8)
