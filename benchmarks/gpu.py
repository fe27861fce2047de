"""Measure faces per second on a graphics processor, for `predict_many` and for the network alone.

The network alone runs on crops that are already on the device, at each batch size: in float32, with automatic mixed
precision (the way of a detector), with weights in half precision, the same captured as a CUDA graph, and compiled by
torch. Then `predict_many` runs on JPEGs, which it opens in threads. All run in turns; the figures are medians.

    python benchmarks/gpu.py --model xception-fakefaces --count 2000
    python benchmarks/gpu.py --device cpu --count 16 --batch-size 4 --skip compiled      # only to see that it runs
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from predict_many import listed, portraits
from torch import Tensor, nn

from deepfake_detect import Detector
from deepfake_detect.predict.preprocess import to_batch

Way = Callable[[Tensor], Tensor]


def main() -> None:
    """Measure, and print a table."""
    options = read_options()
    detector = Detector.from_pretrained(options.model, device=options.device, backend="torch")
    name = torch.cuda.get_device_name() if detector.device.type == "cuda" else str(detector.device)
    with tempfile.TemporaryDirectory() as folder:
        made = partial(portraits, Path(folder), side_px=options.side_px)
        pictures = listed(options.data, options.count) if options.data else made(options.count)
        crops = [detector.look(path, faces="none").crops[0] for path in pictures[: max(options.batch_size)]]
        rates = measure(detector, crops, pictures, options)
    print(f"{detector} on {name}, torch {torch.__version__}; {len(pictures)} JPEGs of {options.side_px} px\n")
    print("| | batch | faces/s | least to most | of the fastest bare |")
    print("|---|---|---|---|---|")
    best = max(statistics.median(values) for (what, _), values in rates.items() if not what.startswith("predict"))
    for (what, size), values in rates.items():
        rate = statistics.median(values)
        print(f"| {what} | {size} | {rate:.0f} | {min(values):.0f} to {max(values):.0f} | {rate / best:.0%} |")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with a manifest.csv; pictures are made where missing")
    parser.add_argument("--model", default="xception-fakefaces")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--count", type=int, default=2000, help="pictures")
    parser.add_argument("--side-px", type=int, default=600, help="of the pictures that are made")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 32, 128, 512])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip", nargs="*", default=[], help="bare ways that are not measured")
    return parser.parse_args()


def measure(
    detector: Detector, crops: list[np.ndarray], pictures: list[Path], options: argparse.Namespace
) -> dict[tuple[str, int], list[float]]:
    """Give the rates of each way at each batch size, one for each round."""
    runs: dict[tuple[str, int], Callable[[], int]] = {}
    for size in options.batch_size:
        batch = to_batch(
            [crops[number % len(crops)] for number in range(size)], preprocessing=detector.card.preprocessing
        )
        for name, way, network in bare_ways(detector, batch, options.skip):
            runs[name, size] = partial(bare, way, network, detector.device)
        for faces in ("none", "auto"):
            runs[f"predict_many, faces={faces}", size] = partial(many, detector, pictures, size, faces)
    for run in runs.values():
        run()
    rates: dict[tuple[str, int], list[float]] = {key: [] for key in runs}
    for _ in range(options.rounds):
        for key, run in runs.items():
            start = time.perf_counter()
            rates[key].append(run() / (time.perf_counter() - start))
    return rates


def bare_ways(detector: Detector, batch: Tensor, skip: list[str]) -> Iterator[tuple[str, Way, Tensor]]:
    """Give the ways to run the network: their name, the function, and the batch as it takes it."""
    device, cuda = detector.device, detector.device.type == "cuda"
    batch = batch.to(device).contiguous(memory_format=torch.channels_last)
    half = torch.bfloat16 if not cuda or torch.cuda.is_bf16_supported() else torch.float16
    network = copy.deepcopy(detector.model)
    small: nn.Module = copy.deepcopy(network).to(half)
    few = batch.to(half)
    ways: dict[str, Callable[[], tuple[Way, Tensor]]] = {
        "float32": lambda: (network, batch),
        "mixed": lambda: (mixed(network, device, half), batch),
        "half": lambda: (small, few),
        "compiled": lambda: (torch.compile(copy.deepcopy(small), mode="max-autotune"), few),
    }
    if cuda:
        ways["graph"] = lambda: (captured(small, few), few)
    for name, make in ways.items():
        if name not in skip:
            yield name, *make()


def mixed(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Way:
    def run(batch: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype):
            logits: Tensor = network(batch)
        return logits

    return run


def captured(network: nn.Module, batch: Tensor) -> Way:
    """Record what the device does for a batch once, and have it done again without Python."""
    with torch.inference_mode():
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                network(batch)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = network(batch)

    def run(_: Tensor) -> Tensor:
        graph.replay()
        return logits

    return run


def bare(way: Way, batch: Tensor, device: torch.device) -> int:
    """Run a way for a while, and wait for the device."""
    count = max(1, 2048 // len(batch)) if device.type == "cuda" else 2
    with torch.inference_mode():
        for _ in range(count):
            way(batch)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return count * len(batch)


def many(detector: Detector, pictures: list[Path], size: int, faces: str) -> int:
    return sum(1 for _ in detector.predict_many(pictures, batch_size=size, faces=faces))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
