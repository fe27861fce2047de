"""The report of an audit, as text, JSON and HTML."""

from __future__ import annotations

import html
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from deepfake_detect.drawing.html import format_figure, paragraph, write_page
from deepfake_detect.drawing.result import Result
from deepfake_detect.errors import InvalidOption
from deepfake_detect.weights.card import DETECTS

Severity = Literal["error", "warning", "note"]
"""``"error"`` makes figures worthless, ``"warning"`` makes them doubtful, ``"note"`` is good to know."""

SHOWN = 5
"""Number of examples in a finding."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault of a data set, or a fact worth knowing.

    Attributes:
        code: Short name for programs, such as ``"headers"`` or ``"duplicates-across-labels"``.
        severity: See `Severity`.
        title: What was found, in one line.
        evidence: Figures that show it, where the title has none.
        advice: What to do.
        examples: Names of some of the pictures concerned.
    """

    code: str
    severity: Severity
    title: str
    advice: str
    evidence: str = ""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AuditReport(Result):
    """The result of an audit.

    Attributes:
        n: Number of pictures, readable or not.
        counts: Number of real and fake pictures, or of other classes: over all (``"classes"``), in each source
            (``"sources"``) and in each split (``"splits"``).
        aucs: How well ``"headers"``, ``"size"``, ``"sharpness"``, ``"colour"`` and ``"source"`` each predict the label:
            AUC and its 95 % interval; nan where it cannot be measured.
        findings: The most severe first.
    """

    n: int
    counts: Mapping[str, Mapping[str, int]]
    aucs: Mapping[str, tuple[float, tuple[float, float]]]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Return whether no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        aucs = {
            name: {"auc": _plain(auc), "interval": [_plain(low), _plain(high)]}
            for name, (auc, (low, high)) in self.aucs.items()
        }
        return {
            "n": self.n,
            "ok": self.ok,
            "counts": {name: dict(count) for name, count in self.counts.items()},
            "aucs": aucs,
            "findings": [{**asdict(finding), "examples": list(finding.examples)} for finding in self.findings],
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row for each finding."""
        return [{**asdict(finding), "examples": ", ".join(finding.examples)} for finding in self.findings]

    def __str__(self) -> str:
        return "\n".join([self._lead(), *([self._aucs_line()] if self.aucs else []), *self._finding_lines()])

    def __repr__(self) -> str:
        count = Counter(finding.severity for finding in self.findings)
        return f"AuditReport({self.n} pictures, {', '.join(f'{count[s]} {s}s' for s in SEVERITIES)})"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report.

        Args:
            path: Ends in .json, .txt or .html.

        Raises:
            InvalidOption: Any other ending.
        """
        target = Path(path).expanduser()
        writers = {".json": lambda: self.to_json(indent=2), ".txt": lambda: str(self), ".html": self._page}
        if target.suffix.lower() not in writers:
            raise InvalidOption(f"{target}: ends in {target.suffix!r}, expected .json, .txt or .html")
        target.write_text(writers[target.suffix.lower()]() + "\n", encoding="utf-8")

    def _lead(self) -> str:
        classes = self.counts["classes"]
        numbers = [
            f"{classes.get(name, 0)} {name}" for name in (DETECTS if classes.keys() <= set(DETECTS) else classes)
        ]
        return f"{self.n} pictures: {', '.join(numbers)}"

    def _aucs_line(self) -> str:
        figures = ", ".join(f"{name} {format_figure(auc, ends)}" for name, (auc, ends) in self.aucs.items())
        return f"How well the label is told (AUC) without looking for a forgery: {figures}"

    def _finding_lines(self) -> Iterator[str]:
        if not self.findings:
            yield "Nothing was found that speaks against learning from them."
        for finding in self.findings:
            yield f"{finding.severity.upper():<8} {finding.title}"
            yield from (f"         {text}" for text in (finding.evidence, finding.advice) if text)
            yield from (f"           {example}" for example in finding.examples)

    def _page(self) -> str:
        parts = [
            (
                f"{f.severity}: {f.title}",
                "".join(paragraph(text) for text in (f.evidence, f.advice, *f.examples) if text),
            )
            for f in self.findings
        ]
        warnings = [f.title for f in self.findings if f.severity == "error"]
        lead = f"{self._lead()}. {self._aucs_line()}." if self.aucs else f"{self._lead()}."
        return write_page(title="Audit", lead=lead, warnings=warnings, parts=parts)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
