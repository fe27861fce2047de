"""Check how far a heat map can be trusted.

A map claims where a score comes from. Three checks: blur places of the picture in the order of the map and in random
order; compute the map of the same network with random weights; and shift the picture a little.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor, nn

from deepfake_detect.explain.layers import HOOKING
from deepfake_detect.explain.methods import enlarge
from deepfake_detect.explain.regions import Subject

Level = Literal["quick", "full"]
"""Effort of the checks: some 40 runs of the model, or some 450."""

LEAST_FALL: Final = 0.1
"""Least fall of the probability of the class shown when the whole face is blurred."""

MOST_AS_GOOD: Final = 0.05
"""Highest share of random maps that do as well as the map."""

MOST_LIKE_RANDOM: Final = 0.5
"""Highest rank correlation with the maps of random weights."""

LEAST_STEADY: Final = 0.5
"""Lowest rank correlation with the map of the shifted picture."""

_SHIFT = 1 / 50  # of the side: a few pixels
_DIRECTIONS = ((1, 1), (-1, -1), (1, -1), (-1, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Effort:
    shares: tuple[float, ...]  # of the pixels blurred; symmetric about a half, see `_areas`
    random_maps: int
    random_weights: int
    shifts: int


_EFFORTS: Final[dict[str, _Effort]] = {
    "quick": _Effort(shares=(0.15, 0.5, 0.85), random_maps=4, random_weights=3, shifts=1),
    "full": _Effort(shares=tuple(np.linspace(0.05, 0.95, 10).tolist()), random_maps=20, random_weights=5, shifts=4),
}

LEVELS: Final = tuple(_EFFORTS)
"""The names of the levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faithfulness:
    """Results of the checks of one map. Probabilities are those of the class whose heat is shown.

    The map `is_evidence` of what the score comes from if, and only if, all of this holds:

    * blurring the whole face lowers the probability by at least 0.1: there is something to explain;
    * blurring the hottest places first lowers it more (`deletion`), and showing them first raises it more
      (`insertion`), than nineteen of twenty random maps do; of fewer than twenty, than all;
    * the maps of the same network with random weights are others: their rank correlation is at most 0.5;
    * the map of the picture shifted by a fiftieth of its side is the same, shifted: rank correlation at least 0.5.

    Attributes:
        fall: Fall of the probability when the whole face is blurred.
        deletion: Area under the probability while the hottest places are blurred first, 0..1; low is good. Petsiuk et
            al. 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC.
        insertion: The same while they are shown first on a blurred face; high is good.
        random: The areas of smooth random maps of the same resolution, each taken from both ends.
        random_weights: Mean absolute rank correlation with the maps of random weights, 0..1. Adebayo et al. 2018,
            "Sanity Checks for Saliency Maps", NeurIPS.
        shift: Mean rank correlation with the maps of the shifted picture, -1..1.
        level: Effort of the checks, see `Level`.

    Example:
        >>> Faithfulness(fall=0.6, deletion=0.3, insertion=0.8, random=(0.5, 0.6), random_weights=0.1, shift=0.9,
        ...              level="quick").is_evidence
        True
    """

    fall: float
    deletion: float
    insertion: float
    random: tuple[float, ...]
    random_weights: float
    shift: float
    level: str

    @property
    def is_evidence(self) -> bool:
        """Whether every check holds."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """List in words the checks that fail; empty where the map is evidence."""
        reasons = []
        between = f"random {min(self.random):.2f} to {max(self.random):.2f}"
        if self.fall < LEAST_FALL:
            effect = "even surer" if round(self.fall, 2) < 0 else "almost as sure"
            reasons.append(
                f"with the whole face blurred the verdict is {effect} ({-self.fall:+.2f}): no place on it decides"
            )
        if np.mean(np.array(self.random) <= self.deletion) > MOST_AS_GOOD:
            reasons.append(
                f"blurring the hottest places takes no more from it than random places ({self.deletion:.2f}, {between})"
            )
        if np.mean(np.array(self.random) >= self.insertion) > MOST_AS_GOOD:
            reasons.append(
                f"the hottest places alone give no more of it than random places ({self.insertion:.2f}, {between})"
            )
        if self.random_weights > MOST_LIKE_RANDOM:
            reasons.append(f"random weights give much the same map (rank correlation {self.random_weights:.2f})")
        if self.shift < LEAST_STEADY:
            reasons.append(
                f"the map changes when the picture moves by a few pixels (rank correlation {self.shift:.2f})"
            )
        return tuple(reasons)

    @property
    def findings(self) -> tuple[str, ...]:
        """List in words the results of the checks, where they hold."""
        between = f"random places {min(self.random):.2f} to {max(self.random):.2f}"
        return (
            f"blurring the whole face changes the verdict by {-self.fall:+.2f}: it rests on what the face shows",
            f"blurring the hottest places takes more from it than random places (area {self.deletion:.2f}, {between})",
            f"the hottest places alone give more of it than random places (area {self.insertion:.2f}, {between})",
            f"with random weights the map is another (rank correlation {self.random_weights:.2f})",
            f"the map stays when the picture moves by a few pixels (rank correlation {self.shift:.2f})",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain JSON values."""
        numbers = {**asdict(self), "random": list(self.random)}
        return {**numbers, "is_evidence": self.is_evidence, "reasons": list(self.reasons)}


