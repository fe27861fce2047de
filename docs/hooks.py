"""Show the pages of the repository root on the site, and lead links to them. For mkdocs; no part of the package."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {  # file in the repository: page on the site
    "MODELS.md": "models.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "recipes/README.md": "recipes.md",
    "examples/README.md": "examples.md",
}
MANY_COLUMNS = 4
"""From so many on a table does not fit the width of a telephone without breaking words."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages of the root."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, page, content=_linked(text, Path(source).parent)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Lead links out of docs/ to the pages of the site."""
    return _linked(markdown, Path("docs")) if page.file.generated_by is None else markdown


def on_page_content(html: str, **_: Any) -> str:
    """Give each cell of a table with many columns the name of its column, for telephones; see wrap.css."""
    return re.sub(r"<table>.*?</table>", lambda table: _named_cells(table[0]), html, flags=re.DOTALL)


def _named_cells(table: str) -> str:
    names = [re.sub(r"<[^>]+>", "", name).replace('"', "&quot;") for name in re.findall(r"<th[^>]*>(.*?)</th>", table)]
    if len(names) < MANY_COLUMNS:
        return table
    cells = iter(range(table.count("<td")))
    named = re.sub(r"<td", lambda _: f'<td data-name="{names[next(cells) % len(names)]}"', table)
    return named.replace("<table>", '<table data-many="">', 1)


def _linked(text: str, folder: Path) -> str:
    """Turn links between files of the repository into links between pages.

    Args:
        text: Markdown.
        folder: Of its file, relative to the root.
    """
    up = "" if folder == Path() else "../"
    for source, page in PAGES.items():
        text = text.replace(f"]({up}{source}", f"]({page}")
    return text if folder == Path("docs") else text.replace(f"]({up}docs/", "](")
