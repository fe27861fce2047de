"""Show what the reader of metadata finds, and what it costs.

    python benchmarks/provenance.py traces                  # a file made with each trace, and signed ones
    python benchmarks/provenance.py survey FOLDER... [--each 75] [--seed 0]     # real photographs
    python benchmarks/provenance.py time PHOTO... [--model NAME] [--runs 15]    # a verdict with and without it

``survey`` lists everything strong or moderate, and makes the exit status 1 where anything is strong. ``time`` measures
processor time of the three in turn, so that what else runs on the machine meets all of them alike. Run from the root of
the repository.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import deepfake_detect as dd
from deepfake_detect.inputs.listing import files_below
from tests.provenance import made_files as made
from tests.provenance.authority import authority, sign
from tests.provenance.test_c2pa import with_changed_pixel
from tests.provenance.test_inspector import CASES

CONTAINERS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")


def traces(anchors: Path) -> None:
    """Print what is found in each made file."""
    print("| file | finding | strength | points to | where |\n|---|---|---|---|---|")
    missed = 0
    for name, case in CASES.items():
        findings = [f for f in dd.inspect_metadata(case.data).findings if f.code == case.code and case.words in f.what]
        missed += not findings
        for finding in findings[:1]:
            place = f"{finding.segment}, byte {finding.offset}"
            print(f"| {name} | {finding.what[:90]} | {finding.strength} | {finding.points_to or '-'} | {place} |")
    print(f"\n{len(CASES) - missed} of {len(CASES)} are found\n")
    anchors.write_bytes(authority()[0])
    print("| signed file | as signed, no anchors | with the test authority | one bit of the picture changed |")
    print("|---|---|---|---|")
    for container in CONTAINERS:
        data = sign(made.encode(format_name=container), f"image/{container.lower()}", [made.created()])
        states = (
            dd.inspect_metadata(data).c2pa,
            dd.inspect_metadata(data, trust_anchors=anchors).c2pa,
            dd.inspect_metadata(with_changed_pixel(data, container), trust_anchors=anchors).c2pa,
        )
        print(f"| {container} | {' | '.join(states)} |")
    anchors.unlink()


def survey(folders: Sequence[Path], *, each: int, seed: int) -> int:
    """Count the strengths of what is found in photographs; return how many have something strong."""
    random, strong = np.random.default_rng(seed), 0
    print("| folder | photographs | strongest: strong | moderate | weak | neutral | codes of what is weak |")
    print("|---|---|---|---|---|---|---|")
    for folder in folders:
        files = [Path(file) for file in files_below(str(folder))]
        chosen = [files[index] for index in random.permutation(len(files))[:each]]
        counts: Counter[str] = Counter()
        codes: Counter[str] = Counter()
        for file in chosen:
            findings = dd.inspect_metadata(file)
            counts[findings.strongest] += 1
            codes.update({finding.code for finding in findings.findings if finding.strength == "weak"})
            for finding in findings.findings:
                if finding.strength in ("strong", "moderate"):
                    print(f"{finding.strength}: {file}: {finding.what}", file=sys.stderr)
        strong += counts["strong"]
        shown = " | ".join(str(counts[strength]) for strength in ("strong", "moderate", "weak", "neutral"))
        words = ", ".join(f"{code} {number}" for code, number in codes.most_common())
        print(f"| {folder.parent.name}/{folder.name} | {len(chosen)} | {shown} | {words or '-'} |", flush=True)
    return strong


def measure_time(photos: Sequence[Path], *, model: str, runs: int) -> None:
    """Print the processor time of a verdict, of reading the metadata, and of both as `predict --evidence` does it."""
    detector = dd.Detector.from_pretrained(model, device="cpu")
    print("| photograph | pixels | verdict | metadata | verdict and case | share |\n|---|---|---|---|---|---|")
    for photo in photos:
        ways: list[Callable[[], object]] = [
            lambda photo=photo: detector.predict(photo),
            lambda photo=photo: dd.inspect_metadata(photo),
            lambda photo=photo: detector.predict(photo).to_case(),
        ]
        seconds: list[list[float]] = [[] for _ in ways]
        for _ in range(runs):
            for way, kept in zip(ways, seconds, strict=True):
                began = time.process_time()
                way()
                kept.append(time.process_time() - began)
        verdict, metadata, both = (1000 * statistics.median(kept) for kept in seconds)
        height, width = dd.inspect_metadata(photo).size_hw or (0, 0)
        size = f"{width} x {height} {photo.suffix[1:].upper()}"
        print(f"| {photo.name} | {size} | {verdict:.0f} ms | {metadata:.1f} ms | {both:.0f} ms "
              f"| {metadata / verdict:.0%} |", flush=True)  # fmt: skip


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("traces").add_argument("--anchors", type=Path, default=Path("anchors.pem"))
    surveying = actions.add_parser("survey")
    surveying.add_argument("folders", nargs="+", type=Path)
    surveying.add_argument("--each", type=int, default=75)
    surveying.add_argument("--seed", type=int, default=0)
    timing = actions.add_parser("time")
    timing.add_argument("photos", nargs="+", type=Path)
    timing.add_argument("--model", default="xception-fakefaces")
    timing.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    if options.action == "traces":
        traces(options.anchors)
    elif options.action == "survey":
        sys.exit(1 if survey(options.folders, each=options.each, seed=options.seed) else 0)
    else:
        measure_time(options.photos, model=options.model, runs=options.runs)


if __name__ == "__main__":
    main()
