"""Findings in the metadata of a picture: what, where in the file, how strong, and what it does not prove."""

from __future__ import annotations

import html
import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from deepfake_detect.drawing.result import Result, short_name
from deepfake_detect.errors import InvalidOption
from deepfake_detect.provenance.blocks import Block
from deepfake_detect.system.atomic import named_write_errors

Strength = Literal["neutral", "weak", "moderate", "strong"]
"""How well a finding supports what it points to.

``"strong"``: nothing but the named cause writes it by accident. ``"moderate"``: other causes are known and rare.
``"weak"``: a hint with common harmless causes. ``"neutral"``: a fact that points nowhere.
"""

PointsTo = Literal["generated", "edited", "captured"]
"""What a finding speaks for: made by a generator, changed after it was made, or taken with a camera."""

C2paState = Literal["absent", "present, not verified", "invalid", "valid, signer not trusted", "trusted"]
"""What is known of the C2PA manifest of a file."""

MAX_OF_A_BLOCK = 64
"""Findings in one block of metadata that are listed."""

STRENGTHS: tuple[Strength, ...] = ("strong", "moderate", "weak", "neutral")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataFinding:
    """One trace in a file.

    Attributes:
        code: Its name, for programs: ``"generator"``, ``"editor"``, ``"camera"``, ``"c2pa"`` ...
        what: What was found, in a sentence.
        segment: Part of the file that holds it, such as ``"APP1 EXIF"`` or ``"PNG tEXt"``.
        offset: First byte of that part; None where the finding concerns the whole file.
        strength: See `Strength`.
        points_to: See `PointsTo`; None where the finding is neutral.
        not_proof: What the finding does not prove.
        value: The text that was found, cut to 200 characters; empty where there is none.
    """

    code: str
    what: str
    segment: str
    offset: int | None = None
    strength: Strength = "neutral"
    points_to: PointsTo | None = None
    not_proof: str
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class MetadataFindings(Result):
    """What a file states about its own origin. It is kept apart from the score, which comes from the pixels alone.

    Attributes:
        name: Path or URL of the picture, or a word such as ``"<bytes>"``.
        format: Container, such as ``"JPEG"``.
        size_hw: Height and width in pixels as stored, before any EXIF orientation; None where the file does not say.
        file_bytes: Size of the file in bytes.
        c2pa: State of the C2PA manifest, see `C2paState`.
        findings: The strongest first, then in the order of the file.

    Example:
        >>> from deepfake_detect import inspect_metadata
        >>> inspect_metadata("examples/portrait.jpg").strongest
        'neutral'
    """

    name: str
    format: str
    size_hw: tuple[int, int] | None
    file_bytes: int
    c2pa: C2paState
    findings: tuple[MetadataFinding, ...]

    @property
    def strongest(self) -> Strength:
        """Strength of the strongest finding; ``"neutral"`` where nothing points anywhere."""
        return self.findings[0].strength if self.findings else "neutral"

    def pointing_to(self, points_to: PointsTo) -> tuple[MetadataFinding, ...]:
        """Return the findings that speak for one origin, the strongest first."""
        return tuple(finding for finding in self.findings if finding.points_to == points_to)

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as plain JSON values."""
        return {
            "name": self.name,
            "format": self.format,
            "size_hw": None if self.size_hw is None else list(self.size_hw),
            "file_bytes": self.file_bytes,
            "c2pa": self.c2pa,
            "strongest": self.strongest,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row for each finding."""
        return [{"name": self.name, **asdict(finding)} for finding in self.findings]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the findings as JSON or as text.

        Args:
            path: Ends in .json or .txt.

        Raises:
            InvalidOption: Any other ending, or the file cannot be written.
        """
        target = Path(os.path.expanduser(path))
        contents = {".json": self.to_json(indent=2), ".txt": str(self)}
        if target.suffix.lower() not in contents:
            raise InvalidOption(f"{target}: ends in {target.suffix!r}, expected .json or .txt")
        with named_write_errors(target):
            target.write_text(contents[target.suffix.lower()] + "\n", encoding="utf-8", errors="backslashreplace")

    def __str__(self) -> str:
        return "\n".join([self.name, *self._lines()])

    def __repr__(self) -> str:
        counts = Counter(finding.strength for finding in self.findings)
        words = ", ".join(f"{counts[strength]} {strength}" for strength in STRENGTHS if counts[strength])
        return f"MetadataFindings({words or 'nothing'}, C2PA {self.c2pa}, {self.format}, {short_name(self.name)})"

    def _repr_html_(self) -> str:
        cells = (
            (f.strength, f.points_to or "", f.what, _place(f), f"does not prove: {f.not_proof}") for f in self.findings
        )
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        caption = html.escape(repr(self).partition("(")[2].removesuffix(")"))
        return f"<table><caption>{caption}</caption>{rows}</table>"

    def _lines(self) -> Iterator[str]:
        for finding in self.findings:
            direction = f" ({finding.points_to})" if finding.points_to else ""
            yield f"  {finding.strength + direction:<20} {finding.what}  [{_place(finding)}]"
            yield f"{'':23}does not prove: {finding.not_proof}"


def sort_findings(findings: list[MetadataFinding]) -> tuple[MetadataFinding, ...]:
    """Order findings: the strongest first, then as they stand in the file, those of the whole file last."""
    end = max((finding.offset or 0 for finding in findings), default=0) + 1
    return tuple(sorted(findings, key=lambda f: (STRENGTHS.index(f.strength), end if f.offset is None else f.offset)))


def found_in(
    block: Block,
    code: str,
    what: str,
    *,
    not_proof: str,
    strength: Strength = "neutral",
    points_to: PointsTo | None = None,
    value: str = "",
) -> MetadataFinding:
    """Make a finding of a block, with its place in the file."""
    return MetadataFinding(
        code=code,
        what=what,
        segment=block.segment,
        offset=block.offset,
        strength=strength,
        points_to=points_to,
        not_proof=not_proof,
        value=cut(value),
    )


def limit_findings(findings: Findings, block: Block) -> Findings:
    """Yield the first findings of a block, and one that notes that there are more."""
    yield from itertools.islice(findings, MAX_OF_A_BLOCK)
    if next(findings, None) is not None:
        what = f"more than {MAX_OF_A_BLOCK} findings in one block; the others are not listed"
        yield found_in(block, "unreadable", what, not_proof="anything: damaged metadata is common")


def cut(text: str, length: int = 200) -> str:
    """Shorten a text, and put it on one line without control characters.

    Example:
        >>> cut("a long text", 9)
        'a long...'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * length]).split())
    return line if len(line) <= length else line[: length - 3] + "..."


def _place(finding: MetadataFinding) -> str:
    return finding.segment if finding.offset is None else f"{finding.segment}, byte {finding.offset}"


Findings: TypeAlias = Iterator[MetadataFinding]
"""What every reader of this package yields."""