def measure_faithfulness(
    subject: Subject,
    *,
    draw: Callable[[nn.Module, Tensor], Tensor],
    level: Level = "quick",
    random_weights: int | None = None,
    seed: int = 0,
) -> Faithfulness:
    """Check a method for heat maps on one face.

    Args:
        subject: The face.
        draw: Model and pictures [N, 3, S, S] to maps [N, h, w]; also called with random weights.
        level: Effort, see `Level`.
        random_weights: Number of networks with random weights; None takes that of the level.
        seed: Random seed of the maps and weights.

    Returns:
        Results of the checks.
    """
    effort, random = _EFFORTS[level], np.random.default_rng(seed)
    raw = draw(subject.model, subject.sharp)
    fall, areas = _areas(subject, raw, effort, random)
    return Faithfulness(
        fall=fall,
        deletion=areas[0],
        insertion=areas[1],
        random=tuple(areas[2:]),
        random_weights=_like_random(subject, raw, draw, range(seed, seed + (random_weights or effort.random_weights))),
        shift=_steadiness(subject, raw, draw, effort.shifts),
        level=level,
    )


def randomised(model: nn.Module, *, seed: int) -> nn.Module:
    """Copy a model with new random weights.

    Args:
        model: Left as it is.
        seed: Random seed.

    Returns:
        A copy with weights after He et al. 2015, biases of 0, and normalisations that do nothing yet.
    """
    random = torch.Generator().manual_seed(seed)
    with HOOKING, torch.inference_mode(False):  # what is copied in inference mode cannot be differentiated
        other = copy.deepcopy(model)
        for module in other.modules():
            _draw_anew(module, random)
    return other


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Compare two maps by the order of their values, after Spearman.

    Args:
        one: Any shape.
        other: The same shape.

    Returns:
        -1..1; equal values share their mean rank. 0 where one of them is constant.

    Example:
        >>> rank_correlation(np.array([1, 2, 3]), np.array([10, 20, 1000]))
        1.0
    """
    ranks = [_ranks(values) - (values.size + 1) / 2 for values in (one, other)]
    length = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float(round((ranks[0] * ranks[1]).sum() / length, 12)) if length else 0.0


def _areas(subject: Subject, raw: Tensor, effort: _Effort, random: np.random.Generator) -> tuple[float, list[float]]:
    """Compute the fall with all blurred, and the areas of the map and its negative, and of random maps and theirs.

    Showing the hottest places first is blurring the coldest first, run backwards: with symmetric shares, insertion is
    the deletion of the negative map. Random maps are no better than their negatives, so each of them counts twice.
    """
    noise = torch.from_numpy(random.normal(size=(effort.random_maps, *_grid(raw))).astype(np.float32))
    size_px = subject.sharp.shape[-1]
    maps = torch.cat([_whole(raw, size_px), _whole(noise, size_px)]).numpy()
    orders = [order for one in maps for order in _orders(one, random)]
    masks = [_hottest(order, share) for order in orders for share in effort.shares]
    first, last, *rest = subject.predict([np.zeros_like(masks[0]), np.ones_like(masks[0]), *masks])
    levels = [0.0, *effort.shares, 1.0]
    curves = np.array(rest).reshape(len(orders), len(effort.shares))
    areas = [float(np.trapezoid([first, *curve, last], levels)) for curve in curves]
    return float(first - last), areas


def _grid(raw: Tensor) -> tuple[int, int]:
    height, width = raw.shape[-2:]
    return min(height, 32), min(width, 32)


def _whole(raw: Tensor, size_px: int) -> Tensor:
    return enlarge(raw.detach().float().cpu(), size_px=size_px)


def _orders(one: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the rank of each pixel, hottest first, and coldest first; ties in random order."""
    order = np.lexsort((random.random(one.size), -one.ravel()))
    rank = np.empty(one.size, int)
    rank[order] = np.arange(one.size)
    return rank.reshape(one.shape), rank.size - 1 - rank.reshape(one.shape)


def _hottest(order: np.ndarray, share: float) -> np.ndarray:
    return order < round(share * order.size)


def _like_random(
    subject: Subject, raw: Tensor, draw: Callable[[nn.Module, Tensor], Tensor], seeds: Sequence[int]
) -> float:
    heat = raw[0].detach().float().cpu().numpy()
    others = (draw(randomised(subject.model, seed=seed), subject.sharp)[0] for seed in seeds)
    return float(np.mean([abs(rank_correlation(heat, other.float().cpu().numpy())) for other in others]))


def _steadiness(subject: Subject, raw: Tensor, draw: Callable[[nn.Module, Tensor], Tensor], shifts: int) -> float:
    """Shift the face, its edge repeated, and compare the maps where both have the face."""
    size_px = subject.sharp.shape[-1]
    by = max(1, round(_SHIFT * size_px))
    corners = [(by + by * down, by + by * right) for down, right in _DIRECTIONS[:shifts]]
    padded = nn.functional.pad(subject.sharp, (by, by, by, by), mode="replicate")
    moved = torch.cat([padded[:, :, top : top + size_px, left : left + size_px] for top, left in corners])
    inner = slice(by, size_px - by)
    heat = _whole(raw, size_px)[0, inner, inner].numpy()
    shifted = _whole(draw(subject.model, moved), size_px).numpy()
    inside = size_px - 2 * by
    back = [
        one[2 * by - top :, 2 * by - left :][:inside, :inside]
        for one, (top, left) in zip(shifted, corners, strict=True)
    ]
    return float(np.mean([rank_correlation(heat, one) for one in back]))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place.ravel()])


def _draw_anew(module: nn.Module, random: torch.Generator) -> None:
    reset: Any = getattr(module, "reset_parameters", None)
    if reset is not None and "norm" in type(module).__name__.lower():
        reset()
        return
    for name, weight in module.named_parameters(recurse=False):
        if weight.ndim > 1:
            drawn = torch.randn(weight.shape, generator=random) * (2 / weight[0].numel()) ** 0.5
            weight.data.copy_(drawn)
        elif name == "bias":
            weight.data.zero_()
