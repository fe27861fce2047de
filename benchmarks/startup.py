"""How long does it take until the library, or the command, is there?

    python benchmarks/startup.py

Each line is the median and the least of the runs, each in a process of its own, less what Python itself takes to start.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

PROGRAMS = {
    "import deepfake_detect": ["-c", "import deepfake_detect"],
    "deepfake-detect --help": ["-m", "deepfake_detect", "--help"],
    "from deepfake_detect import find_faces": ["-c", "from deepfake_detect import find_faces"],
    "from deepfake_detect import Detector": ["-c", "from deepfake_detect import Detector"],
}


def seconds(program: list[str], *, runs: int) -> list[float]:
    """Time a program in processes of its own; the first run, which fills the caches, does not count."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, *program], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return times[1:]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time the start of the library and of the command.")
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    empty = statistics.median(seconds(["-c", ""], runs=runs))
    for name, program in PROGRAMS.items():
        times = [one - empty for one in seconds(program, runs=runs)]
        print(f"{statistics.median(times):6.3f} s median, {min(times):6.3f} s least   {name}")


if __name__ == "__main__":
    main()
