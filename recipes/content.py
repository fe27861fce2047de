"""Train the network that classifies animals, faces, vehicles and other things, and ship it.

Usage:
    python -m recipes.content --data DATA --weights MODELS --to deepfake_detect/pretrained
    python -m recipes.content --data DATA --measure      # what is packaged, through classify_content

The ImageNet features of MobileNetV2 (Sandler et al. 2018) are tuned on augmented views of whole pictures, batch norms
frozen; then the last layer is fitted anew, by logistic regression. Faces are those of every other source, real and
forged. The penalty and the temperature are chosen on the val split; the figures on the card are of the test split.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch.nn import functional

from deepfake_detect import classify_content
from deepfake_detect.datasets.tables import read_table
from deepfake_detect.faces.crop import whole_picture
from deepfake_detect.inputs.image import open_image
from deepfake_detect.models.registry import create_model
from deepfake_detect.models.transfer import take_over
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.training.augment import Augmentation
from deepfake_detect.weights.bundle import CONTENT
from deepfake_detect.weights.card import Card, Preprocessing
from deepfake_detect.weights.golden import golden_pictures
from deepfake_detect.weights.load import load_model, save_bundle
from recipes.measure import wilson

CLASSES = ("animal", "face", "vehicle", "other")
FOLDERS = {"animals": 0, "vehicles": 2, "other": 3}
FACES = {"train": 40, "val": 10, "test": 15}
"""Pictures of each source and label that stand for faces."""

VIEWS = 3
"""Augmented views of each training picture, beside the plain one."""

BATCH = 32
CHANGES = Augmentation(shear=0, erase=0, zoom=0, shift=0)
CARD = Card(
    name=CONTENT,
    version=1,
    architecture="timm:mobilenetv2_100",
    preprocessing=Preprocessing(size_px=160, finder=""),
    classes=CLASSES,
    licence="research and evaluation only: the licences of the training data do not allow more",
    training_data=(
        "photographs of animals, vehicles and other things, 500 each: mixed and unstated terms",
        "faces, real and forged, of every source of the detectors: see their cards",
        "ImageNet features of MobileNetV2: Apache-2.0",
    ),
    recipe="python -m recipes.content --data DATA --weights MODELS --to deepfake_detect/pretrained",
    limits=(
        "it sees the picture as a whole: a small face in a wide scene is called by what surrounds it",
        "drawings, diagrams and screenshots are called other, or anything",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Features [N, D] and classes [N] of some pictures; and what each is, for the figures."""

    features: torch.Tensor
    label: torch.Tensor
    groups: list[str]


def listed(data: Path, split: str) -> Iterator[tuple[dict[str, Any], int]]:
    """List the pictures of a split, and the number of their class."""
    taken: dict[tuple[str, str], int] = {}
    for row in read_table(data / "manifest.csv"):
        if row.get("split") != split:
            continue
        kind = re.search(r"class=(\w+)", row.get("note", "")) if row["source"] == "content" else None
        place = (row["source"], row["label"])
        taken[place] = taken.get(place, 0) + 1
        if kind:
            yield row, FOLDERS[kind[1]]
        elif taken[place] <= FACES[split]:
            yield row, CLASSES.index("face")


def crops_of(row: dict[str, Any], random: np.random.Generator, *, views: int) -> list[np.ndarray]:
    """Give a picture as the network sees it, and augmented views of it."""
    pixels = open_image(row["file"]).pixels
    return [_square(pixels)] + [CHANGES(_square(_part(pixels, random)), random=random) for _ in range(views)]


def tune(model: torch.nn.Module, data: Path, *, epochs: int, rate: float) -> None:
    """Train all layers, every class as often as the others."""
    rows = list(listed(data, "train"))
    kinds = np.array([kind for _, kind in rows])
    share = 1 / np.bincount(kinds)[kinds]
    random, steps = np.random.default_rng(0), epochs * len(rows) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        drawn = random.choice(len(rows), BATCH, p=share / share.sum())
        batch = to_batch([crops_of(rows[i][0], random, views=1)[1] for i in drawn], preprocessing=CARD.preprocessing)
        loss = functional.cross_entropy(model(batch), torch.from_numpy(kinds[drawn]), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step} of {steps}: loss {float(loss.detach()):.3f}", flush=True)


def show(model: torch.nn.Module, data: Path, split: str, *, views: int) -> Shown:
    """Give the features of every picture of a split, plain and augmented."""
    features, label, groups = [], [], []
    random = np.random.default_rng(0)
    for row, kind in listed(data, split):
        crops = crops_of(row, random, views=views)
        with torch.inference_mode():
            batch = to_batch(crops, preprocessing=CARD.preprocessing)
            features.append(model.net.embed(batch))
        label += [kind] * len(crops)
        groups += [row.get("group", str(row["file"]))] * len(crops)
    return Shown(features=torch.cat(features), label=torch.tensor(label), groups=groups)


