"""Format tables for a terminal, and compose self-contained HTML pages."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from PIL import Image


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table for a terminal: the first column left-aligned, the others right-aligned.

    Example:
        >>> print(format_table(["source", "n"], [["web", "12"], ["phone", "3"]]))
        source   n
        web     12
        phone    3
    """
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        first, *rest = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def format_figure(value: float | None, ends: Sequence[float | None] | None = None) -> str:
    """Format a figure with three digits, and its interval; a dash where it is undefined, [?] where the interval is.

    Example:
        >>> format_figure(0.91234, (0.9, 0.925)), format_figure(float("nan"))
        ('0.912 [0.900, 0.925]', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    low, high = ends or (None, None)
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" if math.isfinite(low) and math.isfinite(high) else f"{value:.3f} [?]"


def write_page(
    *, title: str, lead: str, warnings: Sequence[str] = (), parts: Sequence[tuple[str, str]], style: str = ""
) -> str:
    """Compose a page with a title and a section for each part.

    Args:
        title: Plain text.
        lead: Plain text below the title.
        warnings: Plain text, highlighted.
        parts: Heading, and content below it as HTML: `table`, `figure`, `paragraph`.
        style: Style sheet of this page, added to the common one.

    Returns:
        A whole HTML document, see `write_document`.
    """
    head = f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
    notes = "".join(f'<p class="warning">{escape(text)}</p>' for text in warnings)
    return write_document(title=title, body=head + notes + "".join(section(*part) for part in parts), style=style)


def write_document(*, title: str, body: str, style: str = "", mark: str = "") -> str:
    """Compose a document: one file, with nothing to fetch and no script, and a policy that forbids both.

    It follows the light or dark setting of the reader's system, and prints black on white.

    Args:
        title: Plain text.
        body: HTML.
        style: Style sheet of this document, added to the common one.
        mark: Plain text for programs, in the head: from what the document was made.

    Returns:
        A whole HTML document. Its Content-Security-Policy allows the one style sheet, by its sha256, and pictures that
        are embedded; style attributes are not applied.
    """
    sheet = _STYLE + style
    allowed = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="{escape(f"{GENERATOR} {mark}".strip())}">'
        f"<title>{escape(title)}</title><style>{sheet}</style></head>\n"
        f"<body><main>{body}</main></body></html>\n"
    )


def escape(text: str) -> str:
    r"""Make HTML of plain text from anywhere: also from a hostile file name, or one that is not UTF-8.

    Characters that cannot be seen, such as those that turn the direction of reading, are written as ``\u202e``.

    Example:
        >>> escape("<b>\u202egpj.exe")
        '&lt;b&gt;\\u202egpj.exe'
    """
    return html.escape(visible(text, keep="\n\t"))


def visible(text: str, *, keep: str = "") -> str:
    r"""Spell out the characters of a text that cannot be seen; spaces of every kind stay.

    Args:
        text: From anywhere, such as a file name, which may hold line breaks.
        keep: Characters to leave as they are.

    Example:
        >>> visible("a\nThe verdict stands.")
        'a\\nThe verdict stands.'
    """
    return "".join(letter if _is_visible(letter) or letter in keep else _spelled(letter) for letter in text)


def section(heading: str, content: str) -> str:
    """Put HTML below a heading in plain text."""
    return f"<section><h2>{escape(heading)}</h2>{content}</section>"


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    shades: Mapping[tuple[int, int], float] | None = None,
    label: str = "table",
) -> str:
    """Format a table as HTML; where it is wider than the page it scrolls, by the keyboard, too.

    Args:
        header: Plain text.
        rows: Plain text; the first cell is the name of the row.
        shades: Row and column of a cell to 0 (bad) .. 1 (good), shown as the depth of the background.
        label: What the table holds, for screen readers.
    """
    head = "".join(f'<th scope="col">{escape(cell)}</th>' if cell else "<td></td>" for cell in header)
    lines = []
    for number, row in enumerate(rows):
        cells = [f'<th scope="row">{escape(row[0])}</th>']
        for column, cell in enumerate(row[1:], 1):
            shade = (shades or {}).get((number, column))
            kind = "" if shade is None else f' class="shade d{_STEP * round(100 / _STEP * min(max(shade, 0), 1))}"'
            cells.append(f"<td{kind}>{escape(cell)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(label)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def cards(figures: Sequence[tuple[str, str, str]]) -> str:
    """Format figures as cards: name, value and a line below, in plain text."""
    return f'<div class="cards">{"".join(_card(*(escape(text) for text in figure)) for figure in figures)}</div>'


def paragraph(text: str) -> str:
    """Format a paragraph of plain text as HTML."""
    return f"<p>{escape(text)}</p>"


def bullets(texts: Iterable[str]) -> str:
    """Format plain texts as a list."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def fold(summary: str, content: str) -> str:
    """Hide HTML behind a line of plain text that opens it."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def figure(image: Image.Image, *, words: str, format_name: str = "PNG", scale: float = 1.0, quality: int = 88) -> str:
    """Embed a picture in the page.

    Args:
        image: RGB.
        words: Alternative text.
        format_name: ``"PNG"`` for curves, ``"JPEG"`` for photographs.
        scale: Pixels of the page for each pixel of the picture, where there is room.
        quality: Of a JPEG.
    """
    file = io.BytesIO()
    image.save(file, format_name, quality=quality, optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    source = f"data:image/{format_name.lower()};base64,{data}"
    width, height = (round(scale * side) for side in image.size)
    return f'<img src="{source}" alt="{escape(words)}" width="{width}" height="{height}">'


def _is_visible(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"


def _spelled(letter: str) -> str:
    if letter in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[letter]
    return letter.encode("ascii", "backslashreplace").decode() if ord(letter) > 127 else f"\\x{ord(letter):02x}"


def _card(name: str, value: str, below: str) -> str:
    return f'<div class="card"><span>{name}</span><b>{value}</b><small>{below}</small></div>'


GENERATOR = "deepfake-detect"
"""How every page begins its mark of the program that wrote it."""

_STEP = 5  # percent: depths of a shaded cell
_DEPTHS = "".join(f".d{depth} {{ --depth: {depth}%; }}\n" for depth in range(0, 101, _STEP))
_STYLE = (
    _DEPTHS
    + """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --soft: #5c5f63; --line: #d8dadd; --ground: #f4f5f7;
  --blue: #00659e; --warn: #fdf1da; --warn-line: #b97800; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e8e8e8; --soft: #a9adb2;
  --line: #3a4046; --ground: #1d2125; --blue: #6cc0f0; --warn: #3a2f18; --warn-line: #e69f00; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .7rem; }
a { color: var(--blue); }
.lead, p, li { max-width: 52rem; }
.lead, p { margin: .4rem 0 .8rem; }
.lead, small, .card span { color: var(--soft); }
.warning { background: var(--warn); border-left: 4px solid var(--warn-line); padding: .6rem .9rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .7rem; }
.card { background: var(--ground); border-radius: .5rem; padding: .7rem .9rem; display: flex; flex-direction: column; }
.card span { font-size: .85rem; }
.card b { font-size: 1.6rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.card small { font-size: .78rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
tr > :first-child { text-align: left; }
td.shade { background: color-mix(in srgb, var(--blue) calc(var(--depth) * .5), transparent); }
summary { cursor: pointer; color: var(--blue); }
img { display: block; margin-top: 1rem; max-width: min(100%, 58rem); height: auto;
  border-radius: .4rem; background: #fff; }
@media print {
  @page { margin: 15mm 14mm; }
  :root { color-scheme: light; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  h2, h3 { break-after: avoid; }
  p, li, tr, img, figure, .card { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  .wide { overflow: visible; }
}
"""
)
