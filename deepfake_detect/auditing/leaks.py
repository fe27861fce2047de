"""Is a picture, or a person, on both sides of a line?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from deepfake_detect.auditing.cues import Cues
from deepfake_detect.auditing.duplicates import exact_twins, near_twins
from deepfake_detect.auditing.report import SHOWN, Finding, Severity
from deepfake_detect.datasets.read import Sample


def find_leaks(samples: Sequence[Sample], cues: Sequence[Cues]) -> Iterator[Finding]:
    """Find pictures that are there twice, and groups that stand on two sides of a split.

    Nearly the same pictures may stand in one group and split: a video's frames, a fake and its original.

    Args:
        samples: All of the data set.
        cues: Of the pictures that could be read.

    Returns:
        A finding for each kind of leak, with its first examples.
    """
    yield from _twins(cues)
    yield from _groups(samples)


def _twins(cues: Sequence[Cues]) -> Iterator[Finding]:
    copies = exact_twins([one.sha256 for one in cues])
    same = [(cues[a], cues[b]) for members in copies for a, b in _pairs(members)]
    seen = [one for one in cues if one.thumb is not None]
    near = [(seen[a], seen[b]) for a, b in near_twins([one.thumb for one in seen if one.thumb is not None])]
    near = [(a, b) for a, b in near if a.sha256 != b.sha256 and not _kept_together(a.sample, b.sample)]
    for kind, pairs in (("duplicates", same), ("near-duplicates", near)):
        found = defaultdict(list)
        for a, b in pairs:
            for where in _where(a.sample, b.sample):
                found[where].append(f"{a.sample.name}  =  {b.sample.name}")
        yield from (_twin(kind, where, names) for where, names in found.items())


def _pairs(members: Sequence[int]) -> Iterator[tuple[int, int]]:
    return ((members[0], other) for other in members[1:])


def _kept_together(a: Sample, b: Sample) -> bool:
    return bool(a.group) and a.group == b.group and a.split == b.split  # frames of a video, a fake and its original


def _where(a: Sample, b: Sample) -> Iterator[str]:
    if a.label != b.label:
        yield "labels"
    if a.split != b.split:
        yield "splits"
    if a.label == b.label and a.split == b.split:
        yield "" if not a.group or a.group == b.group else "groups"


_TWINS: dict[tuple[str, str], tuple[Severity, str]] = {
    ("duplicates", "labels"): ("error", "One label of each pair is wrong: look at them, and take one off the list."),
    ("duplicates", "splits"): ("error", "What is tested on was learned: take one of each pair off the list."),
    ("near-duplicates", "splits"): ("error", "What is tested on was learned: put such pictures into one group."),
    ("near-duplicates", "labels"): (
        "note", "As where a fake keeps most of its original: put both into one group. Otherwise a label is wrong.",
    ),
}  # fmt: skip


def _twin(kind: str, where: str, names: Sequence[str]) -> Finding:
    usual: tuple[Severity, str] = ("note", "They count double; put them into one group, or take one of each off.")
    severity, advice = _TWINS.get((kind, where), usual)
    across = f" across {where}" if where else ""
    return Finding(
        code=f"{kind}-across-{where}" if where else kind,
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
    torn = [group for group, found in splits.items() if len(found) > 1]
    if torn:
        yield Finding(
            code="group-across-splits",
            severity="error",
            title=f"{len(torn)} groups (persons, videos) stand on two sides of a split",
            advice="The test asks for what was learned: keep each group on one side, or leave the split to us.",
            examples=tuple(f"{group}: {', '.join(sorted(splits[group]))}" for group in torn[:SHOWN]),
        )
