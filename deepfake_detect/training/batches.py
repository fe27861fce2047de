"""Choose the pictures of each epoch, and prepare their batches while the model is busy."""

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
"""Index of a picture, and the seed of its augmentation."""

Batch = tuple[torch.Tensor, torch.Tensor]
"""Input of the model [N, ...], and labels [N] float32: 1 is fake."""

_AHEAD = 3  # batches prepared in advance


def steps_in(samples: Sequence[Sample], schedule: Schedule, *, size: int) -> int:
    """Return the number of steps of ``size`` pictures in an epoch; the last one is filled up."""
    return -(-(schedule.epoch_samples or len(samples)) // size)


def draw(samples: Sequence[Sample], schedule: Schedule, *, epoch: int, size: int) -> list[Key]:
    """Choose the pictures of an epoch, and a seed for each.

    Args:
        samples: Samples to draw from.
        schedule: Balance, length and seed.
        epoch: Number, counted from 0.
        size: Pictures in a step; the epoch is filled up to whole steps.

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
    """Let fakes be followed by a real picture of their group, which replaces a drawn one of the same source."""
    reals, pool = defaultdict(list), defaultdict(list)
    for index, sample in enumerate(samples):
        if sample.label == 0:
            reals[sample.group or sample.name].append(index)
    for index in chosen[[samples[index].label == 0 for index in chosen]]:
        pool[samples[index].source].append(index)
    pairs, alone = [], []
    for fake in chosen[[samples[index].label == 1 for index in chosen]]:
        partners = reals.get(samples[fake].group or samples[fake].name) if random.random() < share else None
        partner = partners[random.integers(len(partners))] if partners else None
        if partner is not None and pool[samples[partner].source]:
            pool[samples[partner].source].pop()
            pairs.append([fake, partner])
        else:
            alone.append(fake)
    rest = random.permutation([index for unused in pool.values() for index in unused]).astype(int).tolist()
    least = min(len(alone), len(rest))
    pairs += [[fake, real] for fake, real in zip(alone[:least], rest[:least], strict=True)]
    pairs += [[index] for index in (*alone[least:], *rest[least:])]
    return np.array([index for place in random.permutation(len(pairs)) for index in pairs[place]])


class CropFeed:
    """Batches of face crops, prepared by threads or by processes.

    Args:
        dataset: The crops.
        preprocessing: From the card.
        workers: Processes that prepare batches while the model is busy; 0 prepares them in this one.
        ahead: Without processes: prepare batches in a thread while the model is busy. False prepares a batch when it
            is needed, on all processors: where the model computes on every one of them, a thread beside it would make
            all of its threads wait.
    """

    def __init__(
        self, dataset: CropDataset, *, preprocessing: Preprocessing, workers: int = 0, ahead: bool = True
    ) -> None:
        self.dataset, self.preprocessing, self.workers, self.ahead = dataset, preprocessing, workers, ahead
        self.samples = dataset.samples
        self._chunks: list[Sequence[Key]] = []
        self._loader: torch.utils.data.DataLoader[Batch] | None = None

    def batches(self, keys: Sequence[Key], *, size: int) -> Iterator[Batch]:
        """Yield the crops that the keys name, ``size`` at once."""
        chunks = [keys[start : start + size] for start in range(0, len(keys), size)]
        for pixels, label in self._in_processes(chunks) if self.workers else self._in_threads(chunks):
            yield to_batch(pixels.numpy(), preprocessing=self.preprocessing), label

    def _in_threads(self, chunks: list[Sequence[Key]]) -> Iterator[Batch]:
        if self.ahead:
            yield from _prefetched(_collated(map(self.dataset.__getitem__, chunk)) for chunk in chunks)
            return
        threads = count_processors()
        with ThreadPoolExecutor(threads, thread_name_prefix="deepfake-detect-loader") as pool:
            share_threads(pool, workers=threads, lanes=threads)
            for chunk in chunks:
                yield _collated(pool.map(self.dataset.__getitem__, chunk))

    def _in_processes(self, chunks: list[Sequence[Key]]) -> Iterator[Batch]:
        self._chunks[:] = chunks
        if self._loader is None:  # kept, since starting processes is slow
            self._loader = torch.utils.data.DataLoader(
                self.dataset,  # type: ignore[arg-type]
                batch_sampler=self._chunks,  # type: ignore[arg-type]
                num_workers=self.workers,
                prefetch_factor=4,
                persistent_workers=True,
                generator=torch.Generator(),  # not the global one, so that the number of workers leaves dropout alone
            )
        # A forked worker seeds NumPy first; it would wait for ever for a thread that held the lock in this process.
        with np.random.get_bit_generator().lock:  # type: ignore[attr-defined]
            loaded = iter(self._loader)
        for pixels, label in loaded:
            yield pixels, label.float()


def _collated(items: Iterable[tuple[torch.Tensor, float]]) -> Batch:
    pixels, labels = zip(*items, strict=True)
    return torch.stack(pixels), torch.tensor(labels, dtype=torch.float32)


def _prefetched(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Prepare the next batches in a thread."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="deepfake-detect-loader")
    end = object()

    def submit() -> Future[Batch | object]:
        return pool.submit(next, batches, end)

    waiting = [submit() for _ in range(_AHEAD)]
    try:
        while (batch := waiting.pop(0).result()) is not end:
            waiting.append(submit())
            yield batch  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
