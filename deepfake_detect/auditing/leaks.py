"""Find duplicates, exact and near, with two labels or in two splits, and groups in two splits."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from deepfake_detect.auditing.cues import Cues
from deepfake_detect.auditing.report import SHOWN, Finding, Severity
from deepfake_detect.datasets.read import Sample

NEAR_BITS = 8
"""Hashes of 64 bits that differ in at most so many make a candidate pair."""

NEAR_CORRELATION = 0.985
"""Thumbnails that correlate more than this are of the same picture."""

_CHUNK = 512


def find_leaks(samples: Sequence[Sample], cues: Sequence[Cues]) -> Iterator[Finding]:
    """Find pictures that occur twice, and groups that stand in two splits.

    Near duplicates within one group and split are no finding: frames of a video, a fake and its original.

    Args:
        samples: The whole data set.
        cues: Cues of the pictures that could be read.

    Returns:
        A finding for each kind of leak, with its first examples.
    """
    yield from _duplicates(cues)
    yield from _groups(samples)


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


def _duplicates(cues: Sequence[Cues]) -> Iterator[Finding]:
    copies = exact_duplicates([cue.sha256 for cue in cues])
    same = [(cues[a], cues[b]) for members in copies for a, b in _pairs(members)]
    opened = [cue for cue in cues if cue.thumb is not None]
    pairs = near_duplicates([cue.thumb for cue in opened if cue.thumb is not None])
    near = [(opened[a], opened[b]) for a, b in pairs]
    near = [(a, b) for a, b in near if a.sha256 != b.sha256 and not _kept_together(a.sample, b.sample)]
    for kind, cue_pairs in (("duplicates", same), ("near-duplicates", near)):
        names = defaultdict(list)
        for a, b in cue_pairs:
            for boundary in _boundaries(a.sample, b.sample):
                names[boundary].append(f"{a.sample.name}  =  {b.sample.name}")
        yield from (_finding(kind, boundary, examples) for boundary, examples in names.items())


def _pairs(members: Sequence[int]) -> Iterator[tuple[int, int]]:
    return ((members[0], other) for other in members[1:])


def _kept_together(a: Sample, b: Sample) -> bool:
    return bool(a.group) and a.group == b.group and a.split == b.split  # frames of a video, a fake and its original


def _boundaries(a: Sample, b: Sample) -> Iterator[str]:
    """Yield what the two pictures differ in: labels, splits, groups, or nothing."""
    if a.label != b.label:
        yield "labels"
    if a.split != b.split:
        yield "splits"
    if a.label == b.label and a.split == b.split:
        yield "" if not a.group or a.group == b.group else "groups"


_ADVICE: dict[tuple[str, str], tuple[Severity, str]] = {
    ("duplicates", "labels"): ("error", "One label of each pair is wrong: look at them, and remove one."),
    ("duplicates", "splits"): ("error", "The test contains training pictures: remove one of each pair."),
    ("near-duplicates", "splits"): ("error", "The test contains training pictures: put such pictures into one group."),
    ("near-duplicates", "labels"): (
        "note", "Usual where a fake keeps most of its original: put both into one group. Otherwise a label is wrong.",
    ),
}  # fmt: skip


def _finding(kind: str, boundary: str, names: Sequence[str]) -> Finding:
    usual: tuple[Severity, str] = ("note", "They count double: put them into one group, or remove one of each pair.")
    severity, advice = _ADVICE.get((kind, boundary), usual)
    across = f" across {boundary}" if boundary else ""
    return Finding(
        code=f"{kind}-across-{boundary}" if boundary else kind,
        severity=severity,
        title=f"{len(names)} {'pair' if len(names) == 1 else 'pairs'} of {kind}{across}",
        advice=advice,
        examples=tuple(names[:SHOWN]),
    )


def _groups(samples: Iterable[Sample]) -> Iterator[Finding]:
    splits = defaultdict(set)
    for sample in samples:
        if sample.group:
            splits[sample.group].add(sample.split)
    torn = [group for group, names in splits.items() if len(names) > 1]
    if torn:
        yield Finding(
            code="group-across-splits",
            severity="error",
            title=f"{len(torn)} groups (persons, videos) stand in several splits",
            advice="The test contains training persons or videos: keep each group in one split, or name no split.",
            examples=tuple(f"{group}: {', '.join(sorted(splits[group]))}" for group in torn[:SHOWN]),
        )


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
