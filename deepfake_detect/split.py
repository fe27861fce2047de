"""Which pictures stand on which side of a split, and how often is each drawn?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from deepfake_detect.data import Sample
from deepfake_detect.errors import DatasetError


def balanced_weights(
    samples: Sequence[Sample], *, power: float = 0.5, favour: Mapping[str, float] | None = None
) -> np.ndarray:
    """Weigh samples so that no source drowns the others, and no class outweighs the other.

    Args:
        samples: Any number, both classes among them.
        power: A source of n pictures counts n ** power; 1 leaves the sources as large as they are.
        favour: Sources that count so many times as much: those that are hard to learn.

    Returns:
        [N] float64 that sums to 1: half of it real, half fake; within a source that has both
        classes, both count the same.

    Raises:
        DatasetError: One class only.
    """
    cells = Counter((sample.source, sample.label) for sample in samples)
    if len({label for _, label in cells}) < 2:
        raise DatasetError(f"training needs real and fake pictures, found only {sorted(cells)}")
    classes = Counter(source for source, _ in cells)
    sizes = Counter(sample.source for sample in samples)
    counts = {source: size**power * (favour or {}).get(source, 1.0) for source, size in sizes.items()}
    weight = np.array([counts[s.source] / classes[s.source] / cells[s.source, s.label] for s in samples])
    label = np.array([sample.label for sample in samples])
    for value in (0, 1):
        weight[label == value] *= 0.5 / weight[label == value].sum()
    return weight
