"""What do the weights say of themselves?"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from deepfake_detect.errors import WeightsMismatch

LIBRARY = "deepfake-detect"
CARD_FILE = "card.json"
WEIGHTS_FILE = "model.safetensors"

SCHEMA = 2
"""Newest layout of ``card.json`` that this library reads."""

DETECTS = ("real", "fake")
"""Classes of a detector."""

INTERPOLATIONS = ("bilinear", "bicubic", "mipmap")
"""Ways in which `resample` scales a crop."""

_SINCE = {"calibration": 2}
"""Fields that older layouts lack: the layout that brought each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a face becomes a model's input.

    Attributes:
        size_px: Side of the square input, in pixels.
        mean: Per RGB channel, subtracted after scaling to [0, 1].
        std: Per RGB channel, divided by after the subtraction.
        interpolation: How the crop is scaled: ``"bilinear"``, ``"bicubic"`` or ``"mipmap"``; see `resample`.
        margin: Side of the crop as a multiple of the longer side of the face box.
        finder: The face finder whose boxes the margin was chosen for; ``"none"`` for models of whole pictures.
    """

    size_px: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    interpolation: str = "bicubic"
    margin: float = 1.3
    finder: str = "dd-yunet@1"

    def __post_init__(self) -> None:
        if self.size_px < 1:
            raise WeightsMismatch(f"size_px is {self.size_px}, expected at least 1")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise WeightsMismatch(f"mean {self.mean} and std {self.std} must be three numbers each, std positive")
        if self.interpolation not in INTERPOLATIONS:
            raise WeightsMismatch(
                f"interpolation is {self.interpolation!r}, expected one of {', '.join(INTERPOLATIONS)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Everything that is needed to use a set of weights, and to judge them.

    Attributes:
        name: Short name, such as ``"xception-fakefaces"``.
        version: Counted from 0; a published version 1 or above never changes.
        architecture: A name that ``create_model`` knows.
        preprocessing: How a face becomes the input.
        classes: Of a detector ``("real", "fake")``, by the sign of its logit, negative first; of another network the
            names of its logits, in order.
        temperature: Divides the logit before the sigmoid.
        bias: Added to the divided logit before the sigmoid.
        threshold: Score at and above which the label is ``"fake"``.
        uncertain: Scores inside this open interval are labelled ``"uncertain"``; None abstains never.
        calibration: How temperature, bias and threshold were found, on what, and what that guarantees.
        sha256: Of ``model.safetensors``, in hexadecimal.
        hub_repo: ``owner/name`` on the Hub, where published.
        hub_revision: Commit on the Hub.
        licence: Of the weights.
        training_data: One line for each source.
        recipe: The command that trained the weights.
        metrics: Figures, by data set and by generator.
        golden: Name of a built-in picture to its logit, whole picture, float32 on a CPU.
        limits: What the weights are bad at, in plain words.
        library_version: Version of this library that wrote the card.
        schema: Layout of the card.
    """

    name: str
    version: int
    architecture: str
    preprocessing: Preprocessing
    classes: tuple[str, ...] = DETECTS
    temperature: float = 1.0
    bias: float = 0.0
    threshold: float = 0.5
    uncertain: tuple[float, float] | None = None
    calibration: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    hub_repo: str | None = None
    hub_revision: str | None = None
    licence: str = "unknown"
    training_data: tuple[str, ...] = ()
    recipe: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    golden: dict[str, float] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    library_version: str = ""
    schema: int = SCHEMA

    @property
    def id(self) -> str:
        """``name@version``, as it stands in every prediction."""
        return f"{self.name}@{self.version}"

    @property
    def outputs(self) -> int:
        """Logits for each picture: one of a detector, else one for each class."""
        return 1 if self.classes == DETECTS else len(self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Give the card as plain Python values, in the order of the attributes."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Give the text of ``card.json``."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "card.json") -> Card:
        """Read the text of a ``card.json``.

        Args:
            text: JSON, UTF-8 where it is bytes.
            where: Named in error messages.

        Raises:
            WeightsMismatch: Not JSON, a newer layout, unknown or missing fields, or values out of range.
        """
        try:
            values = json.loads(text)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise WeightsMismatch(f"{where} is not JSON ({error}); download or save the bundle again") from None
        if not isinstance(values, dict):
            raise WeightsMismatch(f"{where} holds a {type(values).__name__}, expected an object")
        return cls._from_values(values, where)

    @classmethod
    def _from_values(cls, values: dict[str, Any], where: str) -> Card:
        schema = values.get("schema")
        if not isinstance(schema, int) or schema > SCHEMA:
            raise WeightsMismatch(
                f"{where} has card schema {schema!r}, this library reads up to {SCHEMA}; "
                "run: pip install --upgrade deepfake-detect"
            )
        values = {**{name: {} for name, since in _SINCE.items() if schema < since}, **values, "schema": SCHEMA}
        _same_fields(cls, values, where)
        preprocessing = values["preprocessing"]
        _same_fields(Preprocessing, preprocessing, f"{where}: preprocessing")
        uncertain = values.get("uncertain")
        try:
            return cls(
                **{
                    **values,
                    "preprocessing": Preprocessing(
                        **{**preprocessing, "mean": tuple(preprocessing["mean"]), "std": tuple(preprocessing["std"])}
                    ),
                    "classes": tuple(values["classes"]),
                    "uncertain": None if uncertain is None else tuple(uncertain),
                    "training_data": tuple(values["training_data"]),
                    "limits": tuple(values["limits"]),
                }
            )
        except (TypeError, KeyError) as error:
            raise WeightsMismatch(f"{where} does not fit schema {SCHEMA}: {error}") from None

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise WeightsMismatch(
                f"card {self.id} has classes {self.classes}, expected two names or more, all different"
            )
        if len(self.classes) == 2 and self.classes != DETECTS:
            raise WeightsMismatch(f"card {self.id} has classes {self.classes}, expected {DETECTS}")
        if not (0 < self.temperature < math.inf and math.isfinite(self.bias)):
            raise WeightsMismatch(
                f"card {self.id} has temperature {self.temperature} and bias {self.bias}, expected finite numbers, "
                "the temperature above 0"
            )
        if not 0 <= self.threshold <= 1:
            raise WeightsMismatch(f"card {self.id} has threshold {self.threshold}, expected within 0..1")
        if self.uncertain is not None and not (
            len(self.uncertain) == 2 and 0 <= self.uncertain[0] < self.uncertain[1] <= 1
        ):
            raise WeightsMismatch(
                f"card {self.id} has uncertain {self.uncertain}, expected two scores within 0..1, the lower one first"
            )
        if not isinstance(self.calibration, dict):
            raise WeightsMismatch(
                f"card {self.id} has a {type(self.calibration).__name__} for calibration, expected an object"
            )


def _same_fields(cls: type, values: Any, where: str) -> None:
    if not isinstance(values, dict):
        raise WeightsMismatch(f"{where} holds a {type(values).__name__}, expected an object")
    known = {item.name: item for item in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(known))
    missing = sorted(set(known) - set(values))
    if unknown or missing:
        raise WeightsMismatch(
            f"{where}: unknown fields {unknown or 'none'}, missing fields {missing or 'none'}; "
            "the card was written by another version of deepfake-detect: save the bundle again"
        )
