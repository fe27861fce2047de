"""Measure whether heat lies on the forged parts of photoshopped faces.

The file names of CIPLAB's photoshopped faces carry four bits, one for each part of the face that an expert exchanged.
Which bit stands for which part is inferred from the data: for 16 fakes the original photograph is in the same group,
and the parts in which the two differ are compared with the bits, for each of the 24 orders.

    python benchmarks/ciplab_parts.py --data DATA --order            # which bit is which part
    python benchmarks/ciplab_parts.py --data DATA [--bundle NAME] ... [--method NAME] ... [--limit N]

The pointing game (Zhang and others 2018) counts how often the hottest pixel lies in a forged part; the part AUC
measures how well the heat separates forged pixels of the face from others. The baselines are a centre prior (a Gaussian
in the middle of the face) and a smooth random map. The pictures are fakes of the val and test splits in which one to
three parts are forged; intervals are 95 % bootstrap intervals over them.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from deepfake_detect import Detector, find_faces
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.explain.explanation import Explanation
from deepfake_detect.explain.methods import METHODS
from deepfake_detect.faces.parts import OVALS, part_masks
from deepfake_detect.inputs.image import open_image
from deepfake_detect.metrics.classification import roc_auc

PARTS = tuple(OVALS)
ORDER = ("right eye", "left eye", "nose", "mouth")
"""Meaning of the bits, from the first to the last, as `--order` finds it."""


def bits_of(sample: Sample) -> tuple[int, ...]:
    """Return the four bits of a fake."""
    note = dict(item.split("=") for item in sample.note.split(";"))
    return tuple(int(bit) for bit in note["parts"])


def differences(real: np.ndarray, fake: np.ndarray, landmarks_xy: np.ndarray) -> dict[str, float]:
    """Measure how much two pictures of the same size differ in each part: the logarithm of the mean, in grey levels.

    What differs in hair and background, by another compression, is taken away.
    """
    away = np.abs(real.astype(float) - fake.astype(float)).mean(-1)
    masks = part_masks(landmarks_xy, away.shape)
    floor = float(np.median(away[masks["hair and background"]]))
    return {name: float(np.log(0.5 + max(0.0, away[masks[name]].mean() - floor))) for name in PARTS}


def bit_order(pairs: Sequence[tuple[tuple[int, ...], Mapping[str, float]]]) -> list[tuple[float, tuple[str, ...]]]:
    """Order the 24 meanings of the bits by how well they fit.

    Args:
        pairs: The bits of a fake, and how much each part of it differs from its photograph.

    Returns:
        Fit and order, the best first. The fit is the mean, over pairs, of the difference between parts that the order
        calls forged and parts that it does not.
    """
    telling = [pair for pair in pairs if 0 < sum(pair[0]) < len(PARTS)]
    results = []
    for order in itertools.permutations(PARTS):
        gaps = []
        for bits, away in telling:
            values = np.array([away[name] for name in order])
            forged = np.array(bits, bool)
            gaps.append(values[forged].mean() - values[~forged].mean())
        results.append((float(np.mean(gaps)), order))
    return sorted(results, reverse=True)


def chance(pairs: Sequence[tuple[tuple[int, ...], Mapping[str, float]]], *, draws: int = 2000, seed: int = 0) -> float:
    """Return how often bits shuffled among the pairs fit some order as well."""
    random, best = np.random.default_rng(seed), bit_order(pairs)[0][0]
    bits = [pair[0] for pair in pairs]
    dealt = (random.permutation(len(pairs)) for _ in range(draws))
    as_good = sum(
        bit_order([(bits[place], pair[1]) for place, pair in zip(order, pairs, strict=True)])[0][0] >= best
        for order in dealt
    )
    return (as_good + 1) / (draws + 1)


def pairs_of(samples: Sequence[Sample]) -> list[tuple[tuple[int, ...], dict[str, float]]]:
    """Compare each fake with the photograph in its group."""
    reals = {s.group: s for s in samples if s.label == 0}
    results = []
    for fake in (s for s in samples if s.label == 1 and s.group in reals):
        pixels = open_image(reals[fake.group].image).pixels
        other = Image.fromarray(open_image(fake.image).pixels).resize(pixels.shape[1::-1], Image.Resampling.BICUBIC)
        faces = find_faces(pixels)
        if faces:
            results.append((bits_of(fake), differences(pixels, np.asarray(other), faces[0].landmarks_xy)))
    return results


def describe_order(samples: Sequence[Sample]) -> str:
    """Describe which order fits, and how certain that is."""
    pairs = pairs_of(samples)
    ranked = bit_order(pairs)
    telling = sum(0 < sum(bits) < 4 for bits, _ in pairs)
    lines = [f"{len(pairs)} pairs, {telling} of them with one to three forged parts"]
    lines += [f"  {fit:+.3f}  {', '.join(order)}" for fit, order in ranked[:4]]
    lines.append(f"bits of other pairs fit some order as well in {chance(pairs):.2%} of the draws")
    for place, name in enumerate(ranked[0][1]):
        on, off = ([away[name] for bits, away in pairs if bits[place] == value] for value in (1, 0))
        means = f"{np.mean(on):+.2f} where set ({len(on)}), {np.mean(off):+.2f} where not ({len(off)})"
        lines.append(f"  bit {place + 1}, {name}: {means}")
    eyes = [away[ranked[0][1][0]] - away[ranked[0][1][1]] for bits, away in pairs if bits[:2] == (1, 0)]
    eyes += [away[ranked[0][1][1]] - away[ranked[0][1][0]] for bits, away in pairs if bits[:2] == (0, 1)]
    lines.append(
        f"where one of the first two bits is set, that part differs more in {sum(e > 0 for e in eyes)} of {len(eyes)}"
    )
    return "\n".join(lines)


def scores(heat: np.ndarray, landmarks_xy: np.ndarray, bits: Sequence[int]) -> tuple[float, float]:
    """Compute the pointing game (0 or 1) and the part AUC of one heat map."""
    masks = part_masks(landmarks_xy, heat.shape)
    forged = np.any([masks[name] for name, bit in zip(ORDER, bits, strict=True) if bit], axis=0)
    face = ~masks["hair and background"]
    hottest = np.unravel_index(int(np.argmax(np.where(face, heat, -1))), heat.shape)
    return float(forged[hottest]), float(roc_auc(forged[face].astype(int), heat[face]))


def centre_prior(shape: tuple[int, int], box_xyxy: Sequence[float]) -> np.ndarray:
    """Return a bell at the middle of the face, a quarter of its side wide."""
    x1, y1, x2, y2 = box_xyxy
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    away = ((columns - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((rows - (y1 + y2) / 2) / (y2 - y1)) ** 2
    return np.exp(-8 * away)


def random_map(shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Return smooth noise, six cells along each side."""
    small = Image.fromarray(random.random((6, 6)).astype(np.float32))
    return np.asarray(small.resize(shape[::-1], Image.Resampling.BICUBIC))


