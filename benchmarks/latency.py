"""Measure the time for one picture after a warm-up.

In turns: the network and its packed form on one crop; `look`, which opens a picture, finds its faces and cuts
them out; `predict`, which is both, of the whole picture and with faces to be found; a heat map without checks; and
`stability` with all its deliveries.

    python benchmarks/latency.py --model xception-fakefaces
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from deepfake_detect import Detector
from deepfake_detect.engines.torch_engine import run
from deepfake_detect.inputs.delivery import STABILITY
from deepfake_detect.predict.preprocess import to_batch

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"


def ways_of(detector: Detector, picture: Path) -> dict[str, Callable[[], Any]]:
    """Give what is timed, the packed network first."""
    preprocessing = detector.card.preprocessing
    crop = np.asarray(Image.open(picture).resize((preprocessing.size_px, preprocessing.size_px)))
    batch = to_batch([crop], preprocessing=preprocessing)
    detector.logits([crop])
    return {
        "packed network, one crop": lambda: detector.logits([crop]),
        "bare network, one crop": lambda: run(detector.model, batch, device=detector.device, dtype=torch.float32),
        "look, faces='none'": lambda: detector.look(picture, faces="none"),
        "look": lambda: detector.look(picture),
        "predict, faces='none'": lambda: detector.predict(picture, faces="none"),
        "predict": lambda: detector.predict(picture),
        "explain, unchecked": lambda: detector.explain(picture, faithfulness="off"),
        "explain": lambda: detector.explain(picture),
        f"stability, {len(STABILITY)} deliveries": lambda: detector.stability(picture),
        f"{len(STABILITY)} times predict": lambda: [detector.predict(picture) for _ in STABILITY],
    }


def main() -> None:
    """Measure in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="xception-fakefaces")
    parser.add_argument("--backend", default="torch", choices=["torch", "openvino"])
    parser.add_argument("--side-px", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    detector = Detector.from_pretrained(options.model, device="cpu", backend=options.backend)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "portrait.jpg"
        Image.open(PORTRAIT).convert("RGB").resize((options.side_px, options.side_px)).save(picture, quality=92)
        ways = ways_of(detector, picture)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(options.rounds + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                if turn:  # the first warms up
                    times[name].append((time.perf_counter() - start) * 1000)
    print(
        f"{detector}, {options.backend}, JPEG of {options.side_px} px, torch with {torch.get_num_threads()} threads\n"
    )
    bare = statistics.median(times["packed network, one crop"])
    print("| | median, ms | least, ms | of the packed network |\n|---|---|---|---|")
    for name, took in times.items():
        print(f"| {name} | {statistics.median(took):.1f} | {min(took):.1f} | {statistics.median(took) / bare:.2f} |")


if __name__ == "__main__":
    main()
