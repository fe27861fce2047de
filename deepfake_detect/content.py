"""What is on this picture: an animal, a face, a vehicle, or something else?"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from deepfake_detect.card import Card
from deepfake_detect.errors import WeightsMismatch
from deepfake_detect.faces import whole_picture
from deepfake_detect.image import name_image, open_image
from deepfake_detect.preprocess import to_batch
from deepfake_detect.weights import CONTENT, find_bundle, load_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a picture shows, as a whole.

    Attributes:
        label: ``"animal"``, ``"face"``, ``"vehicle"`` or ``"other"``: the class of the highest score.
        scores: Probability of each class, 0..1; they sum to 1.
        size_hw: Height and width of the picture, in pixels.
        model: ``"content-classes@1"``.
    """

    label: str
    scores: dict[str, float]
    size_hw: tuple[int, int]
    model: str

    def to_dict(self) -> dict[str, Any]:
        """Give the result as plain Python values."""
        return asdict(self)

    def to_json(self) -> str:
        """Give the result as one line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def __repr__(self) -> str:
        return f"Content({self.label!r}, {self.scores[self.label]:.3f}, model={self.model!r})"


def classify_content(image: Any) -> Content:
    """Tell what a picture shows before asking whether it is real: a detector of faces has no opinion on a lorry.

    The whole picture is scaled to a square and classified on the CPU; it need not hold a face that `find_faces` finds,
    and a picture of a person with a dog is one or the other. The first call loads the network.

    Args:
        image: As for `Predictor.predict`.

    Returns:
        The class with the highest score, and all scores.

    Raises:
        ImageUnreadable: Not a picture; the message says what was found.
        ImageTooLarge: More pixels than the limit.

    Example:
        >>> classify_content("examples/portrait.jpg").label
        'face'
    """
    model, card = _classifier()
    wanted = card.preprocessing
    picture = open_image(image, min_side_px=2 * wanted.size_px)
    crop = whole_picture(picture.pixels, size_px=wanted.size_px, interpolation=wanted.interpolation)
    with torch.inference_mode():
        logits = model(to_batch([crop], preprocessing=wanted))[0]
    scores = (logits.double() / card.temperature).softmax(0).tolist()
    if not all(math.isfinite(score) for score in scores):
        raise WeightsMismatch(f"{card.id} gives no numbers for {name_image(image)}; ask `deepfake-detect doctor`")
    by_class = dict(zip(card.classes, scores, strict=True))
    return Content(
        label=max(by_class, key=lambda name: by_class[name]), scores=by_class, size_hw=picture.size_hw, model=card.id
    )


@functools.cache
def _classifier() -> tuple[torch.nn.Module, Card]:
    bundle = find_bundle(CONTENT)
    return load_model(bundle).to(memory_format=torch.channels_last), bundle.card
