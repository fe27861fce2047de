"""How long does the exported page take in headless Chromium, from a cold start and later?

Each round starts a new browser with an empty profile: the time from opening the address to the first verdict, then the
times of further pictures, from choosing each to its verdict on the page. Beside each time stands that of the processor,
of all processes of the browser together, which other programs do not lengthen much. Needs node, Chromium, and
playwright-core below NODE_PATH.

    NODE_PATH=~/.cache/deepfake-detect/node/node_modules python benchmarks/browser_times.py --model mobile-fakefaces
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from deepfake_detect import Detector
from deepfake_detect.export.site import SiteReport, export_site

ROOT = Path(__file__).parents[1]
DRIVER = ROOT / "tests" / "export" / "drive_page.mjs"
PICTURES = ["portrait.jpg", "portrait_fake.jpg", "portrait.jpg", "portrait_fake.jpg"]


def main() -> None:
    """Export, visit, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["mobile-fakefaces"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--args", nargs="*", default=[], help="of Chromium, without the dashes")
    parser.add_argument("--webgpu", action="store_true")
    options = parser.parse_args()
    print(
        "| weights | page, MB | run by | first verdict, s | of the processor | later verdicts, s | of the processor |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in options.model:
        detector = Detector.from_pretrained(name, device="cpu", dtype="float32", backend="torch")
        with tempfile.TemporaryDirectory() as folder:
            report = export_site(detector, folder, webgpu=options.webgpu or None)
            visits = [visit(report, [f"--{arg}" for arg in options.args]) for _ in range(options.rounds)]
        print_row(report, visits)


def visit(report: SiteReport, arguments: list[str]) -> dict[str, Any]:
    """Open the page in a new browser, and score the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        job, result = Path(folder, "job.json"), Path(folder, "result.json")
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        pictures = [str(ROOT / "examples" / name) for name in PICTURES]
        job.write_text(
            json.dumps({"site": str(report.path), "chromium": chromium, "pictures": pictures, "args": arguments})
        )
        subprocess.run(["node", DRIVER, job, result], check=True)
        answer: dict[str, Any] = json.loads(result.read_text())
    return answer


def print_row(report: SiteReport, visits: list[dict[str, Any]]) -> None:
    """Print the medians, and the range of the first verdict."""
    first = sorted(one["first_ms"] / 1000 for one in visits)
    later = statistics.median(time for one in visits for time in one["later_ms"]) / 1000
    first_cpu, later_cpu = (statistics.median(one[f"{name}_cpu_s"] for one in visits) for name in ("first", "later"))
    engine = visits[0]["about"].partition("run by ")[2].partition(".")[0]
    print(
        f"| {report.model} | {report.size_bytes / 1e6:.2f} | {engine} "
        f"| {statistics.median(first):.2f} ({first[0]:.2f} to {first[-1]:.2f}) | {first_cpu:.2f} "
        f"| {later:.2f} | {later_cpu:.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
