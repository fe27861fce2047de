"""What does the audit find in every source of a data set?

A source that has one class only is taken together with the other class of all other sources. Prints one Markdown table,
and the findings of the data set as a whole.

    python benchmarks/audit_sources.py --data FOLDER      # with a manifest.csv that has the column "source"
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from deepfake_detect import AuditReport, audit
from deepfake_detect.data import Sample, read_dataset
from deepfake_detect.page import format_figure


def main() -> None:
    """Audit, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a manifest.csv")
    parser.add_argument("--whole", action="store_true", help="audit all sources together as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    samples = read_dataset(options.data)
    began = time.monotonic()
    print("| source | real | fake | headers | size | sharpness | colour | source | findings |")
    print("|---|---|---|---|---|---|---|---|---|")
    for source in sorted({sample.source for sample in samples}):
        own, paired = with_other_class(samples, source)
        print(line(f"{source} *" if paired else source, audit(own, faces=False)), flush=True)
    if options.whole:
        whole = audit(samples, faces=False)
        print(line("all", whole))
        print(f"\n{str(whole).replace(str(options.data), 'DATA')}")
    print(f"\n{time.monotonic() - began:.0f} seconds")


def with_other_class(samples: Sequence[Sample], source: str) -> tuple[list[Sample], bool]:
    """Give a source's pictures, with the other class of all other sources where it has one class only."""
    own = [sample for sample in samples if sample.source == source]
    labels = {sample.label for sample in own}
    if len(labels) == 2:
        return own, False
    return own + [s for s in samples if s.source != source and s.label not in labels], True


def line(name: str, report: AuditReport) -> str:
    """One line of the table."""
    counts = report.counts["classes"]
    figures = " | ".join(format_figure(auc, ends) for auc, ends in report.aucs.values())
    found = ", ".join(f"{finding.severity} {finding.code}" for finding in report.findings)
    return f"| {name} | {counts.get('real', 0)} | {counts.get('fake', 0)} | {figures} | {found or '-'} |"


if __name__ == "__main__":
    main()
