"""Find the traces of an earlier JPEG compression in the DCT coefficients.

Coefficients that were rounded to multiples of one step, and then to multiples of another, are distributed unevenly:
some values occur too often, others never (Popescu and Farid, "Statistical tools for digital forensics", 2004). For
each low frequency, the counts of its values are compared with those that each possible first step would leave; what
is reported is how much better the best of them explains the counts than no earlier compression does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from deepfake_detect.provenance.jpeg_structure import JpegStructure
from deepfake_detect.provenance.pixels import Grey, decode_brightness

MODES: Final = (1, 8, 16, 9, 2, 3, 10, 17)
"""Frequencies that are examined, by their place in an 8x8 block; higher ones are mostly zero."""

GAIN: Final = 0.02
"""Least gain in log-likelihood for each coefficient, in nats; pictures compressed once stay below .01."""

LEAST_MODES: Final = 3
"""Least number of frequencies that must show it."""

_SIDE_PX = 1024  # of the middle of the picture that is examined
_MOST_STEP, _MOST_VALUE = 40, 40
_LEAST_COUNT, _LEAST_VALUES = 300, 8

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleCompression:
    """Evidence of an earlier compression in the coefficients.

    Attributes:
        modes: How many frequencies show an earlier compression.
        examined: How many had enough coefficients other than zero.
    """

    modes: int
    examined: int

    @property
    def found(self) -> bool:
        """Whether enough of them show it."""
        return self.modes >= LEAST_MODES


def examine_compression(structure: JpegStructure, data: bytes) -> DoubleCompression | None:
    """Look for an earlier compression on the same 8x8 grid.

    Args:
        structure: As read from the file.
        data: The whole file.

    Returns:
        What was found; None where the picture cannot be decoded, or is smaller than a block.
    """
    grey = decode_brightness(structure, data) if 0 in structure.tables else None
    if grey is None or min(grey.shape) < 8:
        return None
    steps = structure.tables[0][1]
    blocks = transform_blocks(_middle(grey))  # [N, 64]
    gains = [measure_gain(np.rint(blocks[:, mode] / steps[mode]), steps[mode]) for mode in MODES if steps[mode]]
    examined = [gain for gain in gains if gain is not None]
    return DoubleCompression(modes=sum(gain > GAIN for gain in examined), examined=len(examined))


def transform_blocks(grey: Grey) -> Floats:
    """Return the DCT of every whole 8x8 block, as JPEG defines it: [N, 64], row by row."""
    height, width = (side // 8 * 8 for side in grey.shape)
    pixels = grey[:height, :width].astype(np.float64) - 128
    blocks = pixels.reshape(height // 8, 8, width // 8, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    order = np.arange(8)
    basis = 0.5 * np.cos((2 * order + 1) * order[:, None] * np.pi / 16)
    basis[0] /= np.sqrt(2)
    return np.asarray((basis @ blocks @ basis.T).reshape(-1, 64))


def measure_gain(values: Floats, step: int) -> float | None:
    """Measure how much better an earlier compression explains the values of one frequency.

    Args:
        values: Quantised coefficients, whole numbers.
        step: Their quantisation step.

    Returns:
        Gain in log-likelihood for each coefficient, in nats; None where there are too few other than zero.
    """
    sizes = np.minimum(np.abs(values), _MOST_VALUE + 1).astype(np.int64)
    counts: Floats = np.bincount(sizes, minlength=_MOST_VALUE + 2)[1:-1].astype(np.float64)
    counts = counts[: _used_values(counts)]
    if counts.sum() < _LEAST_COUNT or len(counts) < _LEAST_VALUES:
        return None
    single = _log_likelihood(counts, np.ones(len(counts)))
    candidates = (reachable_values(first, step, len(counts)) for first in range(2, _MOST_STEP + 1) if step % first)
    gains = (_log_likelihood(counts, reached) - single for reached in candidates if np.ptp(reached) > 0)
    return max(gains, default=0.0)


def reachable_values(first: int, second: int, number: int) -> Floats:
    """Count, for each value 1..number, how many values of a first quantisation become it in the second.

    Example:
        >>> reachable_values(3, 2, 6).astype(int).tolist()
        [0, 1, 1, 0, 1, 1]
    """
    earlier = np.arange(0, (number + 1) * second // first + 2)
    later = np.floor(earlier * first / second + 0.5).astype(np.int64)
    return np.bincount(later[later <= number], minlength=number + 1)[1:].astype(np.float64)


def _middle(grey: Grey) -> Grey:
    top, left = (max(0, side - _SIDE_PX) // 16 * 8 for side in grey.shape)
    return grey[top : top + _SIDE_PX, left : left + _SIDE_PX]


def _used_values(counts: Floats) -> int:
    """Return how many values are common enough: up to the last whose neighbourhood has four coefficients a value."""
    smooth = np.convolve(counts, np.ones(7) / 7, "same")
    common = np.flatnonzero(smooth > 4)
    return int(common[-1]) + 1 if len(common) else 0


def _log_likelihood(counts: Floats, reached: Floats) -> float:
    """Fit a smooth curve to the counts, weighed by how many values reach each, and return its mean log-likelihood."""
    places = np.log(np.arange(1, len(counts) + 1))
    used = reached > 0
    if used.sum() < 5:
        return -np.inf
    terms = np.vander(places, 4)
    weights = np.sqrt(counts[used] + 1)
    logs = np.log((counts[used] + 0.5) / reached[used])
    fit = np.linalg.lstsq(terms[used] * weights[:, None], logs * weights, rcond=None)[0]
    share = np.exp(np.clip(terms @ fit, -20, 20)) * reached + 2e-4 * counts.sum() / len(counts)
    return float((counts * np.log(share / share.sum())).sum() / counts.sum())
