"""Look at the pages in Chromium, where it is installed: do they fit a phone, fetch nothing, and satisfy axe-core?

axe-core, which checks a page for those who use a screen reader, is taken from where ``.ci/run`` installs it.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from typing import Any

import pytest
from PIL import Image

from deepfake_detect.drawing.html import table, write_page
from deepfake_detect.reporting.page import IndexEntry, compose_index
from tests.small_world import CACHE, PORTRAIT, small_detector

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = CACHE / "node" / "node_modules" / "axe-core" / "axe.min.js"
PHONE_PX = 390
MEASURE = """
async function measure(frame, name) {
  const inside = frame.contentWindow, page = frame.contentDocument;
  return {name, wide: page.documentElement.scrollWidth, fetched: inside.performance.getEntriesByType("resource").length,
    styled: inside.getComputedStyle(page.querySelector("main")).boxSizing,
    pictures: [...page.images].every(image => image.naturalWidth > 0),
    axe: inside.axe && (await inside.axe.run()).violations.map(({impact, id, nodes}) => [impact, id, nodes[0].html])};
}
addEventListener("load", async () => {
  const found = [];
  for (const frame of document.querySelectorAll("iframe")) found.push(await measure(frame, frame.title));
  document.querySelector("pre").textContent = JSON.stringify(found);
});
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Open each page as it is, and a copy that lets axe-core run, in frames as wide as a phone."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    folder = tmp_path_factory.mktemp("browser")
    report = small_detector().report(PORTRAIT)
    entries = [
        IndexEntry(
            name="album/" + 40 * "long" + ".jpg",
            label="fake",
            headline="Called fake",
            page="a.html",
            thumb=Image.new("RGB", (9, 9)),
        ),
        IndexEntry(name="b.jpg", label="error", headline="No report: no such file"),
    ]
    pages = {
        "report": report.to_html(case_file="case.json", case_sha256=64 * "0", index_file="index.html"),
        "index": compose_index(entries),
        "figures": write_page(title="Audit", lead="Lead", warnings=["!"], parts=[("A", table([*"abc"], [["x"] * 3]))]),
    }
    frames = [_frame(name, page) for name, page in pages.items()]
    if AXE.is_file():
        frames += [_frame(f"{name} by axe", _with_axe(page)) for name, page in pages.items()]
    target = folder / "all.html"
    target.write_text(f"<!doctype html><pre></pre>{''.join(frames)}<script>{MEASURE}</script>", encoding="utf-8")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000", "--dump-dom", target.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=True)
    content = re.search("<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    assert content is not None, done.stderr
    return {one["name"]: one for one in json.loads(html.unescape(content[1]))}


def _frame(name: str, page: str) -> str:
    return f'<iframe title="{name}" width="{PHONE_PX}" height="800" srcdoc="{html.escape(page)}"></iframe>'


def _with_axe(page: str) -> str:
    allowed = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    return allowed.replace("</head>", f"<script>{AXE.read_text('utf-8')}</script></head>")


@pytest.mark.parametrize("name", ["report", "index", "figures"])
def test_pages_fit_a_phone_and_fetch_nothing(seen: dict[str, Any], name: str) -> None:
    page = seen[name]
    assert page["wide"] <= PHONE_PX and page["fetched"] == 0
    assert page["pictures"] and page["styled"] == "border-box"  # the policy lets pictures and the style sheet through


@pytest.mark.parametrize("name", ["report", "index", "figures"])
def test_axe_finds_nothing(seen: dict[str, Any], name: str) -> None:
    if not AXE.is_file():
        pytest.skip(f"no {AXE}; .ci/run installs it")
    assert seen[f"{name} by axe"]["axe"] == []
