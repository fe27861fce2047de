"""Measure whether the guaranteed rate of false alarms holds on held-out photographs, and what calibration gains.

The pictures of a manifest's validation and test splits are scored once (``--scores`` keeps the logits). Then, from the
logits alone: 200 random halves of the real photographs, split by group, with the threshold from one half and the false
alarms from the other; the same with one source held out at a time, for which there is no guarantee; and the calibration
error before and after the fit, which is made on four fifths of the groups and measured on the last.

    python benchmarks/calibration.py --data FOLDER --scores scores.csv      # FOLDER holds a manifest.csv
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from deepfake_detect import Card, Detector
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.datasets.split import folds
from deepfake_detect.metrics.classification import expected_calibration_error, fit_platt, fit_temperature
from deepfake_detect.metrics.conformal import conformal_threshold, least_count
from deepfake_detect.weights.bundle import find_bundle

RATES = (0.01, 0.05, 0.1)
FOLDS = 5
Fit = Callable[[np.ndarray, np.ndarray], tuple[float, float]]


def main() -> None:
    """Score or read the scores, and print three tables."""
    options = read_options()
    if not options.scores.exists():
        score(options)
    samples, logit = read_scores(options.scores)
    card = find_bundle(options.model).card
    sources = Counter(sample.source for sample in samples)
    fakes = sum(sample.label for sample in samples)
    print(f"{card.id}: {len(samples)} pictures with a face, {fakes} fake, {len(sources)} sources")
    real = [index for index, sample in enumerate(samples) if sample.label == 0]
    reals, values = [samples[index] for index in real], logit[real]
    random_halves(reals, values, rounds=options.rounds)
    foreign_sources(reals, values)
    calibration_errors(samples, logit, card)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with a manifest.csv; not needed where the scores are there")
    parser.add_argument(
        "--scores", type=Path, default=Path("calibration_scores.csv"), help="file of the scores, read where it is there"
    )
    parser.add_argument("--model", default="xception-fakefaces")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--rounds", type=int, default=200, help="random halves")
    return parser.parse_args()


def score(options: argparse.Namespace) -> None:
    """Write label, source, group and logit of every picture with a face."""
    samples = read_dataset(options.data, splits=("val", "test"))
    detector = Detector.from_pretrained(options.model, device=options.device)
    predictions = detector.predict_many((s.image for s in samples), on_error="yield", workers=options.workers)
    half = options.scores.with_suffix(".part")
    with half.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "source", "group", "split", "logit"])
        for sample, prediction in tqdm(zip(samples, predictions, strict=True), total=len(samples), unit="picture"):
            name = Path(sample.image).relative_to(options.data)
            logit = "" if prediction.logit is None else repr(prediction.logit)
            table.writerow([name, sample.label, sample.source, sample.group, sample.split, logit])
    half.rename(options.scores)


def read_scores(path: Path) -> tuple[list[Sample], np.ndarray]:
    """Read what `score` wrote, and print how many pictures had no face or could not be read."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scored = [row for row in rows if row["logit"]]
    print(f"{len(rows) - len(scored)} of {len(rows)} pictures have no face that was found, and are left out")
    samples = [
        Sample(image=r["file"], label=int(r["label"]), source=r["source"], group=r["group"], split=r["split"])
        for r in scored
    ]
    return samples, np.array([float(row["logit"]) for row in scored])


def random_halves(samples: list[Sample], logit: np.ndarray, *, rounds: int) -> None:
    """Compare guarantee and false alarms, where both halves are of one kind: here the guarantee must hold."""
    groups = np.unique([sample.group or str(sample.image) for sample in samples], return_inverse=True)[1]
    print(f"\n{rounds} random halves of {len(samples)} real photographs, {groups.max() + 1} groups")
    print("promised   mean false alarms (95 % interval of the mean)   of the halves: 5 % .. 95 %   above   above bound")
    for rate in RATES:
        rates, bounds = np.array([one_half(logit, groups, rate, seed) for seed in range(rounds)]).T
        error = 1.96 * rates.std(ddof=1) / np.sqrt(rounds)
        low, high = np.quantile(rates, [0.05, 0.95])
        print(
            f"{rate:8.2%} {rates.mean():9.3%} ({rates.mean() - error:.3%} .. {rates.mean() + error:.3%})"
            f"            {low:6.2%} .. {high:6.2%}      {np.mean(rates > rate):6.1%} {np.mean(rates > bounds):8.1%}"
        )


