"""Compare the throughput of `predict_many` with usual ways to score many pictures.

All score the same JPEGs with the same weights, in turns, so that other load on the machine affects all alike: the
image-classification pipeline of Hugging Face (where transformers is installed), a plain loop around timm's network, the
network of `predict_many` alone on crops in memory, and `predict_many` without and with the search for faces; the last
three with torch, and with OpenVINO where it is installed. The rivals run in a process of their own, so that settings of
this package do not affect them.

    python benchmarks/predict_many.py --model xception-fakefaces --count 500
    python benchmarks/predict_many.py --model efficientnet-b0    # an architecture: with random weights
    python benchmarks/predict_many.py --data FOLDER      # with a manifest.csv that has a column "file"
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import timm
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from deepfake_detect import Card, Detector, Preprocessing, create_model, list_models
from deepfake_detect.engines.openvino_graph import is_installed
from deepfake_detect.faces.crop import whole_picture
from deepfake_detect.models.registry import native_mean_std, native_size_px
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.system.device import count_processors

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"
NETWORKS = {"xception": "legacy_xception", "efficientnet-b0": "efficientnet_b0", "vgg16": "vgg16"}
Run = Callable[[], tuple[float, list[float]]]
"""Gives the seconds that it took, and the logits."""


def main() -> None:
    """Measure, and print a table."""
    options = read_options()
    backends = ["torch", *(["openvino"] if is_installed() else [])]
    detectors = {backend: load(options.model, options.dtype, backend) for backend in backends}
    detector = detectors["torch"]
    with tempfile.TemporaryDirectory() as folder:
        made = partial(portraits, Path(folder), side_px=options.side_px)
        pictures = listed(options.data, options.count) if options.data else made(options.count)
        with Rivals(options, pictures) as rivals:
            runs = rivals.runs() | own_runs(detectors, pictures)
            logits = {name: run()[1] for name, run in runs.items()}  # warm
            seconds: dict[str, list[float]] = {name: [] for name in runs}
            for turn in range(options.rounds):
                for name in list(runs)[:: -1 if turn % 2 else 1]:
                    seconds[name].append(runs[name]()[0])
    print(f"{detector}, {len(pictures)} JPEGs, {options.rounds} rounds; torch {torch.__version__},")
    print(f"{torch.get_num_threads()} threads on {platform.processor() or platform.machine()}\n")
    report(seconds, logits, count=len(pictures))
    print(f"\n{limit(detector)}")


def load(model: str, dtype: str, backend: Any) -> Detector:
    """Load weights, or make random ones of an architecture."""
    if model not in list_models():
        return Detector.from_pretrained(model, device="cpu", dtype=dtype, backend=backend)
    (mean, std), size_px = native_mean_std(model), native_size_px(model)
    prep = Preprocessing(size_px=size_px, mean=mean, std=std)
    card = Card(name=model, version=0, architecture=model, preprocessing=prep)
    network = create_model(model, seed=0)
    return Detector(model=network, card=card, device="cpu", dtype=dtype, backend=backend)


def limit(detector: Detector) -> str:
    """Say how many pictures a second there could be, were the network nothing but large matrix products."""
    side = detector.card.preprocessing.size_px
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        detector.model(torch.zeros(1, 3, side, side))
    needed = counter.get_total_flops()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    matrix, best = torch.rand(1024, 1024).to(detector.dtype), float("inf")
    for _ in range(30):
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    torch.set_num_threads(threads)
    rate = 2 * 1024**3 / best
    return (
        f"one thread multiplies matrices at {rate / 1e9:.0f} GFLOP/s in {str(detector.dtype).removeprefix('torch.')}, "
        f"a picture needs {needed / 1e9:.2f} GFLOP: {threads * rate / needed:.1f} pictures/s at the most"
    )


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with a manifest.csv; pictures are made where missing")
    parser.add_argument("--model", default="xception-fakefaces")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--count", type=int, default=500, help="pictures")
    parser.add_argument("--side-px", type=int, default=600, help="of the pictures that are made")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def listed(folder: Path, count: int) -> list[Path]:
    """Choose pictures evenly over the table, which goes source by source."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        files = [folder / row["file"] for row in csv.DictReader(file)]
    chosen = np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)
    return [files[index] for index in chosen]


def portraits(folder: Path, count: int, *, side_px: int) -> list[Path]:
    """Write the portrait as so many JPEGs, each of another quality and brightness."""
    portrait = Image.open(PORTRAIT).convert("RGB").resize((side_px, side_px), Image.Resampling.BICUBIC)
    pictures = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(pictures):
        portrait.point([min(255, value + number % 40) for value in range(256)] * 3).save(path, quality=80 + number % 16)
    return pictures


class Rivals:
    """Runs the rivals in a process of their own, when they are asked to."""

    def __init__(self, options: argparse.Namespace, pictures: list[Path]) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=compete, args=(theirs, options, pictures), daemon=True)

    def __enter__(self) -> Self:
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.join()

    def runs(self) -> dict[str, Run]:
        return {name: partial(self.run, name) for name in self.line.recv()}

    def run(self, name: str) -> tuple[float, list[float]]:
        self.line.send(name)
        answer: tuple[float, list[float]] = self.line.recv()
        return answer


