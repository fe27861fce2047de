"""Describe how weights are used and how good they are: the card of a bundle."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass, field
from typing import Any

from deepfake_detect.errors import WeightsCorrupted, WeightsMismatch
from deepfake_detect.weights.card_check import (
    check_facts,
    check_finder,
    check_real,
    check_reals,
    check_sha256,
    check_text,
    check_texts,
    check_whole,
    checksum_of,
    parse_card,
)
from deepfake_detect.weights.texture import TextureLook

LIBRARY = "deepfake-detect"
CARD_FILE = "card.json"
WEIGHTS_FILE = "model.safetensors"
TEXTURE_FILE = "texture.safetensors"

SCHEMA = 4
"""Newest layout of ``card.json`` that this library reads."""

DETECTS = ("real", "fake")
"""Classes of a detector."""

INTERPOLATIONS = ("bilinear", "bicubic", "mipmap")
"""Ways in which `resample` scales a crop."""

_SINCE = {"calibration": 2, "checksum": 3, "texture": 4}
"""Fields that older layouts lack: the layout that brought each."""

_ONE_LOOK = 3  # a card without a texture look is written in the layout that older versions of the library read

_CHECKSUM = "checksum"  # only in the file: of all other fields

_log = logging.getLogger("deepfake_detect")


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
        check_whole("size_px", self.size_px, low=1, high=1024)
        check_reals("mean", self.mean, count=3, low=-1000, high=1000)
        check_reals("std", self.std, count=3, low=1e-6, high=1000)
        if self.interpolation not in INTERPOLATIONS:
            raise WeightsMismatch(
                f"interpolation is {self.interpolation!r}, expected one of {', '.join(INTERPOLATIONS)}"
            )
        check_real("margin", self.margin, low=0.01, high=100)
        check_text("finder", self.finder, longest=1000, may_be_empty=True)


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
        texture: The second look, at patches of the face at the pixels of the original; None for a detector with one.
        schema: Layout that this library knows; a card with one look is written in layout 3, which older ones read.
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
    texture: TextureLook | None = None
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
        """Give the card as plain Python values, in the order of the attributes; with one look in layout 3."""
        values = dataclasses.asdict(self)
        if self.texture is None:
            del values["texture"]
            values["schema"] = _ONE_LOOK
        return values

    def to_json(self) -> str:
        """Return the text of ``card.json``, which ends with a checksum over all fields."""
        values = self.to_dict()
        text = json.dumps({**values, _CHECKSUM: checksum_of(values)}, indent=2, ensure_ascii=False, allow_nan=False)
        return text + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "card.json") -> Card:
        """Read the text of a ``card.json``.

        Args:
            text: JSON, UTF-8 where it is bytes.
            where: Named in error messages.

        Raises:
            WeightsMismatch: Not JSON, a newer layout, unknown or missing fields, or values of a wrong type or out of
                range.
            WeightsCorrupted: The fields are not those that the checksum was taken of: the card is damaged, or was
                edited. Where it is empty, the card loads, with a line in the log.
        """
        values = parse_card(text, where=where)
        if not isinstance(values, dict):
            raise WeightsMismatch(f"{where} holds a {type(values).__name__}, expected an object")
        card = cls._from_values(values, where)
        for name in ("calibration", "metrics"):
            check_facts(f"{where}: {name}", getattr(card, name), finite=True)
        check_finder(f"{where}: finder", card.preprocessing.finder)
        _check_sum(values, where)
        return card

    @classmethod
    def _from_values(cls, values: dict[str, Any], where: str) -> Card:
        schema = values.get("schema")
        if type(schema) is not int or not 1 <= schema <= SCHEMA:
            raise WeightsMismatch(
                f"{where} has card schema {schema!r}, this library reads 1 to {SCHEMA}; "
                "run: pip install --upgrade deepfake-detect"
            )
        later = {name for name, since in _SINCE.items() if schema < since}
        fields = {item.name for item in dataclasses.fields(cls)} | {_CHECKSUM}
        _same_fields(fields - later, values, where)
        preprocessing = values["preprocessing"]
        _same_fields(
            {item.name for item in dataclasses.fields(Preprocessing)}, preprocessing, f"{where}: preprocessing"
        )
        texture = values.get("texture")
        if texture is not None:
            _same_fields({item.name for item in dataclasses.fields(TextureLook)}, texture, f"{where}: texture")
        stored = {name: value for name, value in _with_tuples(values).items() if name != _CHECKSUM}
        try:
            return cls(
                **{
                    **stored,
                    "preprocessing": Preprocessing(**_with_tuples(preprocessing)),
                    "texture": None if texture is None else TextureLook(**_with_tuples(texture)),
                    "schema": SCHEMA,
                }
            )
        except WeightsMismatch as error:
            raise WeightsMismatch(f"{where}: {error}") from None

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_whole("version", self.version, low=0, high=10**6)
        check_text("architecture", self.architecture)
        self._check_decision()
        for name in ("calibration", "metrics", "golden"):
            check_facts(name, getattr(self, name))
        for picture, logit in self.golden.items():
            check_real(f"golden.{picture}", logit, low=-1e6, high=1e6)
        check_sha256("sha256", self.sha256)
        for name in ("hub_repo", "hub_revision"):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name))
        for name in ("licence", "recipe", "library_version"):
            check_text(name, getattr(self, name), longest=20_000, may_be_empty=True)
        check_texts("training_data", self.training_data)
        check_texts("limits", self.limits)

        if self.texture is not None and self.classes != DETECTS:
            raise WeightsMismatch(f"texture is set, but {self.name} is no detector: its classes are {self.classes}")

    def _check_decision(self) -> None:
        """Check what turns logits into labels."""
        check_texts("classes", self.classes)
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise WeightsMismatch(f"classes is {self.classes}, expected two names or more, all different")
        if self.classes == DETECTS[::-1]:
            raise WeightsMismatch(f"classes is {self.classes}, expected {DETECTS}")
        check_real("temperature", self.temperature, low=1e-3, high=1e3)
        check_real("bias", self.bias, low=-1e3, high=1e3)
        check_real("threshold", self.threshold, low=0, high=1)
        if self.uncertain is not None:
            check_reals("uncertain", self.uncertain, count=2, low=0, high=1)
            if self.uncertain[0] >= self.uncertain[1]:
                raise WeightsMismatch(f"uncertain is {self.uncertain}, expected the lower of two scores first")


def texture_card(card: Card) -> Card:
    """Return the card of the texture network of a detector with two looks, as if it stood alone.

    Args:
        card: Of the detector.

    Raises:
        WeightsMismatch: It has one look.
    """
    look = card.texture
    if look is None:
        raise WeightsMismatch(f"{card.id} has no texture look")
    return Card(
        name=card.name,
        version=card.version,
        architecture=look.architecture,
        preprocessing=Preprocessing(size_px=look.patch_px, mean=look.mean, std=look.std),
        sha256=look.sha256,
    )


def _same_fields(expected: set[str], values: Any, where: str) -> None:
    if not isinstance(values, dict):
        raise WeightsMismatch(f"{where} holds a {type(values).__name__}, expected an object")
    unknown = sorted(set(values) - expected)
    missing = sorted(expected - set(values))
    if unknown or missing:
        raise WeightsMismatch(
            f"{where}: unknown fields {unknown or 'none'}, missing fields {missing or 'none'}; "
            "the card was written by another version of deepfake-detect: save the bundle again"
        )


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _check_sum(values: dict[str, Any], where: str) -> None:
    expected = values.get(_CHECKSUM)
    if values["schema"] < _SINCE[_CHECKSUM]:
        return
    if expected == "":
        _log.warning("%s was edited by hand: it has no checksum", where)
    elif expected != checksum_of(values):
        raise WeightsCorrupted(
            f"{where} is damaged or was edited: its fields are not those that its checksum was taken of; download or "
            'save the bundle again, or set "checksum": "" in a card that you have edited yourself'
        )
