"""Attack the reader of metadata: files made to be slow or large, and thousands of damaged ones.

    python benchmarks/hostile_metadata.py [--minutes 10] [--seed 0]

Prints processor time and peak memory of each made file, then of the slowest damaged ones. A damaged file is a made one
whose bytes were changed, whose numbers were replaced by extreme ones, that was cut, doubled, or joined with another.
Anything but findings or a `DeepfakeDetectError` is reported and makes the exit status 1. Run from the root.
"""

from __future__ import annotations

import argparse
import heapq
import struct
import sys
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepfake_detect import DeepfakeDetectError, inspect_metadata
from tests.provenance import made_files as made
from tests.provenance.authority import sign
from tests.provenance.test_hostile import HOSTILE
from tests.provenance.test_inspector import CASES
from tests.provenance.test_thumbnail import scene, with_thumbnail

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MOST_SECONDS = 1.0


def measure(data: bytes, *, memory: bool = False) -> tuple[float, int, str]:
    """Inspect a file: seconds of the processor, peak of traced memory, and what went wrong."""
    if memory:
        tracemalloc.start()
    began = time.process_time()
    wrong = ""
    try:
        inspect_metadata(data).to_json()
    except DeepfakeDetectError:
        pass
    except BaseException as error:
        wrong = f"{type(error).__name__}: {error}\n{''.join(traceback.format_tb(error.__traceback__)[-2:])}"
    seconds = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1] if memory else 0
    if memory:
        tracemalloc.stop()
    return seconds, peak, wrong


def made_files() -> Iterator[tuple[str, bytes]]:
    """Yield what mutations begin with: a file of each trace, and signed ones."""
    yield from ((name, case.data) for name, case in CASES.items())
    yield "thumbnail", with_thumbnail(scene(), scene().resize((160, 120)))
    yield "manifest", made.with_chunk(b"caBX", made.manifest_store([made.created()]))
    for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        yield f"signed {name}", sign(made.encode(format_name=name), f"image/{name.lower()}", [made.created()])


def damaged(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """Damage a file in one of six ways, or several."""
    content = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        way, most = int(random.integers(6)), max(2, min(len(content), int(random.choice([300, 2000, len(content)]))))
        place = int(random.integers(1, most))
        if way == 0:
            for at in random.integers(1, most, int(random.integers(1, 20))).tolist():
                content[at] = int(random.integers(256))
        elif way == 1:
            size, order = int(random.choice([1, 2, 4])), str(random.choice(["big", "little"]))
            number = int(random.choice(EXTREMES)) & (256**size - 1)
            content[place : place + size] = number.to_bytes(size, order)  # type: ignore[arg-type]
        elif way == 2:
            del content[place + int(random.integers(8)) :]
        elif way == 3:
            part = bytes(content[place : place + int(random.integers(1, 400))])
            content[place:place] = part * int(random.integers(1, 40))
        elif way == 4:
            start = int(random.integers(len(other)))
            content[place:place] = other[start : start + int(random.integers(1, 3000))]
        else:
            content[place : place + 1] = struct.pack(">I", len(content)) * int(random.integers(1, 4))
        if len(content) < 16:
            break
    return bytes(content)


def main() -> None:
    """Attack, and print what was slow, large or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="for the damaged files")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("error")
    measure(made.encode())  # imports
    failed = False
    print("| file | MB | seconds | peak MB | wrong |\n|---|---|---|---|---|")
    for name, data in HOSTILE.items():
        seconds, _, wrong = measure(data)
        peak = measure(data, memory=True)[1]
        print(f"| {name} | {len(data) / 2**20:.2f} | {seconds:.2f} | {peak / 2**20:.0f} | {wrong} |", flush=True)
        failed |= bool(wrong) or seconds > MOST_SECONDS
    originals, random = list(made_files()), np.random.default_rng(options.seed)
    slowest: list[tuple[float, int, str]] = []
    count, ends = 0, time.monotonic() + 60 * options.minutes
    while time.monotonic() < ends:
        name, original = originals[int(random.integers(len(originals)))]
        data = damaged(original, originals[int(random.integers(len(originals)))][1], random)
        seconds, _, wrong = measure(data)
        count += 1
        if wrong:
            failed = True
            print(f"damaged {count} of {name}: {wrong}", flush=True)
            Path(f"wrong-{count}.bin").write_bytes(data)
        heapq.heappush(slowest, (seconds, count, name))
        slowest = heapq.nlargest(5, slowest)
    slow = ", ".join(f"{seconds:.2f} s ({name})" for seconds, _, name in slowest)
    print(f"\n{count} damaged files, the slowest: {slow}")
    sys.exit(1 if failed or (slowest and slowest[0][0] > MOST_SECONDS) else 0)


if __name__ == "__main__":
    main()
