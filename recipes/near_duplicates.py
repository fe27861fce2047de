"""Look for pictures of the train split that stand in another split too, under another group.

Usage:
    python -m recipes.near_duplicates --faces FACES [--without dfdc] [--leave-out 7]

Faces are compared by a difference hash of 256 bits (Krawetz 2013): whether each place is brighter than the one to its
left. Pairs that differ in few bits are listed, the nearest first; look at them before you believe them. With
``--leave-out``, pictures of the train split that are so near to another one get a split of their own in the table, and
are learned from no more. Not while `recipes.face_table` runs.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from deepfake_detect.faces.crop import crop_face
from recipes.face_table import TABLE, KeptFace, read_table

LEFT_OUT = "left out"

SIDE = 16
BITS_APART = 20
"""Pairs up to this far apart are listed; pictures of different persons are some 128 apart."""


def difference_hash(face: KeptFace) -> np.ndarray:
    """Give the bits of a face [256], of its crop with a margin."""
    crop = crop_face(face.load(), face.box_xyxy, margin=1.2, size_px=64, interpolation="mipmap")  # type: ignore[arg-type]
    grey = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(grey[:, 1:] > grey[:, :-1]).ravel()


def near(learned: Sequence[KeptFace], held: Sequence[KeptFace], *, apart: int) -> list[tuple[int, KeptFace, KeptFace]]:
    """List pairs of different groups whose hashes are at most so many bits apart, the nearest first."""
    signs = [np.array([difference_hash(face) for face in faces], np.float32) * 2 - 1 for faces in (learned, held)]
    pairs = []
    for at in range(0, len(learned), 2048):
        agreeing = signs[0][at : at + 2048] @ signs[1].T  # bits alike less bits apart
        for row, column in zip(*np.nonzero(agreeing >= SIDE * SIDE - 2 * apart), strict=True):
            first, second = learned[at + row], held[column]
            if first.group != second.group:
                pairs.append((int(SIDE * SIDE - agreeing[row, column]) // 2, first, second))
    return sorted(pairs, key=lambda pair: pair[0])


def leave_out(table: Path, names: set[str]) -> None:
    """Give pictures a split that nobody learns from, in a table of faces."""
    entries = [json.loads(line) for line in table.read_text("utf-8").splitlines()]
    for entry in entries:
        if entry["name"] in names:
            entry["split"] = LEFT_OUT
    partial = table.with_suffix(".partial")
    partial.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
    os.replace(partial, table)


def main() -> None:
    """Read the command line and list pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, help="folder of the tables of faces")
    parser.add_argument("--without", nargs="*", default=[], help="sources to leave out")
    parser.add_argument("--leave-out", type=int, metavar="BITS", help="pictures to learn from that are so near")
    parser.add_argument("--apart", type=int, default=BITS_APART, help="bits")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    faces = [face for face in read_table(options.faces / TABLE) if face.source not in options.without]
    learned = [face for face in faces if face.split == "train"]
    held = [face for face in faces if face.split in ("val", "test")]
    pairs = near(learned, held, apart=options.apart)
    print(f"{len(learned)} pictures to learn from, {len(held)} held back, {len(pairs)} pairs of different groups alike")
    for bits, first, second in pairs:
        print(bits, first.name, second.name)
    if options.leave_out is not None:
        near_ones = {first.name for bits, first, _ in pairs if bits <= options.leave_out}
        leave_out(options.faces / TABLE, near_ones)
        print(f"{len(near_ones)} pictures are learned from no more")


if __name__ == "__main__":
    main()
