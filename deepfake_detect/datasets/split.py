"""Split samples into training, validation and test sets or folds, and weigh them for a balanced draw."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from deepfake_detect.datasets.read import Sample
from deepfake_detect.errors import DatasetError, InvalidOption


def split_samples(samples: Sequence[Sample], *, valid: float = 0.15, test: float = 0.0, seed: int = 0) -> list[Sample]:
    """Assign every sample to ``"train"``, ``"val"`` or ``"test"``.

    Groups stay together, and each split gets its share of every source and class. Samples that name a split keep it,
    and the rest of their group follows them. Where the data name a validation split, ``valid`` is not taken out of the
    rest; likewise ``test``. A source and class of fewer than four groups goes to training whole at the usual shares.

    Args:
        samples: Any number.
        valid: Share to validate on, 0 to 1.
        test: Share to test on, 0 to 1.
        seed: Random seed of the choice among groups.

    Returns:
        The same samples in the same order, each with a split.

    Raises:
        InvalidOption: Shares out of range.

    Example:
        >>> people = [Sample(image=f"{n}.jpg", label=n % 2, group=f"person {n // 4}") for n in range(40)]
        >>> sides = split_samples(people, valid=0.2)
        >>> sum(sample.split == "val" for sample in sides)
        8
    """
    if not (0 <= valid < 1 and 0 <= test < 1 and valid + test < 1):
        raise InvalidOption(f"valid is {valid} and test {test}, expected shares whose sum is below 1")
    named = {sample.split for sample in samples}
    split_of_group = {sample.group: sample.split for sample in samples if sample.group and sample.split}
    shares = {
        "val": 0.0 if "val" in named else valid,
        "test": 0.0 if "test" in named else test,
    }
    shares["train"] = 1 - sum(shares.values())
    fixed = [sample.split or split_of_group.get(sample.group, "") for sample in samples]
    free = [index for index, split in enumerate(fixed) if not split]
    side = _deal([samples[index] for index in free], list(shares.values()), seed)
    chosen = {index: list(shares)[number] for index, number in zip(free, side, strict=True)}
    return [replace(sample, split=chosen.get(index, fixed[index])) for index, sample in enumerate(samples)]


def folds(samples: Sequence[Sample], count: int, *, seed: int = 0) -> list[int]:
    """Split samples into folds for a cross-validation: groups stay together, and folds are stratified.

    Args:
        samples: Any number.
        count: Number of folds, at least 2.
        seed: Random seed of the choice among groups.

    Returns:
        The fold of each sample, 0 to ``count - 1``.

    Raises:
        DatasetError: Fewer groups than folds.
    """
    groups = len(set(_groups(samples)))
    if count < 2 or groups < count:
        raise DatasetError(f"{groups} groups cannot be dealt into {count} folds; expected 2 folds and a group for each")
    return _deal(samples, [1 / count] * count, seed)


def balanced_weights(
    samples: Sequence[Sample], *, power: float = 0.5, favour: Mapping[str, float] | None = None
) -> np.ndarray:
    """Return sampling weights that balance the classes, and sources of different size.

    Args:
        samples: Any number, both classes among them.
        power: A source of n pictures has the weight n ** power; 1 leaves sources as they are.
        favour: Factors on the weight of some sources, such as those that are hard to learn.

    Returns:
        [N] float64 that sums to 1, as much of it for each class (real and fake, or more); within a source that has
        several classes, all have the same weight.

    Raises:
        DatasetError: Only one class.
    """
    cells = Counter((sample.source, sample.label) for sample in samples)
    if len({label for _, label in cells}) < 2:
        raise DatasetError(f"training needs pictures of two classes or more, found only {sorted(cells)}")
    classes = Counter(source for source, _ in cells)
    sizes = Counter(sample.source for sample in samples)
    counts = {source: size**power * (favour or {}).get(source, 1.0) for source, size in sizes.items()}
    weight = np.array([counts[s.source] / classes[s.source] / cells[s.source, s.label] for s in samples])
    label = np.array([sample.label for sample in samples])
    values = np.unique(label)
    for value in values:
        weight[label == value] *= 1 / len(values) / weight[label == value].sum()
    return weight


def _groups(samples: Sequence[Sample]) -> list[str]:
    """Return the name of each sample's group; a sample without one is its own group."""
    return [f"group {sample.group}" if sample.group else f"sample {index}" for index, sample in enumerate(samples)]


def _deal(samples: Sequence[Sample], shares: Sequence[float], seed: int) -> list[int]:
    """Assign groups to sides, the largest first, each to the side that lacks most of what the group holds."""
    members = defaultdict(list)
    for index, group in enumerate(_groups(samples)):
        members[group].append(index)
    cells = {cell: number for number, cell in enumerate(sorted({(s.source, s.label) for s in samples}))}
    held = np.zeros((len(members), len(cells)))
    for row, indices in enumerate(members.values()):
        for index in indices:
            held[row, cells[samples[index].source, samples[index].label]] += 1
    total = held.sum(0)
    wanted = np.outer(shares, total)  # [sides, cells]
    order = np.random.default_rng(seed).permutation(len(members))
    order = order[np.argsort(-held[order].sum(1), kind="stable")]
    side_of = np.zeros(len(members), int)
    for row in order:
        lack = (wanted / np.maximum(total, 1)) @ held[row]
        lack[np.asarray(shares) == 0] = -np.inf
        side_of[row] = int(np.argmax(lack))
        wanted[side_of[row]] -= held[row]
    side = [0] * len(samples)
    for number, indices in zip(side_of, members.values(), strict=True):
        for index in indices:
            side[index] = int(number)
    return side
