"""Compare the training throughput of `fit` with that of a hand-written loop.

Both train the same architecture on the same faces with the same batch size, dtype, threads, optimiser, clipping and
averaged weights. Their epochs alternate, so that other load on the machine affects both alike. The hand-written loop is
timm's model, a `DataLoader` over crops that were saved as files beforehand, and torchvision's transforms with the
probabilities of `Augmentation`; changes that torchvision has no transform for are left out of both. It runs in a
process of its own, so that settings of `fit` do not affect it. For both, the time spent in each part shows the
bottleneck.

Where other programs run at the same time, processor seconds are more reliable than wall-clock time: with
``--threads 1`` and ``--hand-workers 0`` they count all work of either loop, and nothing else.

    python benchmarks/train_throughput.py --data FOLDER     # with a manifest.csv
    python benchmarks/train_throughput.py                   # pictures made of the two in examples/
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.utils import ModelEmaV3
from torch import nn
from torchvision.transforms import v2

from deepfake_detect.datasets.crops import find_crops, write_crops
from deepfake_detect.datasets.face_cache import FaceStore
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.training import loop
from deepfake_detect.training.augment import Augmentation
from deepfake_detect.training.autotune import choose_dtype
from deepfake_detect.training.batches import CropFeed
from deepfake_detect.training.checkpoint import Progress
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.training.initial import untrained
from deepfake_detect.training.schedule import Epoch, Schedule
from deepfake_detect.training.step import Learner

NETWORKS = {"xception": "legacy_xception", "efficientnet-b0": "efficientnet_b0", "vgg16": "vgg16"}
EXAMPLES = Path(__file__).parents[1] / "examples"
AUGMENTATION = Augmentation(shrink=0.0, webp=0.0)
"""What torchvision has transforms for too."""


class Clock:
    """Where the time of a loop goes, in seconds on the clock, and in all on the processor."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = defaultdict(float)
        self.began = self.ended = (0.0, 0.0)

    def start(self) -> None:
        self.parts.clear()
        self.began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.ended = time.perf_counter(), time.process_time()

    def timed(self, name: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """Count the time of a function as a part."""

        def run(*args: Any, **more: Any) -> Any:
            began = time.perf_counter()
            try:
                return action(*args, **more)
            finally:
                self.parts[name] += time.perf_counter() - began

        return run

    def waited(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Count the time that batches are waited for."""
        batches, nothing = iter(batches), object()
        yield from iter(lambda: self.timed("waiting for crops", next)(batches, nothing), nothing)

    @property
    def spent(self) -> tuple[float, float]:
        """Seconds on the clock, and of the processor in this process."""
        return self.ended[0] - self.began[0], self.ended[1] - self.began[1]

    def __str__(self) -> str:
        whole = self.spent[0]
        shares = {**self.parts, "the rest": whole - sum(self.parts.values())}
        return ", ".join(f"{name} {100 * seconds / whole:.1f} %" for name, seconds in shares.items())


def main() -> None:
    """Measure, and print the rounds."""
    options = read_options()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        compare(options, Path(name))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with a manifest.csv; pictures are made where missing")
    parser.add_argument("--source", action="append", help="of the table's sources, these only")
    parser.add_argument("--faces", type=Path, help="folder where found faces are kept")
    parser.add_argument("--model", default="xception")
    parser.add_argument("--start", type=Path, help=".safetensors file of timm's weights; random ones where missing")
    parser.add_argument("--size-px", type=int, default=160, help="side of the crop")
    parser.add_argument("--pictures", type=int, default=192, help="in an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--plain", action="store_true", help="the hand-written loop in float32, channels first")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--workers", type=int, help="processes of fit that make crops; as it chooses where missing")
    parser.add_argument("--hand-workers", type=int, default=1, help="processes of the hand-written loop")
    return parser.parse_args()


def chosen(options: argparse.Namespace, folder: Path) -> list[Sample]:
    """Choose pictures evenly over the table, or write the examples in many sizes."""
    if options.data:
        samples = read_dataset(options.data, splits=["train"])
        samples = [sample for sample in samples if not options.source or sample.source in options.source]
        return [samples[index] for index in np.linspace(0, len(samples) - 1, options.pictures).astype(int)]
    made = []
    for number in range(options.pictures):
        picture = Image.open(EXAMPLES / ("portrait.jpg" if number % 2 == 0 else "portrait_fake.jpg")).convert("RGB")
        side = 600 + number % 200
        file = folder / f"{number}.jpg"
        picture.resize((side, side), Image.Resampling.BICUBIC).save(file, quality=90)
        made.append(Sample(image=file, label=number % 2, source="example"))
    return made


def compare(options: argparse.Namespace, folder: Path) -> None:
    """Alternate the epochs of both."""
    store = FaceStore(options.faces)
    census = find_crops(chosen(options, folder), store)
    model, card = untrained(options.model, name="speed", start=options.start, size_px=options.size_px)
    device, shape = torch.device("cpu"), (3, options.size_px, options.size_px)
    dtype = choose_dtype(model, options.dtype, device=device, shape=shape)
    schedule = Schedule(
        epochs=options.rounds + 1,
        epoch_samples=len(census.samples) // options.batch_size * options.batch_size,
        batch_size=options.batch_size,
        balance=False,
    )
    files = as_files(write_crops(census, store, folder / "crops").parent)
    hand = Apart(options, files, model, schedule, dtype)
    crops = CropDataset(census.samples, store, preprocessing=card.preprocessing, augmentation=AUGMENTATION)
    print(
        f"{options.model} {options.size_px} px, {str(dtype)[6:]}, batch {options.batch_size}, {len(crops)} pictures of "
        f"{hand.side:.0f} px, {options.threads} threads, {options.hand_workers} processes of the hand-written loop"
    )
    watch, rounds = watched(), list[tuple[float, float]]()

    def after(epoch: Epoch) -> None:
        hand.epoch()
        (ours, theirs), (us, them) = zip(watch.spent, hand.spent, strict=True)
        name = f"round {epoch.epoch - 1}" if rounds else "warming"
        print(f"{name}: fit {hand.count / ours:.1f}, hand-written {hand.count / theirs:.1f} pictures/s, ratio "
              f"{theirs / ours:.3f}; processor {us:.1f} and {them:.1f} s, ratio {them / us:.3f}; "
              f"load {os.getloadavg()[0]:.1f}\n  fit: {watch}\n  hand-written: {hand.report}", flush=True)  # fmt: skip
        rounds.append((theirs / ours, them / us))

    loop.fit(model, crops, card=card, schedule=schedule, out=folder / "out", device=device, dtype=dtype,
              workers=options.workers, callbacks=[after])  # fmt: skip
    hand.end()
    for what, values in zip(("clock", "processor"), zip(*rounds[1:], strict=True), strict=True):
        print(f"{what}: median ratio {statistics.median(values):.3f}, {min(values):.3f} to {max(values):.3f}")
    print(f"a crop takes {1000 * each(crops):.2f} ms of the processor, the hand-written "
          f"{1000 * each(Files(files, options.size_px)):.2f} ms")  # fmt: skip


def each(crops: Any) -> float:
    """Return the processor seconds that one crop takes."""
    began = time.thread_time()
    count = min(100, len(crops))
    for index in range(count):
        crops[index]
    return (time.thread_time() - began) / count


def watched() -> Clock:
    """Measure where `fit` spends its time, from the draw of an epoch to its last step."""
    clock, draw, learn = Clock(), loop.draw, Learner.learn
    batches = CropFeed.batches

    def begin(*args: Any, **more: Any) -> Any:
        clock.start()
        return draw(*args, **more)

    def step(learner: Learner, *args: Any, progress: Progress, **more: Any) -> float:
        if not hasattr(learner, "watched"):
            learner.watched = True  # type: ignore[attr-defined]
            learner._gradient = clock.timed("gradient", learner._gradient)  # type: ignore[method-assign]
            learner._step = clock.timed("clip and step", learner._step)  # type: ignore[method-assign]
            learner.average.update = clock.timed("average", learner.average.update)  # type: ignore[method-assign]
        loss = learn(learner, *args, progress=progress, **more)
        clock.stop()
        return loss

    loop.draw, Learner.learn = begin, step  # type: ignore[method-assign, assignment]
    CropFeed.batches = lambda *args, **more: clock.waited(batches(*args, **more))  # type: ignore[method-assign, assignment]
    return clock


def as_files(folder: Path) -> list[Path]:
    """Write the crops as JPEG files, which are read faster than PNG."""
    files = []
    for number, file in enumerate(sorted(folder.glob("*/*.png"))):
        files.append(folder / file.parent.name / f"{number}.jpg")
        Image.open(file).save(files[-1], quality=95)
    return files


class Files(torch.utils.data.Dataset[tuple[torch.Tensor, float]]):
    """Crops in files, changed by torchvision in the shares of `Augmentation`."""

    def __init__(self, files: list[Path], size_px: int) -> None:
        self.files, share = files, AUGMENTATION
        self.change = v2.Compose([
            v2.RandomResizedCrop(size_px, (0.7, 1.0), ratio=(1, 1), interpolation=v2.InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(share.flip),
            v2.RandomApply([v2.RandomRotation(12)], share.rotate),
            v2.RandomApply([v2.RandomAffine(0, shear=8)], share.shear),
            v2.RandomApply([v2.ColorJitter(brightness=0.3, contrast=0.3)], share.light),
            v2.RandomApply([v2.ColorJitter(saturation=0.3)], share.colour),
            v2.RandomGrayscale(share.grey),
            v2.PILToTensor(),
            v2.RandomErasing(share.erase, scale=(0.02, 0.15)),
            v2.RandomApply([v2.GaussianBlur(5, (0.1, 1.5))], share.blur),
            v2.RandomApply([v2.JPEG((35, 95))], share.jpeg),
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomApply([v2.GaussianNoise(sigma=0.03)], share.noise),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, float]:
        file = self.files[index]
        return self.change(Image.open(file).convert("RGB")), float(file.parent.name == "fake")


class HandWritten:
    """The usual hand-written training loop with timm."""

    def __init__(
        self, options: argparse.Namespace, files: list[Path], ours: nn.Module, schedule: Schedule, dtype: torch.dtype
    ) -> None:
        self.dtype, self.schedule, self.clock = torch.float32 if options.plain else dtype, schedule, Clock()
        self.layout = torch.contiguous_format if options.plain else torch.channels_last
        name = options.model.removeprefix("timm:")
        self.model = timm.create_model(NETWORKS.get(name, name), num_classes=1)
        self.model.load_state_dict(ours.get_submodule("net").state_dict())
        self.model.to(memory_format=self.layout)
        self.average = ModelEmaV3(self.model, decay=schedule.ema)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay)
        self.files = Files(files, options.size_px)
        self.side = statistics.mean(Image.open(file).width for file in files)
        self.loader = torch.utils.data.DataLoader(
            self.files,
            batch_size=options.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=options.hand_workers,
            persistent_workers=options.hand_workers > 0,
        )
        self.count = len(self.loader) * options.batch_size

    def epoch(self) -> None:
        """Teach for an epoch."""
        self.clock.start()
        self.model.train()
        gradient = self.clock.timed("gradient", self._gradient)
        step = self.clock.timed("clip and step", self._step)
        average = self.clock.timed("average", self.average.update)
        for batch, label in self.clock.waited(self.loader):
            gradient(batch, label)
            step()
            average(self.model)
        self.clock.stop()

    def _gradient(self, batch: torch.Tensor, label: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        batch = batch.contiguous(memory_format=self.layout)
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            logit = self.model(batch)
        target = label.float() * (1 - self.schedule.smoothing) + self.schedule.smoothing / 2
        nn.functional.binary_cross_entropy_with_logits(logit.float().squeeze(1), target).backward()

    def _step(self) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip)
        self.optimizer.step()


class Apart:
    """The hand-written loop in a process of its own."""

    def __init__(self, *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, *args))
        self.process.start()
        self.side, self.count = self.pipe.recv()
        self.spent, self.report = (0.0, 0.0), ""

    def epoch(self) -> None:
        """Run an epoch in the other process, and receive where its time was spent."""
        self.pipe.send(True)
        self.spent, self.report = self.pipe.recv()

    def end(self) -> None:
        self.pipe.send(False)
        self.process.join()


def serve(pipe: Any, options: argparse.Namespace, *args: Any) -> None:
    """Run epochs of the hand-written loop as long as the pipe requests them."""
    torch.set_num_threads(options.threads)
    hand = HandWritten(options, *args)
    pipe.send((hand.side, hand.count))
    while pipe.recv():
        hand.epoch()
        pipe.send((hand.clock.spent, str(hand.clock)))


if __name__ == "__main__":
    main()
