"""Format tables for a terminal, and compose self-contained HTML pages."""

from __future__ import annotations

import base64
import html
import io
import math
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


def write_page(*, title: str, lead: str, warnings: Sequence[str], parts: Sequence[tuple[str, str]]) -> str:
    """Compose a page: one file, with nothing to fetch and no script.

    Args:
        title: Plain text.
        lead: Plain text below the title.
        warnings: Plain text, highlighted.
        parts: Heading, and content below it as HTML: `table`, `figure`, `paragraph`.

    Returns:
        A whole HTML document.
    """
    notes = "".join(f'<p class="warning">{html.escape(text)}</p>' for text in warnings)
    body = "".join(f"<section><h2>{html.escape(heading)}</h2>{content}</section>" for heading, content in parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{html.escape(title)}</h1><p class='lead'>{html.escape(lead)}</p>{notes}{body}</main></body>"
        "</html>\n"
    )


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, shades: Mapping[tuple[int, int], float] | None = None
) -> str:
    """Format a table as HTML.

    Args:
        header: Plain text.
        rows: Plain text; the first cell is the name of the row.
        shades: Row and column of a cell to 0 (bad) .. 1 (good), shown as the depth of the background.
    """
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = []
    for number, row in enumerate(rows):
        cells = [f"<th>{html.escape(row[0])}</th>"]
        for column, cell in enumerate(row[1:], 1):
            shade = (shades or {}).get((number, column))
            style = "" if shade is None else f' style="--depth:{100 * min(max(shade, 0), 1):.0f}%" class="shade"'
            cells.append(f"<td{style}>{html.escape(cell)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def cards(figures: Sequence[tuple[str, str, str]]) -> str:
    """Format figures as cards: name, value and a line below, in plain text."""
    return f'<div class="cards">{"".join(_card(*(html.escape(text) for text in figure)) for figure in figures)}</div>'


def paragraph(text: str) -> str:
    """Format a paragraph of plain text as HTML."""
    return f"<p>{html.escape(text)}</p>"


def fold(summary: str, content: str) -> str:
    """Hide HTML behind a line of plain text that opens it."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"


def figure(image: Image.Image, *, words: str, format_name: str = "PNG", scale: float = 1.0) -> str:
    """Embed a picture in the page.

    Args:
        image: RGB.
        words: Alternative text.
        format_name: ``"PNG"`` for curves, ``"JPEG"`` for photographs.
        scale: Pixels of the page for each pixel of the picture, where there is room.
    """
    file = io.BytesIO()
    image.save(file, format_name, quality=88, optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    source = f"data:image/{format_name.lower()};base64,{data}"
    return f'<img src="{source}" alt="{html.escape(words)}" width="{round(scale * image.width)}">'


def _card(name: str, value: str, below: str) -> str:
    return f'<div class="card"><span>{name}</span><b>{value}</b><small>{below}</small></div>'


_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --soft: #666; --line: #e2e2e2; --ground: #f6f7f9;
  --blue: #0072b2; --warn: #fdf1da; --warn-line: #e69f00; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e8e8e8; --soft: #a0a4a8; --line: #30353a;
  --ground: #1d2125; --blue: #56b4e9; --warn: #3a2f18; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .7rem; }
.lead, p { max-width: 52rem; margin: .4rem 0 .8rem; }
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
"""
