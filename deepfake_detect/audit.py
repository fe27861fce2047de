"""What is wrong with a data set, before it is learned from?"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from deepfake_detect.audit_cues import COLOUR, HEADERS, SHARPNESS, SIZE, Cues, collect_cues
from deepfake_detect.crops import Census, find_crops
from deepfake_detect.data import Sample, read_dataset
from deepfake_detect.errors import DatasetError
from deepfake_detect.facestore import FaceStore
from deepfake_detect.findings import SEVERITIES, AuditReport, Finding, Severity
from deepfake_detect.separability import separability
from deepfake_detect.twins import exact_twins, near_twins

TELLING: dict[Severity, float] = {"error": 0.85, "warning": 0.65}
"""An AUC whose interval begins above this is a finding of that severity: a network would learn the cue instead."""

LEAST_GROUPS = 30
"""Of a class; with fewer, neither a validation nor an interval means much."""

SMALL_PX = 96
"""A picture whose shorter side is below this holds few traces."""

_SHOWN = 5


def audit(
    dataset: Any,
    *,
    strict: bool = False,
    faces: bool = True,
    store: FaceStore | None = None,
    workers: int | None = None,
    seed: int = 0,
) -> AuditReport:
    """Look for what would make a detector learn something else than forgery, or make its figures lie.

    The label should not be told from the file's header, from size, sharpness or colour, or from the source alone; no
    picture should be there twice, with both labels, or on two sides of a split; no group on two sides.

    Args:
        dataset: Anything that `read_dataset` takes.
        strict: Raise where there is an error.
        faces: Look for faces, too; with the first training they are found anyway.
        store: Where found faces are kept; the user's cache where None.
        workers: Threads; as many as there are processors where None.
        seed: Of the cross-validation and its intervals.

    Raises:
        DatasetError: The data cannot be read; or, where strict, there is an error.

    Example:
        >>> report = audit([("examples/portrait.jpg", "real"), ("examples/portrait_fake.jpg", "fake")], faces=False)
        >>> [finding.code for finding in report.findings]
        ['few-groups']
    """
    samples = read_dataset(dataset)
    cues = collect_cues(samples, workers=workers)
    seen = [one for one in cues if not one.error]
    aucs = _telling(seen, seed)
    census = find_crops([one.sample for one in seen], store or FaceStore(), workers=workers) if faces else None
    findings = [*_unreadable(cues), *_balance(samples), *_told_by(aucs), *_twins(seen), *_groups(samples)]
    findings += [*_sizes(seen), *(_faces(census) if census else ())]
    report = AuditReport(
        n=len(samples),
        counts=_counts(samples),
        aucs=aucs,
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
    )
    if strict and not report.ok:
        raise DatasetError(f"the audit found errors in the data set, and strict refuses them:\n{report}")
    return report


def _telling(cues: Sequence[Cues], seed: int) -> dict[str, tuple[float, tuple[float, float]]]:
    in_files = [one for one in cues if one.headers]
    facts: dict[str, tuple[Sequence[Cues], Callable[[Cues], Sequence[Any]]]] = {
        "headers": (in_files, lambda one: one.headers),
        "size": (cues, lambda one: one.size),
        "sharpness": (cues, lambda one: one.sharpness),
        "colour": (cues, lambda one: one.colour),
        "source": (cues, lambda one: (one.sample.source,)),
    }
    nothing = (math.nan, (math.nan, math.nan))
    return {
        name: separability(
            [fact(one) for one in some],
            [one.sample.label for one in some],
            [one.sample.group or index for index, one in enumerate(some)],
            seed=seed,
        )
        if some
        else nothing
        for name, (some, fact) in facts.items()
    }


_CUES = {
    "headers": (", ".join(HEADERS), "save both classes in one format with one quality, or re-encode them alike"),
    "size": (", ".join(SIZE), "bring both classes to one distribution of sizes before they are saved"),
    "sharpness": (
        ", ".join(SHARPNESS),
        "take both classes from the same cameras, or blur and re-scale alike",
    ),
    "colour": (", ".join(COLOUR), "take both classes from the same scenes, or augment colour strongly"),
    "source": ("the name of the collection", "get both classes of each source, or hold whole sources out to measure"),
}


def _told_by(aucs: Mapping[str, tuple[float, tuple[float, float]]]) -> Iterator[Finding]:
    for name, (auc, (low, high)) in aucs.items():
        severity = next((level for level, least in TELLING.items() if low > least), None)
        if severity is not None:
            facts, advice = _CUES[name]
            told = f"the label is told with an AUC of {auc:.2f} [{low:.2f}, {high:.2f}] from the {name} alone ({facts})"
            worst: Severity = severity if name in ("headers", "size") else "warning"  # the rest may be the content
            yield Finding(code=name, severity=worst, title=told, advice=f"A network may learn that instead: {advice}.")


def _unreadable(cues: Sequence[Cues]) -> Iterator[Finding]:
    bad = [one for one in cues if one.error]
    if bad:
        yield Finding(
            code="unreadable",
            severity="warning",
            title=f"{len(bad)} pictures cannot be read",
            advice="Get whole copies of them, or take them off the list; a training leaves them out.",
            examples=tuple(one.error for one in bad[:_SHOWN]),
        )


def _balance(samples: Sequence[Sample]) -> Iterator[Finding]:
    count = Counter(sample.label for sample in samples)
    if not (count[0] and count[1]):
        yield Finding(
            code="one-class",
            severity="error",
            title=f"only one class: {count[0]} real and {count[1]} fake pictures",
            advice="Add the other class; from real photographs alone, train with self_blend=1.0.",
        )
        return
    if max(count.values()) > 4 * min(count.values()):
        yield Finding(
            code="imbalance",
            severity="warning",
            title=f"{count[0]} real and {count[1]} fake pictures: the larger class is {_larger(count):.0%} of all",
            advice="Judge by balanced accuracy and AUC; the training draws both classes alike unless balance=False.",
        )
    groups = {label: len({s.group or i for i, s in enumerate(samples) if s.label == label}) for label in (0, 1)}
    if min(groups.values()) < LEAST_GROUPS:
        yield Finding(
            code="few-groups",
            severity="note",
            title=f"{groups[0]} groups of real and {groups[1]} of fake pictures; {LEAST_GROUPS} of each are few",
            advice="Figures measured on so few persons or videos hold for them alone.",
        )


def _larger(count: Counter[int]) -> float:
    return max(count.values()) / count.total()


def _twins(cues: Sequence[Cues]) -> Iterator[Finding]:
    same = [(a, b) for members in exact_twins([one.sha256 for one in cues]) for a, b in _pairs(members)]
    exact = set(same)
    near = [pair for pair in near_twins([one.thumb for one in cues if one.thumb is not None]) if pair not in exact]
    for kind, pairs in (("duplicates", same), ("near-duplicates", near)):
        found = defaultdict(list)
        for a, b in pairs:
            for where in _where(cues[a].sample, cues[b].sample):
                found[where].append(f"{cues[a].sample.name}  =  {cues[b].sample.name}")
        yield from (_twin(kind, where, names) for where, names in found.items())


def _pairs(members: Sequence[int]) -> Iterator[tuple[int, int]]:
    return ((members[0], other) for other in members[1:])


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
        title=f"{len(names)} pairs of {kind}{across}",
        advice=advice,
        examples=tuple(names[:_SHOWN]),
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
            examples=tuple(f"{group}: {', '.join(sorted(splits[group]))}" for group in torn[:_SHOWN]),
        )


def _sizes(cues: Sequence[Cues]) -> Iterator[Finding]:
    small = [one for one in cues if min(one.size[:2]) < SMALL_PX]
    if small:
        yield Finding(
            code="small",
            severity="note",
            title=f"{len(small)} pictures are smaller than {SMALL_PX} px",
            advice="Few traces of a forgery survive at such a size.",
            examples=tuple(one.sample.name for one in small[:_SHOWN]),
        )


_FACES = {
    "no-face": ("no face was found in", "They are left out of a training; their verdict is 'no-face'."),
    "several-faces": (
        "several faces were found in",
        "A label is wrong for a face that is not forged: crop, or drop them.",
    ),
}


def _faces(census: Census) -> Iterator[Finding]:
    for code, names in (("no-face", census.no_face), ("several-faces", census.several)):
        title, advice = _FACES[code]
        if names:
            told = f"{title} {len(names)} pictures"
            yield Finding(code=code, severity="note", title=told, advice=advice, examples=names[:_SHOWN])


def _counts(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    word = {0: "real", 1: "fake"}
    counts = {"classes": Counter(word[sample.label] for sample in samples)}
    counts["sources"] = Counter(f"{sample.source or '-'} {word[sample.label]}" for sample in samples)
    counts["splits"] = Counter(f"{sample.split or '-'} {word[sample.label]}" for sample in samples)
    return {name: dict(sorted(count.items())) for name, count in counts.items()}
