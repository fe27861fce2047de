"""Measure the cost of a Grad-CAM in forward passes.

Grad-CAM of this package, that of pytorch-grad-cam, and a forward pass of the same network on the same crop run in
turns, so that other load on the machine affects all alike.

    python benchmarks/explain_cost.py [--bundle xception-fakefaces] [--threads 1] [--rounds 30]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from pytorch_grad_cam import GradCAM

from deepfake_detect import Detector
from deepfake_detect.explain.layers import find_layer
from deepfake_detect.explain.methods import grad_cam


def main() -> None:
    """Read the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="xception-fakefaces")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    detector = Detector.from_pretrained(options.bundle, device="cpu", dtype="float32")
    size_px = detector.card.preprocessing.size_px
    batch = torch.rand(1, 3, size_px, size_px).contiguous(memory_format=torch.channels_last)
    name, layer = find_layer(detector.model, size_px=size_px)
    other = GradCAM(model=detector.model, target_layers=[layer])

    def forward() -> None:
        with torch.inference_mode():
            detector.model(batch)

    ways: dict[str, Callable[[], object]] = {
        "one forward pass": forward,
        "deepfake_detect.explain.methods.grad_cam": lambda: grad_cam(detector.model, batch, layer),
        "pytorch_grad_cam.GradCAM": lambda: other(input_tensor=batch, targets=[lambda output: output]),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(options.rounds + 3):
        for way, run in ways.items():
            begun = time.perf_counter()
            run()
            if turn >= 3:
                taken[way].append(time.perf_counter() - begun)
    first = statistics.median(taken["one forward pass"])
    print(f"{detector.card.id}, {size_px} px, layer {name}, {options.threads} threads, {options.rounds} rounds\n")
    print("| way | median, ms | forward passes |\n|---|---|---|")
    for way, seconds in taken.items():
        print(f"| {way} | {1000 * statistics.median(seconds):.1f} | {statistics.median(seconds) / first:.2f} |")


if __name__ == "__main__":
    main()
