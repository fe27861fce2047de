"""Does jumping to a frame of a video give that frame, and is it faster?

    python benchmarks/seek_video.py FILE... [--frames N]

Every frame is decoded one after the other; then N of them, evenly spaced, are jumped to with CAP_PROP_POS_FRAMES, and
their pixels are compared. Then both ways to these frames are timed.
"""

from __future__ import annotations

import argparse
import time
import zlib

import cv2
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--frames", type=int, default=32)
    options = parser.parse_args()
    for file in options.files:
        prints = fingerprints(file)
        chosen = [int(index) for index in (np.arange(options.frames) + 0.5) * len(prints) / options.frames]
        start = time.perf_counter()
        jumped = jump(file, chosen)
        middle = time.perf_counter()
        go_through(file, chosen)
        end = time.perf_counter()
        wrong = sum(prints[index] != found for index, found in zip(chosen, jumped, strict=True))
        print(
            f"{file}: {len(prints)} frames, {wrong} of {len(chosen)} jumps wrong, "
            f"jumping {middle - start:.2f} s, going through {end - middle:.2f} s",
            flush=True,
        )


def fingerprints(file: str) -> list[int]:
    """Give a checksum of the pixels of each frame."""
    video, found = cv2.VideoCapture(file, cv2.CAP_FFMPEG), []
    while video.grab():
        found.append(zlib.crc32(video.retrieve()[1]))
    return found


def jump(file: str, chosen: list[int]) -> list[int]:
    video, found = cv2.VideoCapture(file, cv2.CAP_FFMPEG), []
    for index in chosen:
        video.set(cv2.CAP_PROP_POS_FRAMES, index)
        read, pixels = video.read()
        found.append(zlib.crc32(pixels) if read else -1)
    return found


def go_through(file: str, chosen: list[int]) -> None:
    video, at = cv2.VideoCapture(file, cv2.CAP_FFMPEG), 0
    for index in chosen:
        while at <= index and video.grab():
            at += 1
        video.retrieve()


if __name__ == "__main__":
    main()