def one_half(logit: np.ndarray, groups: np.ndarray, rate: float, seed: int) -> tuple[float, float]:
    """Return the rate of false alarms on held-out photographs, and the stated bound."""
    random = np.random.default_rng(seed)
    chosen = random.permutation(groups.max() + 1) < (groups.max() + 1) // 2
    here = np.flatnonzero(chosen[groups])
    fitted = conformal_threshold(logit[one_of_each(here, groups, random)], max_false_alarm=rate)
    return float(np.mean(logit[~chosen[groups]] >= fitted.value)), fitted.bound_95


def one_of_each(indices: np.ndarray, groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw one picture of each group."""
    mixed = random.permutation(indices)
    return mixed[np.unique(groups[mixed], return_index=True)[1]]


def foreign_sources(samples: list[Sample], logit: np.ndarray) -> None:
    """Print the rate on a source that the threshold was not fitted on: here nothing is guaranteed."""
    source = np.array([sample.source for sample in samples])
    groups = np.unique([sample.group or str(sample.image) for sample in samples], return_inverse=True)[1]
    print("\nfalse alarms on a source, threshold from all other sources" + " " * 10 + "and from half of its own groups")
    print("source           reals   " + "   ".join(f"{rate:7.0%}" for rate in RATES) * 2)
    for name in np.unique(source):
        inside = source == name
        others = one_of_each(np.flatnonzero(~inside), groups, np.random.default_rng(0))
        cells = [np.mean(logit[inside] >= threshold(logit[others], rate)) for rate in RATES]
        halves = [own_halves(logit[inside], groups[inside], rate) for rate in RATES]
        print(f"{name:<16} {inside.sum():5d}   " + "   ".join(f"{cell:7.1%}" for cell in [*cells, *halves]))


def own_halves(logit: np.ndarray, groups: np.ndarray, rate: float, *, rounds: int = 200) -> float:
    """Average the false alarms over halves of one source; nan where a half has too few groups for the rate."""
    members = np.unique(groups, return_inverse=True)[1]
    if (members.max() + 1) // 2 < least_count(rate):
        return float("nan")
    return float(np.mean([one_half(logit, members, rate, seed)[0] for seed in range(rounds)]))


def threshold(logit: np.ndarray, rate: float) -> float:
    return conformal_threshold(logit, max_false_alarm=rate).value


def calibration_errors(samples: list[Sample], logit: np.ndarray, card: Card) -> None:
    """Compare the probabilities with the labels, before and after fits to other pictures."""
    label = np.array([sample.label for sample in samples])
    source = np.array([sample.source for sample in samples])
    fold = np.array(folds(samples, FOLDS))
    scores = {"raw logit": sigmoid(logit), "card": sigmoid(logit / card.temperature + card.bias)}
    fits: dict[str, Fit] = {
        "temperature": lambda v, y: (fit_temperature(v, y, smooth=True), 0.0),
        "platt": partial(fit_platt, smooth=True),
    }
    for name, fit in fits.items():
        scores[name] = cross_fitted(logit, label, fold, fit)
    print(f"\ncalibration error (15 bins), {FOLDS} folds of whole groups; per source with the fit to all sources")
    print("source           reals  fakes   " + "   ".join(f"{name:>11}" for name in scores))
    both = [name for name in np.unique(source) if len(set(label[source == name])) == 2]
    for name in ["all", *both]:
        inside = np.full(len(label), fill_value=True) if name == "all" else source == name
        cells = [expected_calibration_error(label[inside], score[inside]) for score in scores.values()]
        counts = f"{np.sum(label[inside] == 0):5d} {np.sum(label[inside]):6d}"
        print(f"{name:<16} {counts}   " + "   ".join(f"{cell:11.4f}" for cell in cells))


def cross_fitted(logit: np.ndarray, label: np.ndarray, fold: np.ndarray, fit: Fit) -> np.ndarray:
    """Return the probability of each picture by the fit to the other folds."""
    score = np.zeros(len(logit))
    for number in np.unique(fold):
        held = fold == number
        temperature, bias = fit(logit[~held], label[~held])
        score[held] = sigmoid(logit[held] / temperature + bias)
    return score


def sigmoid(value: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(value / 2)) / 2


if __name__ == "__main__":
    main()
