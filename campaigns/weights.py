"""Attack the loading of weights: flipped bits and forged tensors on torch, OpenVINO and ONNX, forged cards.

Run from the root of the repository: ``python -m campaigns.weights [--flips N] [--forgeries N] [--seconds S]``. A case
passes where an error of the package refuses the bundle. Forgeries have cards with checksums that are right, as whoever
forges weights would write them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from campaigns._table import Table, until
from deepfake_detect import Detector
from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.card_check import checksum_of

NAME = "meso4-fakefaces"  # the smallest of the packaged ones
GREY = np.full((64, 64, 3), 127, np.uint8)

Header = dict[str, Any]


def flips(folder: Path, *, count: int, rng: random.Random) -> Iterator[tuple[str, str, Path]]:
    """Yield a folder again and again, each time with one flipped bit in the weights or in the card."""
    for number in range(count):
        name = "card.json" if number % 4 == 0 else "model.safetensors"
        content = bytearray((folder / name).read_bytes())
        place, bit = rng.randrange(len(content)), rng.randrange(8)
        content[place] ^= 1 << bit
        with _replaced(folder, name, bytes(content)) as forged:
            yield f"flip in {name}", f"bit {bit} of byte {place}", forged


def forged_tensors(folder: Path, *, count: int, rng: random.Random) -> Iterator[tuple[str, str, Path]]:
    """Yield a folder with forged weights and a card that fits their bytes."""
    content = (folder / "model.safetensors").read_bytes()
    for number in range(count):
        kind, change = list(FORGERIES.items())[number % len(FORGERIES)]
        header, body = _split(content)
        change(header, body, rng)
        text = json.dumps(header).encode()
        yield from _with_weights(folder, f"forged: {kind}", struct.pack("<Q", len(text)) + text + bytes(body))
    for kind, whole in WHOLE_FILES.items():
        yield from _with_weights(folder, f"forged: {kind}", whole(content))


def forged_cards(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield a folder with a card of wrong values whose checksum is right."""
    for path, values in CARDS.items():
        for value in values:
            card = json.loads((folder / "card.json").read_text())
            fields, _, name = path.rpartition(".")
            (card[fields] if fields else card)[name] = value
            card["checksum"] = checksum_of(card)
            with _replaced(folder, "card.json", json.dumps(card).encode()) as forged:
                yield "forged card", f"{path} = {value!r:.60}", forged


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--forgeries", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=300, help="time for each part")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table, rng = Table(), random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(find_bundle(NAME).folder, Path(scratch) / "bundle"))
        parts = [
            forged_cards(folder),
            forged_tensors(folder, count=options.forgeries, rng=rng),
            flips(folder, count=options.flips, rng=rng),
        ]
        for part in parts:
            for kind, what, forged in until(options.seconds, part):
                for backend in ("torch", "openvino"):
                    table.count(f"{kind}, {backend}", _load(forged, what, backend=backend))
        for kind, what, forged in until(options.seconds, onnx_flips(Path(scratch), options.flips // 4, rng)):
            table.count(kind, _load(forged, what, backend="auto"))
    return table.print()


def onnx_flips(scratch: Path, count: int, rng: random.Random) -> Iterator[tuple[str, str, Path]]:
    """Yield an ONNX file of the detector with one flipped bit."""
    path = scratch / "model.onnx"
    Detector.from_pretrained(NAME).export(path)
    content = path.read_bytes()
    for _ in range(count):
        damaged, place, bit = bytearray(content), rng.randrange(len(content)), rng.randrange(8)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        yield "flip in an ONNX file", f"bit {bit} of byte {place}", path


def _load(path: Path, what: str, *, backend: str) -> str | None:
    """Return what happened in place of a refusal."""
    try:
        detector = Detector.from_pretrained(path, backend=backend)
        prediction = detector.predict(GREY, faces="none")
    except DeepfakeDetectError:
        return None
    except Exception as error:
        return f"{what}: {type(error).__name__}: {error}"
    return f"{what}: loaded, and said {prediction.label} {prediction.score:.3f}"


class _replaced:  # noqa: N801 - a context manager
    """Replace a file of a folder for the time of a block."""

    def __init__(self, folder: Path, name: str, content: bytes) -> None:
        self.folder, self.path, self.content = folder, folder / name, content

    def __enter__(self) -> Path:
        self.before = self.path.read_bytes()
        self.path.write_bytes(self.content)
        return self.folder

    def __exit__(self, *_: object) -> None:
        self.path.write_bytes(self.before)


def _with_weights(folder: Path, kind: str, content: bytes) -> Iterator[tuple[str, str, Path]]:
    card = json.loads((folder / "card.json").read_text())
    card["sha256"] = hashlib.sha256(content).hexdigest()
    card["checksum"] = checksum_of(card)
    with (
        _replaced(folder, "model.safetensors", content),
        _replaced(folder, "card.json", json.dumps(card).encode()) as forged,
    ):
        yield kind, kind, forged


def _split(content: bytes) -> tuple[Header, bytearray]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])