def compete(line: Any, options: argparse.Namespace, pictures: list[Path]) -> None:
    """Say which rivals there are, and run the one that is named, again and again."""
    detector = load(options.model, "float32", "torch")
    network = timm_network(detector)
    runs: dict[str, Callable[[], list[float]]] = {}
    if importlib.util.find_spec("transformers"):
        pipe = pipeline(detector)
        runs |= {f"pipeline, batch {size}": partial(with_pipeline, pipe, pictures, size) for size in (1, 16)}
    runs |= {f"timm loop, batch {size}": partial(timm_loop, network, detector, pictures, size) for size in (1, 16)}
    line.send(list(runs))
    while True:
        line.send(timed(runs[line.recv()]))


def timed(run: Callable[[], list[float]]) -> tuple[float, list[float]]:
    start = time.perf_counter()
    logits = run()
    return time.perf_counter() - start, logits


def own_runs(detectors: dict[str, Detector], pictures: list[Path]) -> dict[str, Run]:
    runs: dict[str, Callable[[], list[float]]] = {}
    size_px = detectors["torch"].card.preprocessing.size_px
    crops = [whole_picture(np.asarray(Image.open(path).convert("RGB")), size_px=size_px) for path in pictures]
    for backend, detector in detectors.items():
        runs[f"{backend}: bare model"] = partial(bare_model, detector, crops)
        for faces in ("none", "auto"):
            runs[f"{backend}: predict_many, faces={faces}"] = partial(with_predict_many, detector, pictures, faces)
    return {name: partial(timed, run) for name, run in runs.items()}


def timm_network(detector: Detector) -> torch.nn.Module:
    """Give timm's own network with the weights of the detector, as one would load it."""
    name = detector.card.architecture.removeprefix("timm:")
    network = timm.create_model(NETWORKS.get(name, name), num_classes=1)
    weights = {key.removeprefix("net."): value for key, value in detector.model.state_dict().items()}
    network.load_state_dict(weights)
    return network.eval()


def pipeline(detector: Detector) -> Any:
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, TimmWrapperImageProcessor
    from transformers import pipeline as hugging_face

    prep = detector.card.preprocessing
    name = detector.card.architecture.removeprefix("timm:")
    settings = {"input_size": [3, prep.size_px, prep.size_px], "mean": prep.mean, "std": prep.std}
    settings |= {"interpolation": prep.interpolation, "crop_pct": 1.0, "num_classes": 1}
    config = TimmWrapperConfig(architecture=NETWORKS.get(name, name), num_labels=1, pretrained_cfg=settings)
    model = TimmWrapperForImageClassification(config)
    model.timm_model.load_state_dict(timm_network(detector).state_dict())
    processor = TimmWrapperImageProcessor(pretrained_cfg=settings)
    return hugging_face("image-classification", model=model.eval(), image_processor=processor, device="cpu")


def with_pipeline(pipe: Any, pictures: list[Path], batch_size: int) -> list[float]:
    files = [str(path) for path in pictures]
    answer = pipe(files, batch_size=batch_size, top_k=1, function_to_apply="none")
    return [row[0]["score"] for row in answer]


def timm_loop(network: torch.nn.Module, detector: Detector, pictures: list[Path], batch_size: int) -> list[float]:
    prep, logits = detector.card.preprocessing, []
    size = (prep.size_px, prep.size_px)
    for start in range(0, len(pictures), batch_size):
        opened = [Image.open(path).convert("RGB") for path in pictures[start : start + batch_size]]
        crops = [np.asarray(picture.resize(size, Image.Resampling.BICUBIC)) for picture in opened]
        with torch.inference_mode():
            logits += network(to_batch(crops, preprocessing=prep).contiguous())[:, 0].tolist()
    return logits


def bare_model(detector: Detector, crops: list[np.ndarray]) -> list[float]:
    """Run what `predict_many` runs, in as many threads, on crops that are there."""
    engine, size = detector._engine, 4
    lanes = engine.lanes(count_processors())
    batches = [crops[start : start + size] for start in range(0, len(crops), size)]
    with ThreadPoolExecutor(lanes) as pool:
        engine.join(pool, workers=lanes, lanes=lanes)
        return [logit for logits in pool.map(partial(detector.logits, lanes=lanes), batches) for logit in logits]


def with_predict_many(detector: Detector, pictures: list[Path], faces: Any) -> list[float]:
    return [prediction.logit or 0.0 for prediction in detector.predict_many(pictures, faces=faces)]


def report(seconds: dict[str, list[float]], logits: dict[str, list[float]], *, count: int) -> None:
    """Print rates, ratios to the better batch size of each rival and to the bare model, and what became of logits."""
    rate = {name: count / statistics.median(times) for name, times in seconds.items()}
    best = {kind: max((r for n, r in rate.items() if n.startswith(kind)), default=0.0) for kind in ("pipe", "timm")}
    print("| | pictures/s | least to most | x pipeline | x timm loop | of the bare model | logit moved |")
    print("|---|---|---|---|---|---|---|")
    for name, times in seconds.items():
        ratios = [f"{rate[name] / rival:.2f}" if rival else "-" for rival in (best["pipe"], best["timm"])]
        bare = rate.get(f"{name.partition(':')[0]}: bare model")
        share = f"{rate[name] / bare:.0%}" if bare else "-"
        moved = np.abs(np.subtract(logits[name], logits["timm loop, batch 1"])).max()
        agreement = "-" if name.endswith("auto") else f"{moved:.1g}"  # another crop
        spread = f"{count / max(times):.1f} to {count / min(times):.1f}"
        print(f"| {name} | {rate[name]:.1f} | {spread} | {ratios[0]} | {ratios[1]} | {share} | {agreement} |")


if __name__ == "__main__":
    main()
