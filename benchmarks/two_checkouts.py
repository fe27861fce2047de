"""Compare the start times and the throughput of two checkouts, in turns.

    python benchmarks/two_checkouts.py BEFORE NOW --rounds 5 [--models meso4-fakefaces]

Every program is a process of its own, with one of the checkouts first on ``PYTHONPATH``. Start times are the seconds
until the process has ended. Throughput is that of `predict_many` on JPEGs of 600 px in memory, in pictures a second,
after some that warm up. For both: the median of the wall clock, and of the processor time, which other programs on the
machine change less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
VERDICT = "from deepfake_detect import Detector; Detector.from_pretrained({!r}, backend={!r}).predict('portrait.jpg')"
THROUGHPUT = """
import io, resource, time
from PIL import Image
from deepfake_detect import Detector
def spent():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
file = io.BytesIO()
Image.open("portrait.jpg").convert("RGB").resize((600, 600)).save(file, "JPEG", quality=90)
detector, pictures = Detector.from_pretrained({!r}, device="cpu", backend={!r}), [file.getvalue()] * {}
list(detector.predict_many(pictures[:12]))
start, processor = time.perf_counter(), spent()
list(detector.predict_many(pictures))
print(len(pictures) / (time.perf_counter() - start), len(pictures) / (spent() - processor))
"""
MODELS = {"meso4-fakefaces": 160, "xception-fakefaces": 48}
"""Packaged detectors, and the number of pictures for each."""


def programs(models: list[str]) -> dict[str, tuple[str, str]]:
    """Return the programs with their names and units."""
    found = {"import deepfake_detect": ("s", "import deepfake_detect"), "import torch": ("s", "import torch")}
    for backend in ("torch", "openvino"):
        found |= {f"first verdict, {backend}, {name}": ("s", VERDICT.format(name, backend)) for name in models}
    for backend in ("torch", "openvino"):
        for name in models:
            found[f"predict_many, {backend}, {name}"] = ("pictures/s", THROUGHPUT.format(name, backend, MODELS[name]))
    return found


def measure(unit: str, program: str, checkout: Path) -> tuple[float, float]:
    """Run a program with a checkout, and return its figure by the wall clock and by processor time."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=EXAMPLES, env=environment, capture_output=True, text=True
    )
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise RuntimeError(done.stderr)
    if unit == "s":
        return wall, after.children_user + after.children_system - before.children_user - before.children_system
    by_wall, by_processor = map(float, done.stdout.split())
    return by_wall, by_processor


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("now", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    options = parser.parse_args()
    figures: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for number in range(options.rounds):
        for name, (unit, program) in programs(options.models).items():
            sides = [("before", options.before), ("now", options.now)]
            for side, checkout in sides if number % 2 == 0 else reversed(sides):
                figures[name, side].append(measure(unit, program, checkout))
    print("| | unit | before | now | before, processor time | now, processor time |\n|---|---|---|---|---|---|")
    for name, (unit, _) in programs(options.models).items():
        wall = [statistics.median(one[0] for one in figures[name, side]) for side in ("before", "now")]
        processor = [statistics.median(one[1] for one in figures[name, side]) for side in ("before", "now")]
        print(f"| {name} | {unit} | {' | '.join(f'{value:.2f}' for value in wall + processor)} |")


if __name__ == "__main__":
    main()