def interval(values: Sequence[float], *, rounds: int = 1000) -> str:
    """Format the mean with its bootstrap interval."""
    numbers, random = np.array(values), np.random.default_rng(0)
    means = numbers[random.integers(0, len(numbers), (rounds, len(numbers)))].mean(1)
    return f"{numbers.mean():.3f} [{np.quantile(means, 0.025):.3f}, {np.quantile(means, 0.975):.3f}]"


def measure(bundles: Sequence[str], methods: Sequence[str], fakes: Sequence[Sample]) -> list[str]:
    """Yield the lines of the table."""
    lines = []
    for bundle in bundles:
        detector = Detector.from_pretrained(bundle)
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in (*methods, "centre prior", "random map")}
        random = np.random.default_rng(0)
        for fake in tqdm(fakes, desc=bundle, disable=None):
            for method in methods:
                explanation: Explanation = detector.explain(
                    fake.image, method=method, target="fake", faces="largest", faithfulness="off"
                )
                if not explanation.faces:
                    break
                face = explanation.faces[0].face
                results[method].append(scores(explanation.heat, face.landmarks_xy, bits_of(fake)))
            else:
                shape = explanation.heat.shape
                for name, other in (
                    ("centre prior", centre_prior(shape, face.box_xyxy)),
                    ("random map", random_map(shape, random)),
                ):
                    results[name].append(scores(other, face.landmarks_xy, bits_of(fake)))
        for name, values in results.items():
            points, areas = zip(*values, strict=True)
            lines.append(f"| {bundle} | {name} | {len(values)} | {interval(points)} | {interval(areas)} |")
    return lines


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--order", action="store_true", help="find the meaning of the bits")
    parser.add_argument("--bundle", action="append", help="may be given again")
    parser.add_argument("--method", action="append", choices=list(METHODS), help="may be given again")
    parser.add_argument("--limit", type=int, help="most fakes")
    options = parser.parse_args()
    samples = [s for s in read_dataset(options.data / "manifest.csv") if s.source == "ciplab"]
    if options.order:
        print(describe_order(samples))
        return
    fakes = [s for s in samples if s.label == 1 and s.split in ("val", "test") and 0 < sum(bits_of(s)) < 4]
    print("| weights | method | fakes | pointing game | part AUC |\n|---|---|---|---|---|")
    print(
        "\n".join(
            measure(options.bundle or ["xception-fakefaces"], options.method or ["grad-cam"], fakes[: options.limit])
        )
    )


if __name__ == "__main__":
    main()
