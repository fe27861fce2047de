"""Audit every source of a data set, and print the findings.

Every picture is opened once. A source with one class only is combined with the other class of all other sources. Prints
a Markdown table, without notes, and with ``--whole`` the findings of the data set as a whole.

    python benchmarks/audit_sources.py --data FOLDER      # with a manifest.csv that has the column "source"
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from deepfake_detect import AuditReport
from deepfake_detect.auditing.checks import judge
from deepfake_detect.auditing.cues import Cues, collect_cues
from deepfake_detect.datasets.read import read_dataset
from deepfake_detect.drawing.html import format_figure


def main() -> None:
    """Audit, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a manifest.csv")
    parser.add_argument("--whole", action="store_true", help="audit all sources together as well")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    began = time.process_time()
    cues = collect_cues(read_dataset(options.data), workers=options.workers)
    opened = time.process_time() - began
    print("| source | real | fake | headers | size | sharpness | colour | source | errors and warnings |")
    print("|---|---|---|---|---|---|---|---|---|")
    for source in sorted({cue.sample.source for cue in cues}):
        some, paired = with_other_class(cues, source)
        print(line(f"{source} *" if paired else source, judged(some)), flush=True)
    if options.whole:
        whole = judged(cues)
        print(line("all", whole))
        print(f"\n{str(whole).replace(str(options.data), 'DATA')}")
    took = time.process_time() - began
    print(f"\n{len(cues)} pictures: {opened:.0f} s of one processor to open them, {took - opened:.0f} s to judge")


def judged(cues: Sequence[Cues]) -> AuditReport:
    """Audit pictures that are already open."""
    return judge([cue.sample for cue in cues], cues)


def with_other_class(cues: Sequence[Cues], source: str) -> tuple[list[Cues], bool]:
    """Return a source's pictures, with the other class of all other sources where it has one class only."""
    chosen = [cue for cue in cues if cue.sample.source == source]
    labels = {cue.sample.label for cue in chosen}
    if len(labels) == 2:
        return chosen, False
    return chosen + [cue for cue in cues if cue.sample.source != source and cue.sample.label not in labels], True


def line(name: str, report: AuditReport) -> str:
    """Format one line of the table."""
    counts = report.counts["classes"]
    figures = " | ".join(format_figure(auc, ends) for auc, ends in report.aucs.values())
    findings = ", ".join(f"{f.severity} {f.code}" for f in report.findings if f.severity != "note")
    return f"| {name} | {counts.get('real', 0)} | {counts.get('fake', 0)} | {figures} | {findings or '-'} |"


if __name__ == "__main__":
    main()
