"""Measure how much faster a head trains on cached features than with the frozen backbone run in every epoch.

Both train the same head on the same batches. The naive way is the usual training loop with a frozen backbone: it makes
the crops and runs the whole model again in each epoch. The final weights of both are compared, and their AUC on
held-out pictures.

    python benchmarks/head_only.py --data FOLDER --epochs 10      # with a manifest.csv
    python benchmarks/head_only.py                                # pictures made of the two in examples/
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deepfake_detect.datasets.crops import find_crops
from deepfake_detect.datasets.face_cache import FaceStore
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.models.head import head_of
from deepfake_detect.training.batches import Batch, CropFeed, Key, draw, steps_in
from deepfake_detect.training.checkpoint import Progress
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.training.distributed import World
from deepfake_detect.training.initial import untrained
from deepfake_detect.training.loop import fit
from deepfake_detect.training.schedule import Epoch, Schedule
from deepfake_detect.training.step import Learner, measure
from deepfake_detect.weights.card import Card

EXAMPLES = Path(__file__).parents[1] / "examples"


def main() -> None:
    """Measure, and print a line for each number of epochs."""
    options = read_options()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = FaceStore(options.faces)
        samples = find_crops(chosen(options, folder), store).samples
        model, card = untrained(options.model, name="speed", start=options.start, size_px=options.size_px)
        held = samples[::4]  # for validation
        kept = [sample for number, sample in enumerate(samples) if number % 4]
        crops, valid = (CropDataset(some, store, preprocessing=card.preprocessing) for some in (kept, held))
        compare(options, model, crops, valid, card, folder)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with a manifest.csv; pictures are made where missing")
    parser.add_argument("--source", action="append", help="keep only this source of the table; may be given again")
    parser.add_argument("--faces", type=Path, help="folder of the face cache")
    parser.add_argument("--model", default="xception")
    parser.add_argument("--start", type=Path, help=".safetensors file of timm's weights; random ones where missing")
    parser.add_argument("--size-px", type=int, default=160, help="side of the crop")
    parser.add_argument("--pictures", type=int, default=400, help="a quarter of them for validation")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--naive-epochs", type=int, help="epochs run without the cache, and scaled up; all if missing")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    return parser.parse_args()


def chosen(options: argparse.Namespace, folder: Path) -> list[Sample]:
    """Choose pictures evenly over the table, or write the examples in many sizes."""
    if options.data:
        samples = read_dataset(options.data, splits=["train"])
        samples = [sample for sample in samples if not options.source or sample.source in options.source]
        return [samples[index] for index in np.linspace(0, len(samples) - 1, options.pictures).astype(int)]
    made = []
    for number in range(options.pictures):
        picture = Image.open(EXAMPLES / ("portrait.jpg" if number // 4 % 2 == 0 else "portrait_fake.jpg")).convert(
            "RGB"
        )
        side = 600 + number % 200
        file = folder / f"{number}.jpg"
        picture.resize((side, side), Image.Resampling.BICUBIC).save(file, quality=90)
        made.append(Sample(image=file, label=number // 4 % 2, source="example"))
    return made


def compare(
    options: argparse.Namespace,
    model: torch.nn.Module,
    crops: CropDataset,
    valid: CropDataset,
    card: Card,
    folder: Path,
) -> None:
    """Train one head on cached features, and the same head without the cache."""
    schedule = Schedule(epochs=options.epochs, batch_size=32, lr=1e-3, freeze="backbone", balance=False, clip=100)
    cached, naive, ends = copy.deepcopy(model), copy.deepcopy(model), list[tuple[float, float]]()
    began = now()

    def after(epoch: Epoch) -> None:
        ends.append(now())

    fit(cached, crops, card=card, schedule=schedule, out=folder / "out", device="cpu", dtype="float32",
        callbacks=[after])  # fmt: skip
    middle, run = now(), options.naive_epochs or options.epochs
    teach_naively(naive, crops, schedule, epochs=run)
    end = now()
    print(f"{options.model} {options.size_px} px, {len(crops)} pictures, {options.threads} threads")
    for place, what in enumerate(("on the clock", "of the processor")):
        first, last, each = ends[0][place] - began[place], ends[-1][place], (end[place] - middle[place]) / run
        more = (last - ends[0][place]) / max(1, len(ends) - 1)
        print(
            f"seconds {what}: cached {first:.1f} with the first epoch, {more:.2f} for each more; naive {each:.1f} each"
        )
        for epochs in sorted({1, 3, 10, options.epochs} & set(range(1, options.epochs + 1))):
            print(f"{epochs:5} epochs: {each * epochs / (ends[epochs - 1][place] - began[place]):.1f} times as fast")
    aucs = [auc_of(trained, valid) for trained in (model, cached, naive)]
    print("AUC on {} other pictures: before {:.4f}, cached {:.4f}, naive {:.4f}".format(len(valid), *aucs))
    apart, moved = (largest_difference(cached, other) for other in (naive, model))
    print(f"largest difference of a weight: {apart:.1e}; by the training: {moved:.1e}")


def now() -> tuple[float, float]:
    """Return wall-clock and processor time."""
    return time.perf_counter(), time.process_time()


def auc_of(model: torch.nn.Module, valid: CropDataset) -> float:
    """Score pictures that were not trained on."""
    trained = Learner(model, Schedule(epochs=1), device=torch.device("cpu"), dtype=torch.float32, world=World())
    return float(measure(trained, CropFeed(valid, preprocessing=valid.preprocessing), size=32)["valid_auc"])


def largest_difference(first: torch.nn.Module, second: torch.nn.Module) -> float:
    """Return the largest difference of a weight of two models."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


class Running:
    """Yields features as `FeatureFeed` does, but runs the backbone each time."""

    def __init__(self, model: torch.nn.Module, feed: CropFeed) -> None:
        self.model, self.feed = model, feed

    def batches(self, keys: Sequence[Key], *, size: int) -> Iterator[Batch]:
        """Run the whole model over the crops, and capture the input of the head."""
        caught: list[torch.Tensor] = []
        hook = head_of(self.model)[1].register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        for batch, label in self.feed.batches(keys, size=size):
            with torch.no_grad():
                self.model(batch)
            yield caught.pop(), label
        hook.remove()


def teach_naively(model: torch.nn.Module, crops: CropDataset, schedule: Schedule, *, epochs: int) -> None:
    """Train the head of a model, and leave the averaged weights in it."""
    model.eval().to(memory_format=torch.channels_last)
    learner = Learner(
        copy.deepcopy(head_of(model)[1]), schedule, device=torch.device("cpu"), dtype=torch.float32, world=World()
    )
    running = Running(model, CropFeed(crops, preprocessing=crops.preprocessing))
    steps, progress = schedule.epochs * steps_in(crops.samples, schedule, size=32), Progress()
    for epoch in range(epochs):
        torch.manual_seed(schedule.seed * 1000 + epoch)
        learner.model.train()
        for batch, label in running.batches(draw(crops.samples, schedule, epoch=epoch, size=32), size=32):
            rate = schedule.lr * schedule.rate_at(progress.step, steps)
            learner.learn(batch, label, rate=rate, progress=progress)
            progress.step += 1
    head_of(model)[1].load_state_dict(learner.average.model.state_dict())


if __name__ == "__main__":
    main()
