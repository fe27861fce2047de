"""Attack the reading of pictures: mutated files of ten formats, files cut at every per cent, costly files, odd objects.

Run from the root of the repository: ``python -m campaigns.inputs [--count N] [--seconds S] [--seed N]``. A case passes
where it gives a picture or an error of the package, within ten seconds of a processor.
"""

from __future__ import annotations

import argparse
import io
import random
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from campaigns._table import Table, ends_well, in_child, until
from deepfake_detect.faces.finder import FaceFinder
from deepfake_detect.inputs.image import open_image

FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 90},
    "JPEG progressive": {"progressive": True},
    "PNG": {},
    "WEBP": {"quality": 80},
    "WEBP lossless": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "AVIF": {"speed": 10},
    "JPEG2000": {},
    "PPM": {},
}
SLOW_S = 10.0


def seeds() -> dict[str, bytes]:
    """Return a small picture in every format."""
    with Image.open("examples/portrait.jpg") as portrait:
        small = portrait.convert("RGB").resize((96, 80))
    return {name: _saved(small, name.partition(" ")[0], **options) for name, options in FORMATS.items()}


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Change some bytes: flips, runs, lengths, cuts, copies and insertions."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not data:
            break
        at = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 256))
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice((0, 1, 127, 128, 255))
            case 2:
                data[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 2**16, 2**31 - 1, 2**32 - 1)))
            case 3:
                del data[at : at + rng.randrange(1, 64)]
            case 4:
                data[at:at] = rng.randbytes(rng.randrange(1, 64))
            case 5:
                data[at:at] = data[at : at + rng.randrange(1, 512)]
            case _:
                data[at : at + 32] = bytes(32)
    return bytes(data)


def truncations(files: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield every file, cut at every per cent."""
    for name, content in files.items():
        for percent in range(100):
            yield name, content[: len(content) * percent // 100]


def costly() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield files that ask for much more than their size says."""
    for width, height in ((1, 60_000), (60_000, 1), (100, 60_000), (1, 1_000_000)):
        yield f"strip {width} x {height}", lambda w=width, h=height: png(w, h)
    yield "PNG of 196 MP", lambda: png(14_000, 14_000, depth=1)
    yield "PNG of 85 MP, RGBA", lambda: png(9_200, 9_200, colour=6)
    yield "PNG of 85 MP, 1 bit", lambda: png(9_200, 9_200, depth=1)
    yield "PNG of a million chunks", lambda: _many_chunks(1_000_000)
    yield "JPEG of 3,000 scans", lambda: _many_scans(3_000)
    for kind in ("GIF", "TIFF", "PPM", "BMP"):
        yield f"{kind} of 85 MP", lambda kind=kind: _saved(Image.new("L", (9_200, 9_200)), kind)
    for kind in ("JPEG2000", "WEBP"):  # slow to make
        yield f"{kind} of 25 MP", lambda kind=kind: _saved(Image.new("L", (5_000, 5_000)), kind)
    yield "JPEG of 180 MP", lambda: _saved(Image.new("L", (13_500, 13_500)), "JPEG")


def odd_objects() -> list[Any]:
    """Return what is no picture, or hardly one."""
    arrays = [
        np.zeros(shape, np.uint8) for shape in ((0, 0, 3), (1, 0, 3), (3,), (2, 2, 2), (2, 2, 5), (1, 1, 1, 3), ())
    ]
    arrays += [np.full((4, 4, 3), value) for value in (np.nan, np.inf, -1.0, 1e300, 1 + 2j, True, None, "x", b"x")]
    texts = [
        "",
        "\0",
        "\n",
        "a\nb",
        "\ud800",
        "x" * 4096,
        "x" * 100_000,
        "/",
        ".",
        "~",
        "~nobody/x",
        "é" * 300,
        "//",
        "C:\\x",
    ]
    texts += [
        "http://",
        "http://[",
        "http://[::1",
        "http://a:b:c/",
        "http://\0/",
        "file:///etc/passwd",
        "data:",
        "data:,",
    ]
    texts += [
        "data:image/png;base64,!!!!",
        "ftp://x/y",
        "http://127.0.0.1:99999/",
        "HTTP://",
        "http://x:-1/",
        "http://é\n/",
    ]
    others = [None, 0, 1.5, True, object(), [], {}, set(), lambda: None, type, Exception(), float("nan"), 10**400]
    closed = io.BytesIO(b"x")
    closed.close()
    return [
        *arrays,
        *texts,
        *others,
        closed,
        io.StringIO("text"),
        b"",
        bytearray(),
        memoryview(b"abc")[::2],
        sys.stdout,
    ]


def png(width: int, height: int, *, depth: int = 8, colour: int = 0) -> bytes:
    """Return a PNG of one brightness."""
    row = b"\0" + b"\x80" * -(-width * depth * {0: 1, 2: 3, 6: 4}[colour] // 8)
    packer, at_once = zlib.compressobj(9), max(1, 2**20 // len(row))
    packed = [packer.compress(row * min(at_once, height - top)) for top in range(0, height, at_once)]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join(packed) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="mutated files of each format")
    parser.add_argument("--seconds", type=float, default=300, help="time for the mutated files")
    parser.add_argument("--cheap", action="store_true", help="leave out the files that are slow to make")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table, files = Table(), seeds()
    finder = FaceFinder()
    for value in odd_objects():
        table.count("odd objects", ends_well(lambda value=value: open_image(value)))
    for name, content in truncations(files):
        table.count(f"cut at 1 %, {name}", _read_in_time(content))
    for kind, make in () if options.cheap else costly():
        table.count(
            f"costly: {kind}",
            in_child(lambda make=make: finder.find(open_image(make()).pixels, border=True), memory_mb=1500),
        )
    rng = random.Random(options.seed)
    cases = ((name, mutate(content, rng)) for _ in range(options.count) for name, content in files.items())
    for name, content in until(options.seconds, cases):
        table.count(f"mutated {name}", _read_in_time(content))
    return table.print()


def _read_in_time(content: bytes) -> str | None:
    start = time.process_time()
    problem = ends_well(lambda: open_image(content, max_pixels=10_000_000))
    taken_s = time.process_time() - start
    return problem or (f"took {taken_s:.0f} s of a processor" if taken_s > SLOW_S else None)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _many_chunks(count: int) -> bytes:
    content = png(64, 64)
    return content[:33] + _chunk(b"tEXt", b"a\0b") * count + content[33:]


def _many_scans(count: int) -> bytes:
    content = _saved(Image.new("L", (2000, 2000), 90), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * count + content[-2:]


if __name__ == "__main__":
    raise SystemExit(main())
