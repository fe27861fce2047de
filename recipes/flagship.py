"""Train the flagship, which gives a verdict and a map of what is forged, over several days if need be.

Usage:
    python -m recipes.flagship --faces FACES --weights WEIGHTS --out RUNS/flagship

``FACES`` is the folder that `recipes.face_table` and `recipes.forge` write. Each epoch reads their tables again, so
that pictures that were added meanwhile are used. A checkpoint is written atomically after every epoch: run the same
command again to continue. The crop grows from stage to stage; the learning rate of the last stage falls to zero. To
measure or ship a detector before that:

    python -m recipes.flagship --faces FACES --out RUNS/cooled --start RUNS/flagship --cool 6 --size-px 160

starts from the weights of a training, and lets the rate fall to zero over this number of epochs, in another folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import safetensors
import safetensors.torch
import torch
from torch.nn import functional

from deepfake_detect.metrics.classification import roc_auc
from deepfake_detect.models.registry import create_model
from deepfake_detect.models.transfer import take_over
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.training.optimizer import Average, make_optimizer, optimizer_tensors, restore_optimizer
from deepfake_detect.training.schedule import Schedule
from deepfake_detect.weights.card import Card, Preprocessing
from deepfake_detect.weights.load import save_bundle
from recipes.face_table import KeptFace, read_table
from recipes.mixture import FAKES, Mixture, Pair
from recipes.views import View, random_view

TRUNK = "legacy_xception.imagenet-trunk.safetensors"
ARCHITECTURE = "xception-dense"
MARGIN = 1.3
STATE = "state.safetensors"

MAP_WEIGHT = 0.5
"""What the map counts for in the loss, beside the verdict."""

SMOOTHING = 0.04
"""Labels of the verdict are half of this away from 0 and 1."""

RULES = Schedule(epochs=1, batch_size=32, weight_decay=0.02, ema=0.998, clip=1.0)
"""How the weights move; rates stand in the stages."""

WARMUP_STEPS = 200

Batch = tuple[Sequence[Pair], torch.Tensor, torch.Tensor, torch.Tensor]
"""Pairs, their pictures, labels, and what is forged of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of the training.

    Attributes:
        size_px: Side of the crop.
        samples: Pictures, counted with each drawing.
        lr: Rate; at the beginning of a stage that falls.
        falls: Let the rate fall to nothing, along a cosine.
    """

    size_px: int
    samples: int
    lr: float
    falls: bool = False


STAGES = (
    Stage(size_px=128, samples=208_000, lr=4e-4),
    Stage(size_px=160, samples=112_000, lr=3e-4),
    Stage(size_px=192, samples=96_000, lr=2e-4, falls=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Length of the stages and of an epoch; pictures in a step."""

    stages: tuple[Stage, ...] = STAGES
    epoch_samples: int = 3200
    batch: int = 32
    seed: int = 0

    def stage_at(self, samples: int) -> tuple[Stage, float] | None:
        """Give the stage after so many samples, and how much of it is over; None at the end."""
        for stage in self.stages:
            if samples < stage.samples:
                return stage, samples / stage.samples
            samples -= stage.samples
        return None

    def rate_at(self, samples: int) -> float:
        """Give the rate after so many samples."""
        place = self.stage_at(samples)
        if place is None:
            return 0.0
        stage, over = place
        warm = min(1.0, (samples / self.batch + 1) / WARMUP_STEPS)
        return stage.lr * warm * ((1 + math.cos(math.pi * over)) / 2 if stage.falls else 1.0)


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far the training has come: what is counted, and what each epoch came to."""

    samples: int = 0
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Training:
    """The model, the average of its weights, and its optimiser.

    Args:
        plan: How long and how fast.
        out: Folder; where there is a checkpoint, the training goes on from that.
        start: A file of weights to begin with; of a checkpoint, the averaged ones.
    """

    architecture = ARCHITECTURE
    fakes: ClassVar[Mapping[str, float]] = FAKES

    def __init__(self, plan: Plan, out: Path, *, start: Path | None) -> None:
        self.plan, self.out, self.progress = plan, out, Progress()
        out.mkdir(parents=True, exist_ok=True)
        model = create_model(self.architecture, seed=plan.seed, dropout=0.2)
        if not (out / STATE).exists() and start is not None:
            tensors = safetensors.torch.load_file(start)
            prefix = "average."  # of a checkpoint; starting weights have none
            averaged = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            taken = take_over(model, averaged or tensors, where=str(start))
            logging.info("%.0f%% of the weights are those of %s", 100 * taken.share, start.name)
        self.model = model.to(memory_format=torch.channels_last)
        self.average = Average(self.model, decay=RULES.ema)
        self.optimizer = make_optimizer(self.model, RULES)
        self._load()

    def run(self, faces: Path) -> None:
        """Train until the last stage is over."""
        while (place := self.plan.stage_at(self.progress.samples)) is not None:
            began = time.monotonic()
            known = [face for file in sorted(faces.glob("*.jsonl")) for face in read_table(file)]
            learned = [face for face in known if face.split == "train" and self.is_wanted(face)]
            mixture = Mixture(learned, fakes=self.fakes)
            figures = self._epoch(mixture, place[0].size_px)
            seconds = round(time.monotonic() - began)
            self.progress.history.append({**figures, "pictures": len(learned), "seconds": seconds})
            self._save(place[0].size_px)
            logging.info("%s", json.dumps(self.progress.history[-1]))

    @staticmethod
    def is_wanted(face: KeptFace) -> bool:
        """Say whether a face of the train split is learned from."""
        return True

    def views(self, pair: Pair, *, size_px: int, seed: int) -> tuple[View, View]:
        """Give what the network sees of a fake and of the picture beside it."""
        fake, real = (random_view(face, size_px=size_px, margin=MARGIN, seed=seed) for face in pair)
        return fake, real

    @staticmethod
    def preprocessing(size_px: int) -> Preprocessing:
        """Say how a face becomes the input."""
        return Preprocessing(size_px=size_px, margin=MARGIN, interpolation="mipmap")

    def losses(
        self, batch: torch.Tensor, label: torch.Tensor, forged: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Give the losses of the verdict and of the map, and the logits."""
        logit, places = self.model.localise(batch)
        verdict = functional.binary_cross_entropy_with_logits(logit, label * (1 - SMOOTHING) + SMOOTHING / 2)
        return verdict, functional.binary_cross_entropy_with_logits(places, forged), logit

    def _epoch(self, mixture: Mixture, size_px: int) -> dict[str, Any]:
        number = self.progress.epoch
        torch.manual_seed(self.plan.seed * 100_003 + number)
        random = np.random.default_rng([self.plan.seed, number])
        count = self.plan.epoch_samples // 2
        pairs, seeds = mixture.draw(count, random), random.integers(2**62, size=count).tolist()
        losses: list[tuple[float, float]] = []
        scored: list[tuple[str, int, float]] = []
        self.model.train()
        for chosen, batch, label, forged in self._batches(pairs, seeds, size_px):
            rate = self.plan.rate_at(self.progress.samples)
            verdict, places, logit = self._step(batch, label, forged, rate)
            losses.append((verdict, places))
            names = [face.source for pair in chosen for face in pair]
            scored += zip(names, label.int().tolist(), logit.tolist(), strict=True)
            self.progress.samples += len(label)
            if len(losses) % 20 == 0:
                logging.info("  step %d: loss %.4f, map %.4f", len(losses), *np.mean(losses[-20:], 0))
        self.progress.epoch += 1
        loss, map_loss = (round(float(value), 4) for value in np.mean(losses, 0))
        figures = {"epoch": number + 1, "samples": self.progress.samples, "size_px": size_px, "rate": round(rate, 7)}
        return figures | {"loss": loss, "map_loss": map_loss, "auc": aucs(scored)}

    def _batches(self, pairs: Sequence[Pair], seeds: Sequence[int], size_px: int) -> Iterator[Batch]:
        """Give pairs with what the network gets of them, two batches made ahead by a thread."""
        size = self.plan.batch // 2
        parts = [(pairs[at : at + size], seeds[at : at + size], size_px) for at in range(0, len(pairs), size)]
        with ThreadPoolExecutor(1) as pool:
            waiting = deque(pool.submit(self._batch, *part) for part in parts[:2])
            for part in [*parts[2:], None, None][: len(parts)]:
                yield waiting.popleft().result()
                if part is not None:
                    waiting.append(pool.submit(self._batch, *part))

    def _batch(self, pairs: Sequence[Pair], seeds: Sequence[int], size_px: int) -> Batch:
        shown = [self.views(pair, size_px=size_px, seed=seed) for pair, seed in zip(pairs, seeds, strict=True)]
        views = [view for both in shown for view in both]
        batch = to_batch([view.pixels for view in views], preprocessing=self.preprocessing(size_px))
        label = torch.tensor([float(face.label) for pair in pairs for face in pair])
        return pairs, batch, label, torch.from_numpy(np.stack([view.forged for view in views]))

    def _step(
        self, batch: torch.Tensor, label: torch.Tensor, forged: torch.Tensor, rate: float
    ) -> tuple[float, float, torch.Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        verdict, mapped, logit = self.losses(batch, label, forged)
        loss = verdict + MAP_WEIGHT * mapped
        if not torch.isfinite(loss):
            raise SystemExit("the loss is no number; start again from the last checkpoint with a lower rate")
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), RULES.clip)
        self.optimizer.step()
        self.average.update(self.model, step=self.progress.samples // self.plan.batch)
        return float(verdict.detach()), float(mapped.detach()), logit.detach()

    def _save(self, size_px: int) -> None:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.model.state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(self.optimizer)}
        partial = self.out / f"{STATE}.partial"
        metadata = {"progress": json.dumps(asdict(self.progress))}
        safetensors.torch.save_file({name: t.contiguous() for name, t in tensors.items()}, partial, metadata=metadata)
        os.replace(partial, self.out / STATE)
        preprocessing = self.preprocessing(size_px)
        card = Card(name=self.out.name, version=0, architecture=self.architecture, preprocessing=preprocessing)
        save_bundle(self.average.model, card, self.out, half=False)

    def _load(self) -> None:
        path = self.out / STATE
        if not path.exists():
            return
        with safetensors.safe_open(path, framework="pt") as file:
            self.progress = Progress(**json.loads(file.metadata()["progress"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping

        def under(prefix: str) -> dict[str, torch.Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        self.model.load_state_dict(under("model."))
        self.average.model.load_state_dict(under("average."))
        restore_optimizer(self.optimizer, under("optimizer."))
        logging.info("going on after %d samples", self.progress.samples)


def aucs(scored: Sequence[tuple[str, int, float]]) -> dict[str, float]:
    """Give the AUC of all logits, and of each source's fakes against all real pictures."""
    by_source = defaultdict(list)
    for source, label, logit in scored:
        by_source[source if label else ""].append(logit)
    reals = by_source.pop("", [])
    figures = {"all": roc_auc([label for _, label, _ in scored], [logit for *_, logit in scored])}
    for source, logits in sorted(by_source.items()):
        figures[source] = roc_auc([0] * len(reals) + [1] * len(logits), [*reals, *logits])
    return {source: round(float(value), 3) for source, value in figures.items()}


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, help="folder of the tables of faces")
    parser.add_argument("--weights", type=Path, help="folder with the starting weights")
    parser.add_argument("--out", type=Path, required=True, help="folder of the training")
    parser.add_argument("--start", type=Path, help="folder of a training whose averaged weights are taken")
    parser.add_argument("--cool", type=int, default=0, help="let the rate fall over so many epochs, and end")
    parser.add_argument("--size-px", type=int, default=128, help="side of the crop while it falls")
    parser.add_argument("--lr", type=float, default=3e-4, help="rate from which it falls")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    plan = Plan()
    if options.cool:
        samples = options.cool * plan.epoch_samples
        plan = Plan(stages=(Stage(size_px=options.size_px, samples=samples, lr=options.lr, falls=True),))
    start = options.start / STATE if options.start else options.weights / TRUNK if options.weights else None
    Training(plan, options.out, start=start).run(options.faces)


if __name__ == "__main__":
    main()
