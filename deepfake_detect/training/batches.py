"""In which order do pictures come to a model that learns, and how do they come in time?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from deepfake_detect.datasets.read import Sample
from deepfake_detect.datasets.split import balanced_weights
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.system.device import count_processors
from deepfake_detect.system.threads import share_threads
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.training.schedule import Schedule
from deepfake_detect.weights.card import Preprocessing

Key = tuple[int, int]
"""Index of a picture, and the seed of what is drawn for it."""

Batch = tuple[torch.Tensor, torch.Tensor]
"""What the model gets [N, ...], and the labels [N]: 1 is fake."""

_AHEAD = 3  # batches that wait while the model is busy


def steps_in(samples: Sequence[Sample], schedule: Schedule, *, size: int) -> int:
    """Count the steps of an epoch, the last one filled up; ``size`` pictures each."""
    return -(-(schedule.epoch_samples or len(samples)) // size)


def draw(samples: Sequence[Sample], schedule: Schedule, *, epoch: int, size: int) -> list[Key]:
    """Choose an epoch's pictures, and a seed for each.

    Args:
        samples: To draw from.
        schedule: Balance, length and seed.
        epoch: Counted from 0.
        size: Of a step; the epoch is filled up to whole steps.

    Returns:
        Keys, a multiple of ``size``.
    """
    random = np.random.default_rng([schedule.seed, epoch])
    count = steps_in(samples, schedule, size=size) * size
    if schedule.power is None:
        rounds = -(-count // len(samples))
        chosen = np.concatenate([random.permutation(len(samples)) for _ in range(rounds)])[:count]
    else:
        weight = balanced_weights(samples, power=schedule.power, favour=schedule.favour)
        chosen = random.choice(len(samples), count, p=weight)
    if schedule.pairs:
        chosen = _paired(chosen, samples, schedule.pairs, random)
    return list(zip(chosen.tolist(), random.integers(2**62, size=count).tolist(), strict=True))


def _paired(chosen: np.ndarray, samples: Sequence[Sample], share: float, random: np.random.Generator) -> np.ndarray:
    """Let fakes be followed by a real picture of their group, in the place of a drawn one of the same source."""
    mates, pool = defaultdict(list), defaultdict(list)
    for index, sample in enumerate(samples):
        if sample.label == 0:
            mates[sample.group or sample.name].append(index)
    for index in chosen[[samples[index].label == 0 for index in chosen]]:
        pool[samples[index].source].append(index)
    pairs, alone = [], []
    for fake in chosen[[samples[index].label == 1 for index in chosen]]:
        known = mates.get(samples[fake].group or samples[fake].name) if random.random() < share else None
        mate = known[random.integers(len(known))] if known else None
        if mate is not None and pool[samples[mate].source]:
            pool[samples[mate].source].pop()
            pairs.append([fake, mate])
        else:
            alone.append(fake)
    rest = random.permutation([index for left in pool.values() for index in left]).astype(int).tolist()
    least = min(len(alone), len(rest))
    pairs += [[fake, real] for fake, real in zip(alone[:least], rest[:least], strict=True)]
    pairs += [[index] for index in (*alone[least:], *rest[least:])]
    return np.array([index for place in random.permutation(len(pairs)) for index in pairs[place]])


class CropFeed:
    """Face crops in batches, made by threads, or by processes.

    Args:
        dataset: Of crops.
        preprocessing: From the card.
        workers: Processes that make them while the model is busy; with 0, this one does it.
        ahead: So does a thread of this one. False makes a batch when it is asked for, on all processors: where the
            model computes on every one of them, its threads would wait for the one that is taken away for a moment.
    """

    def __init__(
        self, dataset: CropDataset, *, preprocessing: Preprocessing, workers: int = 0, ahead: bool = True
    ) -> None:
        self.dataset, self.preprocessing, self.workers, self.ahead = dataset, preprocessing, workers, ahead
        self.samples = dataset.samples
        self._chunks: list[Sequence[Key]] = []
        self._loader: torch.utils.data.DataLoader[Batch] | None = None

    def batches(self, keys: Sequence[Key], *, size: int) -> Iterator[Batch]:
        """Give the pictures that the keys name, ``size`` at once."""
        chunks = [keys[start : start + size] for start in range(0, len(keys), size)]
        for pixels, label in self._in_processes(chunks) if self.workers else self._in_threads(chunks):
            yield to_batch(pixels.numpy(), preprocessing=self.preprocessing), label

    def _in_threads(self, chunks: list[Sequence[Key]]) -> Iterator[Batch]:
        if self.ahead:
            yield from _ahead(_together(map(self.dataset.__getitem__, chunk)) for chunk in chunks)
            return
        threads = count_processors()
        with ThreadPoolExecutor(threads, thread_name_prefix="deepfake-detect-loader") as pool:
            share_threads(pool, workers=threads, lanes=threads)
            for chunk in chunks:
                yield _together(pool.map(self.dataset.__getitem__, chunk))

    def _in_processes(self, chunks: list[Sequence[Key]]) -> Iterator[Batch]:
        self._chunks[:] = chunks
        if self._loader is None:  # kept, since to start a process takes long
            self._loader = torch.utils.data.DataLoader(
                self.dataset,  # type: ignore[arg-type]
                batch_sampler=self._chunks,  # type: ignore[arg-type]
                num_workers=self.workers,
                prefetch_factor=4,
                persistent_workers=True,
                generator=torch.Generator(),  # its own, so that the number of workers does not change the dropout
            )
        for pixels, label in self._loader:
            yield pixels, label.float()


def _together(items: Iterable[tuple[torch.Tensor, float]]) -> Batch:
    pixels, labels = zip(*items, strict=True)
    return torch.stack(pixels), torch.tensor(labels)


def _ahead(made: Iterator[Batch]) -> Iterator[Batch]:
    """Make what comes next in a thread."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="deepfake-detect-loader")
    nothing = object()

    def ask() -> Future[Batch | object]:
        return pool.submit(next, made, nothing)

    waiting = [ask() for _ in range(_AHEAD)]
    try:
        while (batch := waiting.pop(0).result()) is not nothing:
            waiting.append(ask())
            yield batch  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
