"""Measure how the score changes when parts of a face are blurred."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

from deepfake_detect.explain.layers import undisturbed
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.weights.card import Preprocessing

_BLUR, _EDGE = 1 / 20, 1 / 60  # shares of the side: a face loses its features; a soft edge
_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A part of the face: its share of the heat, and its effect on the score.

    Attributes:
        share: Share of the heat, 0..1; over all parts the shares add up to 1, or to 0 without heat.
        drop: Fall of the probability of the class shown when this part alone is blurred, -1..1; None where it was not
            measured.
    """

    share: float
    drop: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Return the region as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A face crop, sharp and blurred, with the model that scores it.

    Attributes:
        model: [N, 3, S, S] to N logits.
        sharp: [1, 3, S, S], as the model sees the face.
        blurred: The same, blurred until no feature is left.
        probability: Logits [N] to the probability of the class shown, [N].
        forward: A faster way to the model's logits; None runs the model.
    """

    model: nn.Module
    sharp: Tensor
    blurred: Tensor
    probability: Callable[[Tensor], Tensor]
    forward: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def of(
        cls,
        crop: np.ndarray,
        *,
        model: nn.Module,
        preprocessing: Preprocessing,
        device: torch.device,
        probability: Callable[[Tensor], Tensor],
        forward: Callable[[Tensor], Tensor] | None = None,
    ) -> Subject:
        """Prepare a crop.

        Args:
            crop: [S, S, 3] uint8 RGB.
            model: On ``device``.
            preprocessing: From the card.
            device: Where the model is.
            probability: See `Subject`.
            forward: See `Subject`.
        """
        soft = np.asarray(Image.fromarray(crop).filter(ImageFilter.GaussianBlur(_BLUR * len(crop))))
        batch = to_batch([crop, soft], preprocessing=preprocessing).to(device)
        return cls(model=model, sharp=batch[:1], blurred=batch[1:], probability=probability, forward=forward)

    def predict(self, masks: Sequence[np.ndarray]) -> np.ndarray:
        """Compute the probability of the class shown with some places blurred.

        Args:
            masks: N of [S, S], 1 or True where the blurred face is shown, 0 where the sharp one is.

        Returns:
            [N] float64.
        """
        probabilities = []
        for first in range(0, len(masks), _AT_ONCE):
            some = torch.from_numpy(np.stack(masks[first : first + _AT_ONCE]).astype(np.float32)).to(self.sharp.device)
            with undisturbed(self.model, self.sharp):
                logit = (self.forward or self.model)(torch.lerp(self.sharp, self.blurred, some[:, None]))
                probabilities.append(self.probability(logit.double().cpu()))
        return np.asarray(torch.cat(probabilities)) if probabilities else np.zeros(0)


def measure_regions(
    heat: np.ndarray, masks: Mapping[str, np.ndarray], *, subject: Subject | None = None
) -> dict[str, Region]:
    """Measure the share of the heat of each part of the face, and its effect on the score.

    Args:
        heat: [S, S], nothing below 0.
        masks: From `part_masks`, [S, S] each.
        subject: Blurs one part after the other, with a soft edge; None leaves the effects out.

    Returns:
        The parts, in the order of the masks.
    """
    total = float(heat.sum()) or 1.0
    shares = {name: float(heat[mask].sum()) / total for name, mask in masks.items()}
    if subject is None or not masks:
        return {name: Region(share=share) for name, share in shares.items()}
    nothing = np.zeros(heat.shape, np.float32)
    before, *after = subject.predict([nothing, *(_softened(mask) for mask in masks.values())])
    drops = [float(before - value) for value in after]
    return {name: Region(share=share, drop=drop) for (name, share), drop in zip(shares.items(), drops, strict=True)}


def _softened(mask: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(_EDGE * len(mask))), np.float32) / 255
