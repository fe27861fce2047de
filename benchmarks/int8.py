"""Measure the speed of a detector in int8, and how its verdicts change.

    pip install nncf
    python benchmarks/int8.py --data DATA --model xception-fakefaces mobile-fakefaces meso4-fakefaces

NNCF quantises the graph that OpenVINO runs, with the statistics of 300 faces of the train split; the faces of the test
split are scored in float32 and in int8. Not part of the library: see docs/speed.md for why.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino

from deepfake_detect.datasets.crops import find_crops
from deepfake_detect.datasets.face_cache import FaceStore
from deepfake_detect.datasets.read import read_dataset
from deepfake_detect.engines.openvino_graph import build_graph
from deepfake_detect.engines.outline import known_outline
from deepfake_detect.predict.preprocess import normalise
from deepfake_detect.predict.verdict import judge
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.weights.bundle import find_bundle, read_weights, tensors_in
from deepfake_detect.weights.card import Card

STATISTICS = 300


def main() -> None:
    """Quantise, score, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--model", nargs="+", default=["xception-fakefaces"])
    options = parser.parse_args()
    nncf.set_log_level(logging.ERROR)
    print("| weights | float32, ms | int8, ms | faces | labels changed | score moved, most | 99 % by less |")
    print("|---|---|---|---|---|---|---|")
    for name in options.model:
        bundle = find_bundle(name)
        card, size_px = bundle.card, bundle.card.preprocessing.size_px
        outline = known_outline(card.architecture)
        assert outline is not None
        content = read_weights(bundle)
        graph = build_graph(outline, tensors_in(content), size_hw=(size_px, size_px))
        some = list(faces(options.data, "train", card, count=STATISTICS))
        small = nncf.quantize(graph, nncf.Dataset(some), subset_size=STATISTICS)
        compare(card, one_thread(graph), one_thread(small), faces(options.data, "test", card))


def faces(data: Path, split: str, card: Card, *, count: int | None = None) -> Iterator[np.ndarray]:
    """Give faces as the network takes them, spread over a split."""
    store = FaceStore()
    samples = find_crops(read_dataset(data / "manifest.csv", splits=[split]), store).samples
    crops = CropDataset(samples, store, preprocessing=card.preprocessing)
    for index in np.linspace(0, len(crops) - 1, count or len(crops)).astype(int):
        yield normalise([crops[int(index)][0].numpy()], preprocessing=card.preprocessing)


def one_thread(graph: Any) -> Any:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
    return openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()


def compare(card: Card, exact: Any, rough: Any, pictures: Iterable[np.ndarray]) -> None:
    """Ask both in turns, and print a line."""
    seconds: dict[Any, list[float]] = {exact: [], rough: []}
    verdicts: dict[Any, list[tuple[float, str]]] = {exact: [], rough: []}
    for picture in pictures:
        for request in (exact, rough):
            start = time.perf_counter()
            logit = float(request.infer({0: picture})[0].ravel()[0])
            seconds[request].append(time.perf_counter() - start)
            verdicts[request].append(judge(logit, card=card))
    pairs = list(zip(verdicts[exact], verdicts[rough], strict=True))
    moved = np.abs([before[0] - after[0] for before, after in pairs])
    changed = sum(before[1] != after[1] for before, after in pairs)
    times = [1000 * statistics.median(seconds[request]) for request in (exact, rough)]
    cells = f"{len(pairs)} | {changed} | {moved.max():.2g} | {np.quantile(moved, 0.99):.2g}"
    print(f"| `{card.id}` | {times[0]:.1f} | {times[1]:.1f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
