"""Find duplicates with two labels or in two splits, and groups in two splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from deepfake_detect.auditing.cues import Cues
from deepfake_detect.auditing.duplicates import exact_duplicates, near_duplicates
from deepfake_detect.auditing.report import SHOWN, Finding, Severity
from deepfake_detect.datasets.read import Sample


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
