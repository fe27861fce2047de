"""Turn a logit into a score and a label, as the card says."""

from __future__ import annotations

import math

from deepfake_detect.errors import WeightsMismatch
from deepfake_detect.weights.card import Card


def judge(logit: float, *, card: Card, threshold: float | None = None) -> tuple[float, str]:
    """Turn a logit into a score and a label, as the card says.

    Args:
        logit: From the model.
        card: Its temperature, bias, threshold and uncertain interval count.
        threshold: In place of the card's; the card's uncertain interval is then left aside.

    Returns:
        The calibrated probability of fake in 0..1, and ``"fake"`` where it reaches the threshold,
        ``"uncertain"`` inside the card's open interval, else ``"real"``.

    Raises:
        WeightsMismatch: The logit is infinite or no number.

    Example:
        >>> from deepfake_detect import Preprocessing
        >>> card = Card(name="a", version=1, architecture="meso4", preprocessing=Preprocessing(size_px=256))
        >>> judge(0.0, card=card)
        (0.5, 'fake')
    """
    if not math.isfinite(logit):
        raise WeightsMismatch(
            f"{card.id} gave the logit {logit}, expected a finite number; "
            "use dtype='float32', or ask `deepfake-detect doctor` whether the weights are sound"
        )
    score = _sigmoid(logit / card.temperature + card.bias)
    if threshold is None and card.uncertain is not None and card.uncertain[0] < score < card.uncertain[1]:
        return score, "uncertain"
    return score, "fake" if score >= (card.threshold if threshold is None else threshold) else "real"


def _sigmoid(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))
