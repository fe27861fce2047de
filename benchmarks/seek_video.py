"""Compare PyAV and OpenCV: time to go through a video to some frames, time to jump to them, and wrong jumps.

    python benchmarks/seek_video.py FILE... [--frames N] [--rounds N]

All four ways take turns in every round. A jump is wrong where its pixels are not those that the same library gives for
that frame when it goes through the video.
"""

from __future__ import annotations

import argparse
import statistics
import time
import zlib
from collections.abc import Callable

import av
import cv2
import numpy as np

Way = Callable[[str, list[int], list[float]], list[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| file | frames | " + " | ".join(WAYS) + " |\n|---|---|" + "---|" * len(WAYS))
    for file in options.files:
        times_s = stamps(file)
        chosen = [int(index) for index in (np.arange(options.frames) + 0.5) * len(times_s) / options.frames]
        wanted_s = [times_s[index] for index in chosen]
        took: dict[str, list[float]] = {name: [] for name in WAYS}
        hashes: dict[str, list[int]] = {}
        for _ in range(options.rounds):
            for name, way in WAYS.items():
                start = time.perf_counter()
                hashes[name] = way(file, chosen, wanted_s)
                took[name].append(time.perf_counter() - start)
        cells = [cell(name, took[name], hashes) for name in WAYS]
        print(f"| {file.rpartition('/')[2]} | {len(times_s)} | {' | '.join(cells)} |", flush=True)


def cell(name: str, seconds: list[float], hashes: dict[str, list[int]]) -> str:
    library, _, way = name.partition(", ")
    if way == "through":
        return f"{statistics.median(seconds):.2f} s"
    wrong = sum(a != b for a, b in zip(hashes[name], hashes[f"{library}, through"], strict=True))
    return f"{statistics.median(seconds):.2f} s, {wrong} wrong"


def stamps(file: str) -> list[float]:
    """Return the time of every frame in the order in which they are shown."""
    with av.open(file) as container:
        return [frame.time for frame in container.decode(video=0)]


def pyav_through(file: str, chosen: list[int], _: list[float]) -> list[int]:
    frames, hashes = set(chosen), []
    with av.open(file) as container:
        container.streams.video[0].thread_type = "AUTO"
        for index, frame in enumerate(container.decode(video=0)):
            if index in frames:
                hashes.append(zlib.crc32(frame.to_ndarray(format="rgb24")))
            if index == chosen[-1]:
                break
    return hashes


def pyav_jump(file: str, _: list[int], wanted_s: list[float]) -> list[int]:
    hashes = []
    with av.open(file) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for time_s in wanted_s:
            container.seek(int(time_s / stream.time_base), stream=stream)
            frame = next((f for f in container.decode(stream) if f.time >= time_s - 1e-4), None)
            hashes.append(zlib.crc32(frame.to_ndarray(format="rgb24")) if frame else -1)
    return hashes


def opencv_through(file: str, chosen: list[int], _: list[float]) -> list[int]:
    video, at, hashes = cv2.VideoCapture(file, cv2.CAP_FFMPEG), 0, []
    for index in chosen:
        while at <= index and video.grab():
            at += 1
        read, pixels = video.retrieve()
        hashes.append(zlib.crc32(pixels) if read else -1)
    return hashes


def opencv_jump(file: str, chosen: list[int], _: list[float]) -> list[int]:
    video, hashes = cv2.VideoCapture(file, cv2.CAP_FFMPEG), []
    for index in chosen:
        video.set(cv2.CAP_PROP_POS_FRAMES, index)
        read, pixels = video.read()
        hashes.append(zlib.crc32(pixels) if read else -1)
    return hashes


WAYS: dict[str, Way] = {
    "PyAV, through": pyav_through,
    "OpenCV, through": opencv_through,
    "PyAV, jumps": pyav_jump,
    "OpenCV, jumps": opencv_jump,
}


if __name__ == "__main__":
    main()
