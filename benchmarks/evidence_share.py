"""Count the pictures whose heat map is evidence.

Pictures of the test split, equally many of each source and class, are explained by each method with the quick checks. A
map counts as evidence by the rule of `Faithfulness`; the other columns count which of its conditions fail, on pictures
with a verdict.

    python benchmarks/evidence_share.py --data DATA [--bundle NAME ...] [--method NAME ...] [--each 3]
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from deepfake_detect import Detector
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.explain.explanation import Explanation
from deepfake_detect.explain.faithfulness import LEAST_FALL, LEAST_STEADY, MOST_AS_GOOD, MOST_LIKE_RANDOM
from deepfake_detect.explain.methods import METHODS

CONDITIONS = ("face decides", "deletion", "insertion", "random weights", "steady")


def drawn(samples: list[Sample], each: int, *, seed: int) -> list[Sample]:
    """Draw a number of samples of every source and class."""
    order = np.random.default_rng(seed).permutation(len(samples))
    taken: Counter[tuple[str, int | None]] = Counter()
    chosen = []
    for index in order:
        sample = samples[index]
        kind = (sample.source, sample.label)
        if taken[kind] < each:
            taken[kind] += 1
            chosen.append(sample)
    return chosen


def failing(explanation: Explanation) -> Iterator[str]:
    """Name the conditions that an explanation with a verdict does not meet."""
    checks = explanation.faithfulness
    assert checks is not None
    random = np.array(checks.random)
    met = (
        checks.fall >= LEAST_FALL,
        np.mean(random <= checks.deletion) <= MOST_AS_GOOD,
        np.mean(random >= checks.insertion) <= MOST_AS_GOOD,
        checks.random_weights <= MOST_LIKE_RANDOM,
        checks.shift >= LEAST_STEADY,
    )
    return (name for name, is_met in zip(CONDITIONS, met, strict=True) if not is_met)


def main() -> None:
    """Explain, count, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--bundle", nargs="+", default=["xception-fakefaces"])
    parser.add_argument("--method", nargs="+", default=["grad-cam"], choices=METHODS)
    parser.add_argument("--each", type=int, default=3, help="pictures of each source and class")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    samples = drawn(read_dataset(options.data / "manifest.csv", splits=["test"]), options.each, seed=options.seed)
    print(f"| weights | method | pictures | with a verdict | evidence | {' fails | '.join(CONDITIONS)} fails |")
    print("|" + "---|" * (5 + len(CONDITIONS)))
    for bundle in options.bundle:
        detector = Detector.from_pretrained(bundle)
        for method in options.method:
            explained = [detector.explain(s.image, method=method) for s in tqdm(samples, desc=method, leave=False)]
            judged = [explanation for explanation in explained if explanation.label in ("real", "fake")]
            evidence = sum(explanation.is_evidence for explanation in judged)
            fails = Counter(name for explanation in judged for name in failing(explanation))
            shares = " | ".join(f"{fails[name] / len(judged):.0%}" for name in CONDITIONS)
            line = f"| `{detector.card.id}` | {method} | {len(samples)} | {len(judged)} | {evidence} | {shares} |"
            print(line, flush=True)
            for explanation, sample in zip(explained, samples, strict=True):
                if explanation.is_evidence:
                    tqdm.write(f"  evidence: {sample.image} called {explanation.label}, labelled {sample.label}")


if __name__ == "__main__":
    main()
