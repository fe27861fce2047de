"""Compare what `predict_many` takes of the processor with and without freed memory kept in the process.

Each run is a process of its own, and the checkouts or settings take turns, so that other load on the machine affects
all alike. Processor time and cleared pages are printed too; other programs disturb them less than wall-clock time.

    python benchmarks/host_memory.py --rounds 5
    python benchmarks/host_memory.py --trees before=../before after=.    # two checkouts
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = """
import resource, sys, tempfile, time
from pathlib import Path
from PIL import Image
from deepfake_detect import Detector
keeps, backend, model, faces, count, side = sys.argv[1:]
if keeps == "kept":
    from deepfake_detect.system.malloc import keep_freed_memory
    keep_freed_memory()
picture = Image.open("examples/portrait.jpg").convert("RGB").resize((int(side), int(side)))
with tempfile.TemporaryDirectory() as folder:
    files = [Path(folder, f"{number}.jpg") for number in range(int(count))]
    for number, file in enumerate(files):
        picture.point([min(255, value + number % 40) for value in range(256)] * 3).save(file, quality=80 + number % 16)
    detector = Detector.from_pretrained(model, device="cpu", backend=backend)
    list(detector.predict_many(files[:8], faces=faces))
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    list(detector.predict_many(files, faces=faces))
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
print(took, cpu, after.ru_stime - before.ru_stime, after.ru_minflt - before.ru_minflt)
"""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=60, help="pictures")
    parser.add_argument("--side-px", type=int, default=600)
    parser.add_argument("--model", default="mobile-fakefaces")
    parser.add_argument("--faces", nargs="+", default=["none", "auto"])
    parser.add_argument("--trees", nargs="+", default=[f"plain={ROOT}", f"kept={ROOT}"], metavar="NAME=FOLDER")
    options = parser.parse_args()
    trees = dict(tree.split("=") for tree in options.trees)
    print("| backend | faces | | pictures/s | of the processor, ms a picture | in the kernel | pages a picture |")
    print("|---|---|---|---|---|---|---|")
    for backend in ("torch", "openvino"):
        for faces in options.faces:
            runs: dict[str, list[list[float]]] = {name: [] for name in trees}
            for _ in range(options.rounds):
                for name, tree in trees.items():
                    runs[name].append(run(name, Path(tree), backend, faces, options))
            for name, rows in runs.items():
                took, cpu, kernel, pages = (statistics.median(column) for column in zip(*rows, strict=True))
                each = 1000 / options.count
                print(
                    f"| {backend} | {faces} | {name} | {options.count / took:.1f} | {cpu * each:.2f} | "
                    f"{kernel * each:.2f} | {pages / options.count:.0f} |",
                    flush=True,
                )


def run(name: str, tree: Path, backend: str, faces: str, options: argparse.Namespace) -> list[float]:
    """Measure once in a process of its own; trees whose name begins with "kept" keep freed memory."""
    keeps = "kept" if name.startswith("kept") else "plain"
    command = [
        sys.executable,
        "-c",
        RUN,
        keeps,
        backend,
        options.model,
        faces,
        str(options.count),
        str(options.side_px),
    ]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


if __name__ == "__main__":
    main()
