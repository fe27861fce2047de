"""Put the sections of a report together: one page for a picture, and an index for several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from PIL import Image

from deepfake_detect.drawing.html import escape, figure, paragraph, section, write_document
from deepfake_detect.reporting import sections
from deepfake_detect.reporting.pictures import ReportPictures
from deepfake_detect.reporting.words import headline, label_of, label_words


def compose_page(
    case: Mapping[str, Any],
    *,
    pictures: ReportPictures | None = None,
    explanation: Mapping[str, Any] | None = None,
    unexplained: str = "",
    case_file: str | None = None,
    case_sha256: str | None = None,
    index_file: str | None = None,
    mark: str = "",
) -> str:
    """Compose the page of one picture.

    Args:
        case: `Prediction.to_case`, with stability and metadata as far as they were measured.
        pictures: To be shown; None leaves them out.
        explanation: `Explanation.to_dict`, with ``"findings"``; None leaves the section out.
        unexplained: Why there is no explanation, in plain text.
        case_file: Name of the case file beside the page.
        case_sha256: Of that file.
        index_file: Name of the index beside the page.
        mark: For programs: from what the page was made.

    Returns:
        A whole HTML document, with nothing to fetch and no script.
    """
    name, verdict = sections.shown_name(case["input"]["name"]), headline(case)
    shown = pictures or ReportPictures(overview=Image.new("RGB", (1, 1)), thumb=Image.new("RGB", (1, 1)))
    parts = [("The faces", sections.faces_section(case["verdict"]["faces"], shown.crops))]
    if not case["verdict"]["faces"]:
        parts = []
    if explanation is not None and case["verdict"]["faces"]:
        parts.append(("Why: where the score comes from", sections.reasons_section(explanation, shown.heat)))
    elif unexplained:
        parts.append(("Why: where the score comes from", paragraph(unexplained)))
    if case["stability"] is not None and case["stability"]["interval"] is not None:
        parts.append(("Does the verdict hold?", sections.delivery_section(case["stability"])))
    parts += [
        ("Where the file says it comes from", sections.origin_section(case["metadata"])),
        ("What this does not prove", sections.limits_section(case)),
        ("How to check it again", sections.again_section(case, case_file=case_file, case_sha256=case_sha256)),
        ("Details", sections.details_section(case)),
    ]
    back = "" if index_file is None else f'<p><a href="{quote(index_file)}">All pictures of this report</a></p>'
    head = f'{back}<h1><span class="name"><bdi>{escape(name)}</bdi></span> {escape(verdict)}</h1>'
    lead = sections.verdict_section(case, shown.overview if pictures else None)
    body = f'<div class="verdict {label_of(case)}">{head}</div>{lead}' + "".join(section(*part) for part in parts)
    return write_document(title=f"{verdict}: {name}", body=body, style=_STYLE, mark=mark)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IndexEntry:
    """A line of the index.

    Attributes:
        name: Path or URL of the picture.
        label: Of the picture; ``"error"`` where there is no report.
        headline: The verdict in words, or why there is none.
        score: 0..1; None without one.
        page: Name of the page beside the index; None where there is none.
        thumb: RGB; None where there is none.
    """

    name: str
    label: str
    headline: str
    score: float | None = None
    page: str | None = None
    thumb: Image.Image | None = field(default=None, repr=False)


def compose_index(entries: Sequence[IndexEntry], *, mark: str = "") -> str:
    """Compose the index of several reports.

    Args:
        entries: In the order in which they are shown.
        mark: For programs.

    Returns:
        A whole HTML document, with nothing to fetch and no script; its links lead to the pages beside it.
    """
    counts = Counter(entry.label for entry in entries)
    words = ", ".join(f"{count} {label_words(label)}" for label, count in counts.most_common())
    title = f"{len(entries)} pictures"
    lead = (
        f"{words}. Each verdict is what a program estimates from the pixels around the faces, and no proof; each page "
        "says how sure it is, why, and how to check it again."
    )
    items = "".join(f"<li>{_entry(entry)}</li>" for entry in entries)
    body = f'<h1>{title}</h1><p class="lead">{escape(lead)}</p><ol class="index">{items}</ol>'
    return write_document(title=title, body=body, style=_STYLE, mark=mark)


def _entry(entry: IndexEntry) -> str:
    shown = "" if entry.thumb is None else figure(entry.thumb, words="", format_name="JPEG", quality=sections.QUALITY)
    name = f"<bdi>{escape(entry.name)}</bdi>"
    name = name if entry.page is None else f'<a href="{quote(entry.page)}">{name}</a>'
    score = "" if entry.score is None else f", score {entry.score:.3f}"
    return f"<div>{shown}</div><div>{name}<br><strong>{escape(entry.headline)}</strong>{score}</div>"


_STYLE = """
main { max-width: 62rem; }
.verdict { border-left: .5rem solid var(--soft); padding: .2rem 0 .2rem 1rem; margin-bottom: 1rem; }
.verdict.fake { border-left-color: #e69f00; }
.verdict.real { border-left-color: #0072b2; }
.verdict.uncertain { border-left-style: dashed; }
.verdict.no-face { border-left-style: dotted; }
.name { display: block; font-size: .95rem; font-weight: 400; color: var(--soft); margin-bottom: .2rem; }
.lead-in { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); column-gap: 1.5rem;
  grid-template-rows: auto 1fr; }
.lead-in figure { grid-column: 2; grid-row: 1 / 3; }
.lead-in > .ruler, .lead-in > .words { grid-column: 1; }
figure { margin: 0; }
figcaption { font-size: .85rem; color: var(--soft); margin-top: .3rem; max-width: 24rem; }
.lead-in figure img { margin-top: 0; max-height: 34rem; width: auto; max-width: 100%; }
.ruler { display: block; width: 100%; max-width: 30rem; height: auto; margin: 0 0 .8rem; fill: currentColor; }
.ruler text { font-size: 13px; text-anchor: middle; }
.ruler .score { font-size: 15px; font-weight: 700; }
.ruler .first { text-anchor: start; }
.ruler .last { text-anchor: end; }
.ruler .soft { fill: var(--soft); }
.ruler .line { stroke: currentColor; stroke-width: 1.5; }
.ruler .edge { stroke: currentColor; stroke-width: 1.5; stroke-dasharray: 3 3; }
.ruler .spread { stroke: currentColor; stroke-width: 7; }
.ruler .band { fill: var(--ground); stroke: var(--soft); stroke-dasharray: 4 3; }
.faces, .findings, .index { list-style: none; padding: 0; margin: .6rem 0; }
.faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: .9rem; }
.faces li { display: flex; gap: .8rem; align-items: flex-start; font-size: .92rem; }
.faces img { margin: 0; width: 7rem; height: auto; flex: none; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 22.5rem)); gap: 1rem;
  margin-bottom: 1rem; }
