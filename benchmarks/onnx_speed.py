"""How fast are exported detectors, how large are their files, and how far are their logits from torch's?

    python benchmarks/onnx_speed.py speed --threads 1
    python benchmarks/onnx_speed.py parity
    python benchmarks/onnx_speed.py verdicts --data DATA

``speed`` runs torch, OpenVINO and onnxruntime in turns, so that whatever else the machine does falls on all alike, and
prints the median of the ratios within a turn. ``parity`` exports every architecture with random weights. ``verdicts``
exports the packaged detectors and counts the verdicts that change on a labelled data set.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnxruntime
import openvino
import torch
from torch import Tensor, nn

from deepfake_detect import Card, Detector, Preprocessing, create_model, list_models, list_pretrained
from deepfake_detect.engines.onnx_engine import OnnxSessions, to_planes
from deepfake_detect.engines.openvino_engine import compile_bundle
from deepfake_detect.export.onnx_export import network_of
from deepfake_detect.export.onnx_model import LOGIT, PREFIX, SCORE, compose_model, to_bytes
from deepfake_detect.export.quantize import quantize_model
from deepfake_detect.models.registry import native_size_px
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.onnx_file import Precision, parse_onnx, read_onnx

Answer = Callable[[np.ndarray], np.ndarray]
DTYPES: tuple[Precision, ...] = ("float32", "int8", "float16")
OTHERS = ("timm:mobilenetv2_100", "timm:mobilenetv3_small_100", "timm:vit_tiny_patch16_224", "timm:resnet18")


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["speed", "parity", "verdicts"])
    parser.add_argument("--threads", type=int, default=1, help="of each of the three")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--data", help="labelled data set")
    parser.add_argument("--architecture", nargs="+", default=[*list_models(), *OTHERS])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, OpenVINO {openvino.__version__}, onnxruntime {onnxruntime.__version__}")
    if options.what == "speed":
        print("| weights | batch | torch, ms a face | torch / onnxruntime | OpenVINO / onnxruntime | float16 | int8 |")
        print("|---|---|---|---|---|---|---|")
        for name in list_pretrained():
            measure_speed(name, threads=options.threads, rounds=options.rounds)
    elif options.what == "parity":
        print("| architecture | input | float32 | MB | int8 | MB | float16 | MB |")
        print("|---|---|---|---|---|---|---|---|")
        for name in options.architecture:
            print(parity_of(name), flush=True)
    else:
        for name in list_pretrained():
            count_verdicts(name, options.data)


def measure_speed(name: str, *, threads: int, rounds: int) -> None:
    """Time each engine on the same pictures, in turns, and print the medians of the ratios."""
    engines = engines_of(name, threads=threads)
    size_px = find_bundle(name).card.preprocessing.size_px
    for batch in (1, 16):
        pixels = np.random.default_rng(0).normal(size=(batch, size_px, size_px, 3)).astype(np.float32)
        turns: list[dict[str, float]] = []
        for _ in range(rounds + 1):  # the first one warms up
            turns.append({engine: seconds(answer, pixels) for engine, answer in engines.items()})
        torch_ms = statistics.median(turn["torch"] for turn in turns[1:]) / batch * 1000
        ratios = {engine: statistics.median(turn[engine] / turn["float32"] for turn in turns[1:]) for engine in engines}
        cells = [f"{ratios[engine]:.2f}" for engine in ("torch", "openvino", "float16", "int8")]
        print(f"| {name} | {batch} | {torch_ms:.1f} | {' | '.join(cells)} |", flush=True)


def seconds(answer: Answer, pixels: np.ndarray) -> float:
    """Return the processor time of a run; other processes do not count."""
    began = time.process_time()
    answer(pixels)
    return time.process_time() - began


def engines_of(name: str, *, threads: int) -> dict[str, Answer]:
    """Load one detector for each engine."""
    detector = Detector.from_pretrained(name, device="cpu", dtype="float32", backend="torch")
    compiled = compile_bundle(find_bundle(name))
    engines: dict[str, Answer] = {"torch": detector.answer, "openvino": lambda pixels: compiled(pixels, lanes=threads)}
    lanes = max(1, len(os.sched_getaffinity(0)) // threads)
    for dtype in get_args(Precision):
        sessions = OnnxSessions(exported(detector, dtype), "cpu")
        engines[dtype] = lambda pixels, sessions=sessions: sessions(pixels, lanes=lanes)
    return engines


def exported(detector: Detector, dtype: Precision) -> object:
    """Export in a dtype; int8 with the ranges of noise, which takes as long as any."""
    with tempfile.TemporaryDirectory() as folder:
        if dtype != "int8":
            return read_onnx(detector.export(Path(folder, "model.onnx"), dtype=dtype).path)
    return parse_onnx(
        content_of(compose(detector.model, detector.card, dtype), detector.card, dtype), path=Path("int8.onnx")
    )


def compose(model: nn.Module, card: Card, dtype: Precision) -> Any:
    """Make the graph of a network; int8 is made of that in float32."""
    exact: Precision = "float16" if dtype == "float16" else "float32"
    return compose_model(network_of(model, card.preprocessing.size_px, exact), card=card, dtype=exact)


def content_of(proto: Any, card: Card, dtype: Precision) -> bytes:
    """Make the file of a graph, without writing it."""
    if dtype == "int8":
        noise = [pictures(4, size_px=card.preprocessing.size_px, seed=seed).numpy() for seed in range(4)]
        proto = quantize_model(proto, noise, input_name="pixels", keep=(PREFIX, LOGIT, SCORE))
    return to_bytes(proto, card=card, dtype=dtype, input_kind="pixels")


def parity_of(name: str) -> str:
    """Give a row: the largest distance from torch's logits, as a share of the largest logit where that is above 1."""
    size_px = native_size_px(name)
    model, batch = with_statistics(name, size_px), pictures(3, size_px=size_px)
    card = Card(name="random", version=0, architecture=name, preprocessing=Preprocessing(size_px=size_px))
    with torch.inference_mode():
        expected = model(batch).numpy()
    cells, exact = [name, f"{size_px} px"], compose(model, card, "float32")
    for dtype in DTYPES:
        content = content_of(compose(model, card, dtype) if dtype == "float16" else exact, card, dtype)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        (logits,) = session.run([LOGIT], {"pixels": to_planes(batch.permute(0, 2, 3, 1).numpy())})
        difference = np.abs(logits - expected).max() / max(1, np.abs(expected).max())
        cells += [f"{difference:.1g}", f"{len(content) / 1e6:.1f}"]
    return f"| {' | '.join(cells)} |"


def with_statistics(name: str, size_px: int) -> nn.Module:
    """Make a network with random weights whose batch norms have seen noise, so that its logits are of a usual size."""
    model = create_model(name, seed=0, dropout=0.0).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model(pictures(4, size_px=size_px, seed=1))
    return model.eval()


def pictures(count: int, *, size_px: int, seed: int = 0) -> Tensor:
    """Give noise [N, 3, size_px, size_px]."""
    return torch.randn(count, 3, size_px, size_px, generator=torch.Generator().manual_seed(seed))


def count_verdicts(name: str, data: str) -> None:
    """Export a packaged detector in every dtype, and print the report of each."""
    detector = Detector.from_pretrained(name, device="cpu", dtype="float32", backend="torch")
    with tempfile.TemporaryDirectory() as folder:
        for dtype in get_args(Precision):
            report = detector.export(Path(folder, f"{name}.onnx"), dtype=dtype, data=data)
            print(f"| {name} | {dtype} | {report.size_bytes / 1e6:.2f} MB | {report.changes} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
