"""Find exact and near duplicates among pictures."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

NEAR_BITS = 8
"""Hashes of 64 bits that differ in at most so many make a candidate pair."""

NEAR_CORRELATION = 0.985
"""Thumbnails that correlate more than this are of the same picture."""

_CHUNK = 512


def exact_duplicates(hashes: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the sets of pictures with the same hash, each in order; empty hashes are ignored."""
    members = defaultdict(list)
    for index, value in enumerate(hashes):
        if value:
            members[value].append(index)
    return [tuple(indices) for indices in members.values() if len(indices) > 1]


def near_duplicates(thumbs: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Return the pairs of pictures that look the same, also when recompressed or scaled.

    Pairs are found by the signs of the gradients of 9 x 8 pixels (Krawetz 2013, the difference hash), then compared by
    the correlation of their thumbnails.

    Args:
        thumbs: [N] of [32, 32] grey.

    Returns:
        Pairs (i, j) with i < j.
    """
    if len(thumbs) < 2:
        return []
    stack = np.stack(thumbs).astype(np.float32)  # [N, 32, 32]
    flat = stack.reshape(len(stack), -1)
    flat = flat - flat.mean(1, keepdims=True)
    norm = np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    unit = flat / norm
    varied = np.flatnonzero(norm[:, 0] >= 32.0)  # pictures of nearly one colour cannot be compared
    pairs = ((int(varied[i]), int(varied[j])) for i, j in _close_pairs(_difference_hash(stack[varied])))
    return [(i, j) for i, j in pairs if float(unit[i] @ unit[j]) > NEAR_CORRELATION]


def _difference_hash(stack: np.ndarray) -> np.ndarray:
    """Return 64 bits for each picture: whether each of 8 x 8 pixels is darker than its neighbour to the right."""
    rows = stack.reshape(len(stack), 8, 4, 32).mean(2)  # [N, 8, 32]
    edges = np.linspace(0, 32, 10).round().astype(int)
    columns = np.stack([rows[..., a:b].mean(2) for a, b in itertools.pairwise(edges.tolist())], 2)  # [N, 8, 9]
    bits = (columns[..., 1:] > columns[..., :-1]).reshape(len(stack), 64)
    packed: np.ndarray = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    return packed


def _close_pairs(codes: np.ndarray) -> Iterator[tuple[int, int]]:
    for start in range(0, len(codes), _CHUNK):
        block = codes[start : start + _CHUNK, None] ^ codes[None, start:]
        rows, columns = np.nonzero(np.bitwise_count(block) <= NEAR_BITS)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if row < column:
                yield start + row, start + column
