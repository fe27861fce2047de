"""Audit a data set before training: cues, duplicates, leaks, labels and balance."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from deepfake_detect._options import check_flag, check_number, check_type
from deepfake_detect.auditing.cues import COLOUR, HEADERS, SHARPNESS, SIZE, Cues, collect_cues
from deepfake_detect.auditing.leaks import find_leaks
from deepfake_detect.auditing.report import SEVERITIES, SHOWN, AuditReport, Finding, Severity
from deepfake_detect.auditing.separability import chance_auc, separability_auc, telling_facts
from deepfake_detect.datasets.crops import Census, find_crops
from deepfake_detect.datasets.face_cache import FaceStore
from deepfake_detect.datasets.labels import find_label, is_plain_name
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.errors import DatasetError
from deepfake_detect.metrics.classification import bootstrap_interval, roc_auc
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.weights.card import DETECTS

TELLING: dict[Severity, float] = {"error": 0.85, "warning": 0.65, "note": 0.6}
"""A cue is a finding of that severity where the interval of its AUC begins above this: a network would learn it."""

LEAST_GROUPS = 30
"""With fewer groups of a class, validation and intervals are unreliable."""

SMALL_PX = 96
"""A picture with a shorter side, in pixels, below this holds few traces of a forgery."""

FLIPPED = 0.35
"""A detector with an AUC below this would be right more often with the labels inverted."""

_MANY = 0.2  # share of pictures without a face, or with several, that is a warning
_SCORED = 256  # pictures that a detector scores


def audit(
    dataset: Any,
    *,
    strict: bool = False,
    faces: bool = True,
    store: FaceStore | None = None,
    predictor: Predictor | None = None,
    sample_limit: int | None = None,
    workers: int | None = None,
    seed: int = 0,
    classes: Sequence[str] = DETECTS,
) -> AuditReport:
    """Look for what would let a detector learn something other than forgery, or make its figures wrong.

    The label should not be predictable from the header of the file, from size, sharpness or colour, or from the source
    alone; no picture should occur twice, with both labels, or in two splits; no group in two splits.

    Args:
        dataset: Anything that `read_dataset` takes.
        strict: Raise an exception for findings of severity ``"error"``.
        faces: Also look for faces; a training does so anyway.
        store: Where found faces are kept, also with ``faces=False``; the user's cache where None.
        predictor: A detector that scores pictures, to see whether the labels are inverted.
        sample_limit: Number of pictures to open, drawn at random; all of them where None.
        workers: Threads; as many as there are processors where None.
        seed: Random seed of the draw, the cross-validation and its intervals.
        classes: Names of the classes, where ``dataset`` is a list of samples of other classes than real and fake.
            Duplicates, leaks and balance are then looked at, and not what may stand for a forgery.

    Returns:
        The findings, the most severe first.

    Raises:
        DatasetError: The data cannot be read; or, where strict, an error was found.
        InvalidOption: An option of a wrong type or out of range.

    Example:
        >>> report = audit([("examples/portrait.jpg", "real"), ("examples/portrait_fake.jpg", "fake")], faces=False)
        >>> [finding.code for finding in report.findings]
        ['few-groups', 'near-duplicates-across-labels']
    """
    check_flag("strict", strict)
    check_flag("faces", faces)
    check_type("store", store, (FaceStore, NoneType), expected="a FaceStore, or None")
    check_type("predictor", predictor, (Predictor, NoneType), expected="a Detector, or None")
    check_number("sample_limit", sample_limit, low=1, whole=True, optional=True)
    check_number("workers", workers, low=1, whole=True, optional=True)
    check_number("seed", seed, low=0, whole=True)
    check_type("classes", classes, (tuple, list), expected="the names of the classes, in order")
    samples = read_dataset(dataset)
    store = FaceStore() if faces and store is None else store
    cues = collect_cues(_drawn(samples, sample_limit, seed), workers=workers, store=store)
    opened = [cue.sample for cue in cues if not cue.error]
    more: list[Finding] = []
    if faces and store is not None:
        more += _faces(find_crops(opened, store, workers=workers))
    if predictor is not None:
        more += _flipped(predictor, _drawn(opened, _SCORED, seed), seed)
    report = judge(samples, cues, more=more, seed=seed, classes=classes)
    if strict and not report.ok:
        raise DatasetError(f"the audit found errors in the data set, and strict refuses them:\n{report}")
    return report


def judge(
    samples: Sequence[Sample],
    cues: Sequence[Cues],
    *,
    more: Iterable[Finding] = (),
    seed: int = 0,
    classes: Sequence[str] = DETECTS,
) -> AuditReport:
    """Judge a data set by the cues of its pictures, without opening one.

    Args:
        samples: The whole data set.
        cues: Cues of all of its pictures, or of some.
        more: Findings by other means.
        seed: Random seed of the cross-validation and its intervals.
        classes: As for `audit`.

    Returns:
        The findings, the most severe first.
    """
    readable = [cue for cue in cues if not cue.error]
    aucs: dict[str, tuple[float, tuple[float, float]]] = {}
    findings = [*_partial(samples, cues), *_unreadable(cues), *_balance(samples, classes)]
    if classes == DETECTS:
        aucs, revealing = _revealing_cues(readable, seed)
        findings += [*_polarity(samples), *revealing, *_sizes(readable)]
    findings += [*find_leaks(samples, readable), *more]
    return AuditReport(
        n=len(samples),
        counts=_counts(samples, classes),
        aucs=aucs,
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
    )


def _drawn(samples: Sequence[Sample], limit: int | None, seed: int) -> Sequence[Sample]:
    if limit is None or limit >= len(samples):
        return samples
    chosen = np.random.default_rng(seed).permutation(len(samples))[:limit]
    return [samples[index] for index in sorted(chosen.tolist())]


_CUES: dict[str, tuple[Sequence[str], Callable[[Cues], Sequence[Any]], str]] = {
    "headers": (
        HEADERS,
        lambda cue: cue.headers,
        "save both classes in one format with one quality, or re-encode them alike",
    ),
    "size": (SIZE, lambda cue: cue.size, "bring both classes to one distribution of sizes before they are saved"),
    "sharpness": (
        SHARPNESS,
        lambda cue: cue.sharpness,
        "take both classes from the same cameras, or blur and re-scale alike",
    ),
    "colour": (COLOUR, lambda cue: cue.colour, "take both classes from the same scenes, or augment colour strongly"),
    "source": (
        ("name of the collection",),
        lambda cue: (cue.sample.source,),
        "get both classes of each source, or hold whole sources out to measure",
    ),
}


def _revealing_cues(
    cues: Sequence[Cues], seed: int
) -> tuple[dict[str, tuple[float, tuple[float, float]]], list[Finding]]:
    """Measure how well each kind of cue predicts the label, and list those that do too well."""
    aucs, findings = {}, []
    for name, (words, fact, advice) in _CUES.items():
        measured = [cue for cue in cues if fact(cue)]
        label = [cue.sample.label for cue in measured]
        groups = [cue.sample.group or index for index, cue in enumerate(measured)]
        facts = [fact(cue) for cue in measured]
        auc, (low, high) = (
            separability_auc(facts, label, groups, seed=seed) if measured else (math.nan, (math.nan, math.nan))
        )
        aucs[name] = auc, (low, high)
        severity = next((level for level, least in TELLING.items() if low > least), None)
        if severity is not None and auc > chance_auc(label, groups):
            aucs_alone = zip(words, telling_facts(facts, label, groups, seed=seed), strict=True)
            content = name not in ("headers", "size")  # the scenes may differ, which is no mistake by itself
            finding = Finding(
                code=name,
                severity="warning" if severity == "error" and content else severity,
                title=f"the label is told with an AUC of {auc:.2f} [{low:.2f}, {high:.2f}] from the {name} alone",
                evidence=f"Each by itself: {_ranked(aucs_alone)}.",
                advice=f"A network may learn that instead: {advice}.",
            )
            findings.append(finding)
    return aucs, findings


def _ranked(aucs: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{word} {auc:.2f}" for word, auc in sorted(aucs, key=lambda pair: -pair[1]))


def _partial(samples: Sequence[Sample], cues: Sequence[Cues]) -> Iterator[Finding]:
    if len(cues) < len(samples):
        yield Finding(
            code="sampled",
            severity="note",
            title=f"{len(cues)} of {len(samples)} pictures were opened",
            advice="A duplicate is found only where both are among them; leave sample_limit out to see all.",
        )


def _polarity(samples: Sequence[Sample]) -> Iterator[Finding]:
    """Compare labels with the names of the folders, where some are called real and some fake."""
    files = [sample for sample in samples if isinstance(sample.image, str | os.PathLike)]
    folders = [Path(sample.image).parts[:-1] for sample in files]
    first, last = (min(folders), max(folders)) if folders else ((), ())
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last)))  # noqa: B905
    classes = [_class_of(parts[shared:]) for parts in folders]
    named = [(sample, label) for sample, label in zip(files, classes, strict=True) if label is not None]
    wrong = [sample for sample, label in named if label != sample.label]
    if wrong and len({label for _, label in named}) == 2:
        word = ("real", "fake")
        yield Finding(
            code="polarity",
            severity="error" if len(wrong) > len(named) / 2 else "warning",
            title=f"the label of {len(wrong)} pictures contradicts what their folder is called ({len(named)} have one)",
            advice="1 is fake. If the data means the opposite, give labels by name, or pass labels=.",
            examples=tuple(f"{sample.name} is labelled {word[sample.label]}" for sample in wrong[:SHOWN]),
        )


@cache
def _class_of(folders: tuple[str, ...]) -> int | None:
    """Return the label that folder names stand for; the innermost counts, and "real" and "fake" before synonyms."""
    named = [name for name in reversed(folders) if not name.isdecimal() and find_label(name) is not None]
    return find_label(next((name for name in named if is_plain_name(name)), named[0])) if named else None


def _flipped(predictor: Predictor, samples: Sequence[Sample], seed: int) -> Iterator[Finding]:
    predictions = predictor.predict_many([sample.image for sample in samples], on_error="yield")
    scored = [(s, p.score) for s, p in zip(samples, predictions, strict=True) if p.score is not None]
    if not scored:
        return
    label, score = [sample.label for sample, _ in scored], [value for _, value in scored]
    group = [sample.group or f"picture {index}" for index, (sample, _) in enumerate(scored)]
    auc = roc_auc(label, score)
    _, high = bootstrap_interval(roc_auc, label, score, groups=group, seed=seed)
    if high < 0.5 and auc < FLIPPED:
        yield Finding(
            code="flipped",
            severity="error",
            title=f"{predictor.card.id} tells the classes the wrong way round: AUC {auc:.2f} on {len(label)} pictures",
            advice="Look at some of each class: labels are inverted, or the pictures are of a kind unknown to it.",
        )


def _unreadable(cues: Sequence[Cues]) -> Iterator[Finding]:
    bad = [cue for cue in cues if cue.error]
    if bad:
        yield Finding(
            code="unreadable",
            severity="warning",
            title=f"{len(bad)} pictures cannot be read",
            advice="Get whole copies of them, or remove them from the list; training leaves them out.",
            examples=tuple(cue.error for cue in bad[:SHOWN]),
        )


def _balance(samples: Sequence[Sample], classes: Sequence[str]) -> Iterator[Finding]:
    count = Counter(sample.label for sample in samples)
    numbers = _listed(f"{count[place]} {name}" for place, name in enumerate(classes))
    if len(count) < 2:
        blend = "; from real photographs alone, train with self_blend=1.0" if classes == DETECTS else ""
        yield Finding(
            code="one-class",
            severity="error",
            title=f"only one class: {numbers} pictures",
            advice=f"Add the other class{blend}.",
        )
        return
    if max(count.values()) > 4 * min(count.values()):
        yield Finding(
            code="imbalance",
            severity="warning",
            title=f"{numbers} pictures: the larger class is {_larger(count):.0%} of all",
            advice="Judge by balanced accuracy and AUC; the training draws both classes alike unless balance=False.",
        )
    groups = [len({s.group or i for i, s in enumerate(samples) if s.label == place}) for place in range(len(classes))]
    if min(groups) < LEAST_GROUPS:
        first, *others = (f"{number} of {name}" for number, name in zip(groups, classes, strict=True))
        numbers = _listed([first.replace(" of ", " groups of ", 1), *others])
        yield Finding(
            code="few-groups",
            severity="note",
            title=f"{numbers} pictures; {LEAST_GROUPS} of each are few",
            advice="Figures measured on so few persons or videos hold for them alone.",
        )


def _listed(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _larger(count: Counter[int]) -> float:
    return max(count.values()) / count.total()


def _sizes(cues: Sequence[Cues]) -> Iterator[Finding]:
    small = [cue for cue in cues if min(cue.size[:2]) < SMALL_PX]
    if small:
        yield Finding(
            code="small",
            severity="note",
            title=f"{len(small)} pictures are smaller than {SMALL_PX} px",
            advice="Few traces of a forgery survive at such a size.",
            examples=tuple(cue.sample.name for cue in small[:SHOWN]),
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
            yield Finding(
                code=code,
                severity="warning" if len(names) > _MANY * (len(census.samples) + len(census.no_face)) else "note",
                title=f"{title} {len(names)} pictures",
                advice=advice,
                examples=names[:SHOWN],
            )


def _counts(samples: Sequence[Sample], word: Sequence[str]) -> dict[str, dict[str, int]]:
    counts = {"classes": Counter(word[sample.label] for sample in samples)}
    counts["sources"] = Counter(f"{sample.source or '-'} {word[sample.label]}" for sample in samples)
    counts["splits"] = Counter(f"{sample.split or '-'} {word[sample.label]}" for sample in samples)
    return {name: dict(sorted(count.items())) for name, count in counts.items()}
