"""Draw a grid of pictures of a data set: some of each class, and of each difficulty where the data name it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from deepfake_detect._options import check_number
from deepfake_detect.datasets.read import Sample, note_tags, read_dataset
from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.drawing.gallery import Tile, draw_gallery
from deepfake_detect.drawing.result import short_name
from deepfake_detect.weights.card import DETECTS

_LEVELS = ("easy", "mid", "medium", "hard")  # in this order, others behind them


def sample_grid(
    dataset: Any,
    *,
    count: int = 12,
    columns: int = 6,
    labels: Mapping[Any, str] | None = None,
    seed: int = 0,
) -> Image.Image:
    """Draw some pictures of each class of a data set, and of each difficulty, to look at before a training.

    The difficulty is that of the column ``note``, as in ``difficulty=hard``. Pictures are drawn at random, evenly from
    all groups (persons, videos): no two of a group while others are left.

    Args:
        dataset: Anything that `read_dataset` takes.
        count: Most pictures of a class and difficulty.
        columns: Pictures in a row.
        labels: Meaning of unknown labels, as for `read_dataset`.
        seed: Random seed of the choice.

    Returns:
        A picture; one that cannot be opened is an empty tile with the reason.

    Raises:
        DatasetError: The data cannot be read.
        InvalidOption: An option of a wrong type or out of range.

    Example:
        >>> sample_grid([("examples/portrait.jpg", "real"), ("examples/portrait_fake.jpg", "fake")]).width
        1092
    """
    check_number("count", count, low=1, whole=True)
    check_number("seed", seed, low=0, whole=True)
    cells: dict[tuple[int, str], list[Sample]] = defaultdict(list)
    for sample in read_dataset(dataset, labels=labels):
        cells[sample.label, note_tags(sample.note).get("difficulty", "")].append(sample)
    random = np.random.default_rng(seed)
    sections = []
    for label, level in sorted(cells, key=lambda cell: (cell[0], _rank(cell[1]))):
        members = cells[label, level]
        title = f"{DETECTS[label]}{f', {level}' if level else ''}: {len(members):,} pictures"
        sections.append((title, [_tile(sample) for sample in _choose(members, count, random)]))
    return draw_gallery(sections, columns=columns)


def _rank(level: str) -> tuple[int, str]:
    return (_LEVELS.index(level) if level in _LEVELS else len(_LEVELS), level)


def _choose(samples: Sequence[Sample], count: int, random: np.random.Generator) -> list[Sample]:
    """Choose samples at random, of as many groups as there are."""
    turns: dict[str, int] = defaultdict(int)
    order: list[tuple[int, int, Sample]] = []
    for index in random.permutation(len(samples)):
        group = samples[index].group or f"sample {index}"
        order.append((turns[group], len(order), samples[index]))
        turns[group] += 1
    return [sample for _, _, sample in sorted(order, key=lambda entry: entry[:2])[:count]]


def _tile(sample: Sample) -> Tile:
    label = DETECTS[sample.label]
    note = " · ".join(text for text in (sample.source, sample.generator) if text)
    return Tile(image=sample.image, caption=label, colour=COLOURS[label], note=note, name=short_name(sample.name))