def fit_head(shown: Shown, *, penalty: float) -> torch.nn.Linear:
    """Fit a logistic regression in which every class counts the same."""
    head = torch.nn.Linear(shown.features.shape[1], len(CLASSES))
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    weight = len(shown.label) / (len(CLASSES) * torch.bincount(shown.label).float())
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = (
            functional.cross_entropy(head(shown.features), shown.label, weight) + penalty * head.weight.square().sum()
        )
        value.backward()
        return value

    optimizer.step(loss)
    return head.requires_grad_(False)


def temperature_of(logits: torch.Tensor, label: torch.Tensor) -> float:
    """Find the temperature of the least loss, from 0.3 to 5."""
    tried = torch.logspace(-0.52, 0.7, 100).tolist()
    return min(tried, key=lambda value: float(functional.cross_entropy(logits / value, label)))


def figures(logits: torch.Tensor, label: torch.Tensor) -> dict[str, Any]:
    """Count accuracy, its 95 % interval (Wilson 1927), and which class is taken for which."""
    predicted, n = logits.argmax(1), len(label)
    right = int((predicted == label).sum())
    ends = [round(end, 4) for end in wilson(right, n)]
    table = {
        name: {other: int(((label == i) & (predicted == j)).sum()) for j, other in enumerate(CLASSES)}
        for i, name in enumerate(CLASSES)
    }
    return {"n": n, "accuracy": round(right / n, 4), "accuracy_interval": ends, "confusion": table}


def _square(pixels: np.ndarray) -> np.ndarray:
    wanted = CARD.preprocessing
    return whole_picture(pixels, size_px=wanted.size_px, interpolation=wanted.interpolation)


def _part(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Cut out 40 to 100 % of the picture, of nearly its shape."""
    height, width = pixels.shape[:2]
    tall, wide = (max(8, round(side * random.uniform(0.63, 1) * random.uniform(0.9, 1))) for side in (height, width))
    top, left = int(random.integers(height - tall + 1)), int(random.integers(width - wide + 1))
    return pixels[top : top + tall, left : left + wide]


def golden_logits(model: torch.nn.Module) -> dict[str, float]:
    """Return the logits of the pictures made in the package, one entry for each picture and class."""
    found = {}
    for name, pixels in golden_pictures().items():
        with torch.inference_mode():
            logits = model(to_batch([_square(pixels)], preprocessing=CARD.preprocessing))[0]
        found |= {f"{name}/{kind}": round(float(value), 4) for kind, value in zip(CLASSES, logits, strict=True)}
    return found


def measure(data: Path) -> dict[str, Any]:
    """Measure what is packaged on the test split, face finder and all."""
    rows = list(listed(data, "test"))
    predicted = torch.zeros(len(rows), len(CLASSES))
    for place, (row, kind) in enumerate(rows):
        content = classify_content(row["file"])
        predicted[place, CLASSES.index(content.label)] = 1
        if content.label != CLASSES[kind]:
            print(f"{row['file']}: {CLASSES[kind]}, called {content.label} ({max(content.scores.values()):.2f})")
    return figures(predicted, torch.tensor([kind for _, kind in rows]))


def main() -> None:
    """Read the command line, learn, measure and write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--weights", type=Path, help="folder with the starting weights")
    parser.add_argument("--to", type=Path, help="folder of the packaged bundles")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--measure", action="store_true", help="only measure what is packaged")
    options = parser.parse_args()
    if options.measure:
        print(measure(options.data))
        return
    if not (options.weights and options.to):
        parser.error("--weights and --to are needed to train")
    torch.set_num_threads(1)
    model = create_model(CARD.architecture, seed=0, outputs=len(CLASSES)).eval()
    take_over(model, safetensors.torch.load_file(options.weights / "mobilenetv2_100.imagenet.safetensors"))
    model.net.classifier.weight.data.mul_(0.1)  # new: logits begin near zero
    tune(model, options.data, epochs=options.epochs, rate=2e-4)
    train, valid, test = (
        show(model, options.data, split, views=VIEWS if split == "train" else 0) for split in ("train", "val", "test")
    )
    tried = {}
    for penalty in (1e-3, 3e-3, 1e-2, 3e-2):
        head = fit_head(train, penalty=penalty)
        tried[penalty] = head, float(functional.cross_entropy(head(valid.features), valid.label))
        print(f"penalty {penalty:g}: validation loss {tried[penalty][1]:.4f}, "
              f"accuracy {figures(head(valid.features), valid.label)['accuracy']:.4f}")  # fmt: skip
    head, _ = min(tried.values(), key=lambda pair: pair[1])
    model.net.classifier.load_state_dict(head.state_dict())
    temperature = temperature_of(head(valid.features), valid.label)
    card = replace(CARD, temperature=round(temperature, 4))
    with tempfile.TemporaryDirectory() as folder:
        save_bundle(model, card, folder)
        shipped = load_model(folder)  # in half precision
    measured = figures(shipped.net.classifier(test.features), test.label)
    card = replace(card, metrics={"test": measured}, golden=golden_logits(shipped))
    save_bundle(shipped, card, options.to / card.id)
    print(f"{card.id}: temperature {temperature:.3f}, test {measured}")


if __name__ == "__main__":
    main()