def _any(header: Header, rng: random.Random, *, of: tuple[str, ...] = ()) -> str:
    names = [name for name, entry in header.items() if name != "__metadata__" and (not of or entry["dtype"] in of)]
    return rng.choice(names)


def _set(key: str, *values: Any) -> Callable[[Header, bytearray, random.Random], None]:
    def change(header: Header, body: bytearray, rng: random.Random) -> None:
        name = _any(header, rng)
        header[name][key] = rng.choice([value for value in values if value != header[name][key]])

    return change


def _not_finite(header: Header, body: bytearray, rng: random.Random) -> None:
    name = _any(header, rng, of=("F16", "F32"))
    start, half = header[name]["data_offsets"][0], header[name]["dtype"] == "F16"
    nan, infinite = (b"\x00\x7e", b"\x00\x7c") if half else (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f")
    number = rng.choice((nan, infinite))
    body[start : start + len(number)] = number


def _one_more(header: Header, body: bytearray, rng: random.Random) -> None:
    header[f"more{rng.randrange(100)}"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(body), len(body) + 4]}
    body.extend(bytes(4))


def _last_missing(header: Header, body: bytearray, rng: random.Random) -> None:
    name = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"][1])
    del body[header.pop(name)["data_offsets"][0] :]


def _renamed(header: Header, body: bytearray, rng: random.Random) -> None:
    name = _any(header, rng)
    header[rng.choice((f"{name}2", name.upper(), f"../{name}", ""))] = header.pop(name)


def _swapped(header: Header, body: bytearray, rng: random.Random) -> None:
    names = [name for name in header if name != "__metadata__"]
    first = rng.choice(names)
    second = rng.choice([name for name in names if header[name]["shape"] != header[first]["shape"]])
    header[first], header[second] = header[second], header[first]


def _overlapping(header: Header, body: bytearray, rng: random.Random) -> None:
    first, second = rng.sample([name for name in header if name != "__metadata__"], 2)
    header[first]["data_offsets"] = header[second]["data_offsets"] if rng.random() < 0.5 else [0, len(body)]
    if header[first] == header[second]:
        header[first]["data_offsets"] = [1, 3]


FORGERIES: dict[str, Callable[[Header, bytearray, random.Random], None]] = {
    "shape": _set("shape", [1], [-1], [0], [], [2**62], [1.5], "x", None, [[1]]),
    "type": _set("dtype", "I8", "BOOL", "F64", "Q9", None, 7),
    "offsets": _set("data_offsets", [0, 2**60], [-8, 8], [8, 0], [1, 5], [], None, "x"),
    "NaN or infinite": _not_finite,
    "one tensor too many": _one_more,
    "last tensor missing": _last_missing,
    "renamed tensor": _renamed,
    "swapped tensors": _swapped,
    "overlapping tensors": _overlapping,
}
WHOLE_FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty file": lambda content: b"",
    "only a length": lambda content: content[:8],
    "cut in half": lambda content: content[: len(content) // 2],
    "trailing bytes": lambda content: content + bytes(8),
    "header of 2**62 bytes": lambda content: struct.pack("<Q", 2**62) + content[8:],
    "header nested 100,000 times": lambda content: struct.pack("<Q", 100_000) + b"[" * 100_000,
    "pickle": lambda content: b"\x80\x04cos\nsystem\n(S'false'\ntR.",
    "zip": lambda content: b"PK\x03\x04" + content,
}
CARDS: dict[str, tuple[Any, ...]] = {
    "preprocessing.size_px": (0, -1, 30_000, 256.5, "256", None, True, [256], 10**30),
    "preprocessing.margin": (0, -1, 1e300, "1", None, float("nan")),
    "preprocessing.mean": ([1e30] * 3, [0, 0], "abc", [None] * 3),
    "preprocessing.std": ([0, 1, 1], [1e-300] * 3, 1),
    "preprocessing.interpolation": ("nearest", [], {}, 3, None),
    "preprocessing.finder": ("/etc/passwd", "../x.onnx", "\0", 7, None, "hf://x"),
    "temperature": (5e-324, 0, -1, float("inf"), "1", None),
    "bias": (1e30, "0", None),
    "threshold": (-0.1, 1.1, "0.5", None),
    "uncertain": ([0.9, 0.1], [0.5], "ab", [None, None]),
    "classes": ([], ["fake", "real"], ["a"], 5, [[], {}], ["a"] * 2),
    "architecture": ("\0", "", 5, None, "xception", "timm:hf_hub:x/y", "../x"),
    "name": ("", 5, None, "x" * 201),
    "version": (-1, 1.5, "1", None, 10**15),
    "sha256": ("", "../../x", "0" * 64, 5),
    "schema": (0, 99, "1", None, 1.5),
    "metrics": ([], 5, {"a": float("inf")}),
    "golden": ({"a": "x"}, [1], {"a": 1e300}),
    "more": (1,),
}


if __name__ == "__main__":
    raise SystemExit(main())