.note { border-left: 4px solid var(--blue); background: var(--ground); padding: .6rem .9rem; }
.findings li { border-left: 4px solid var(--line); padding: .1rem 0 .1rem .9rem; margin: .8rem 0;
  overflow-wrap: anywhere; }
.findings .strong { border-left: 8px double var(--ink); }
.findings .moderate { border-left: 6px solid var(--ink); }
.findings .weak { border-left-color: var(--soft); }
dl { margin: .8rem 0; font-size: .92rem; max-width: 52rem; }
dl div { display: grid; grid-template-columns: 12rem minmax(0, 1fr); gap: .2rem .8rem; padding: .3rem 0;
  border-bottom: 1px solid var(--line); }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
pre { background: var(--ground); padding: .6rem .9rem; border-radius: .4rem; white-space: pre-wrap;
  overflow-wrap: anywhere; max-width: 52rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
.index li { display: grid; grid-template-columns: 5rem minmax(0, 1fr); gap: .9rem; padding: .7rem 0; max-width: none;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
.index img { margin: 0; width: 5rem; height: 5rem; object-fit: cover; }
.wide td:last-child { white-space: normal; }
@media (max-width: 44rem) {
  main { padding: 1.2rem .9rem 3rem; }
  .lead-in { grid-template-columns: minmax(0, 1fr); }
  .lead-in figure { grid-column: 1; grid-row: auto; margin-bottom: .6rem; }
  dl div { grid-template-columns: minmax(0, 1fr); gap: 0; }
  th, td { padding: .35rem .45rem; white-space: normal; }
  .pair { grid-template-columns: minmax(0, 1fr); }
}
@media print {
  body { font-size: 9.5pt; line-height: 1.4; }
  h2 { margin-top: 1.6rem; }
  .wide { break-inside: avoid; }
  th, td { padding: .2rem .6rem; }
  .lead-in figure img { max-height: 9cm; }
  .faces li, .findings li, .index li, dl div, pre, .pair, .ruler { break-inside: avoid; }
  .faces { grid-template-columns: 1fr 1fr; }
  .pair { grid-template-columns: 7cm 7cm; }
  dl div { grid-template-columns: 4cm minmax(0, 1fr); }
}
"""
