"""Compare optimisers, learning rates and networks on video swaps in short trainings.

Usage:
    python -m recipes.ablation_dfdc --data DATA --weights MODELS --out SEARCH

A grid of `tune` over 4 optimisers, 3 rates and 3 networks, each for two epochs of 800 DFDC crops of
the train split, judged on the val split. Stopped and run again, it goes on. Prints the tables of docs/comparison.md;
SEARCH holds the trials, the plot and the best bundle.
"""

from __future__ import annotations

import argparse
import logging
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from deepfake_detect import Trial, tune
from deepfake_detect.datasets.read import Sample, read_dataset

MODELS = ("meso4", "cnn4", "efficientnet-b0")
SPACE = {"optimizer": ["adamw", "adam", "nadam", "sgd"], "lr": [1e-4, 1e-3, 1e-2]}
SIZE_PX, EPOCHS, TRAIN, VALID = 96, 2, 800, 400


def part(samples: Sequence[Sample], split: str, count: int) -> list[Sample]:
    """Give as many pictures of each class, evenly chosen."""
    chosen = []
    for label in (0, 1):
        of_class = [s for s in samples if s.source == "dfdc" and s.split == split and s.label == label]
        chosen += [of_class[index * len(of_class) // (count // 2)] for index in range(count // 2)]
    return [replace(sample, split="") for sample in chosen]


def grid(trials: Sequence[Trial]) -> str:
    """A table: networks and optimisers down, rates across."""
    auc = {(t.params["model"], t.params["optimizer"], t.params["lr"]): t for t in trials}
    lines = [
        "| network | optimiser | " + " | ".join(f"{rate:g}" for rate in SPACE["lr"]) + " |",
        "|---|---|---|---|---|",
    ]
    for model in MODELS:
        for optimizer in SPACE["optimizer"]:
            row = [auc[model, optimizer, rate] for rate in SPACE["lr"]]
            cells = [f"{t.auc:.3f}{' collapsed' if t.collapsed else ''}" for t in row]
            lines.append(f"| {model} | {optimizer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def means(trials: Sequence[Trial]) -> str:
    """A line for each value of each setting: the best and the median of its trials."""
    lines = ["| setting | value | best AUC | median AUC | collapsed |", "|---|---|---|---|---|"]
    for name, values in (("model", MODELS), *SPACE.items()):
        for value in values:
            chosen = [t for t in trials if t.params[name] == value]
            aucs = [t.auc for t in chosen]
            lines.append(
                f"| {name} | {value} | {max(aucs):.3f} | {statistics.median(aucs):.3f} "
                f"| {sum(t.collapsed for t in chosen)} of {len(chosen)} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Read the command line, search, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--weights", type=Path, required=True, help="folder with ImageNet weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    samples = read_dataset(options.data)
    trials = tune(
        part(samples, "train", TRAIN),
        valid=part(samples, "val", VALID),
        model=MODELS,
        space=SPACE,
        sampler="grid",
        trials=len(MODELS) * 12,
        prune=False,
        epochs=EPOCHS,
        size_px=SIZE_PX,
        batch_size=32,
        dtype="float32",
        augment="light",
        start={"efficientnet-b0": options.weights / "efficientnet_b0.imagenet.safetensors"},
        check="off",
        out=options.out,
        seed=0,
    )
    print(f"{grid(trials)}\n\n{means(trials)}\n\n{sum(t.seconds for t in trials) / 60:.0f} minutes; best: {trials[0]}")


if __name__ == "__main__":
    main()
