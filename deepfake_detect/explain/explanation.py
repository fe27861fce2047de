"""The result of `explain`: heat maps, parts of the face, checks, and how they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.drawing.result import DrawnResult, short_name
from deepfake_detect.errors import ImageUnreadable
from deepfake_detect.explain.explanation_plot import PlotContent, draw_explanation
from deepfake_detect.explain.faithfulness import Faithfulness
from deepfake_detect.explain.regions import Region
from deepfake_detect.faces.face import Face
from deepfake_detect.faces.parts import OVALS, face_axes, oval
from deepfake_detect.inputs.image import open_image
from deepfake_detect.predict.prediction import Label, Prediction
from deepfake_detect.predict.verdict import fuse_logits, judge


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaceHeat:
    """The heat map of one face.

    Attributes:
        face: With its score and label.
        heat: [S, S] float32 over the crop that the model saw, 0..1 where 1 is the hottest place of the picture.
        crop_xyxy: The crop that the model saw, in pixels of the upright original.
        parts: Part of the face to its share of the heat and, where measured, the drop of the score; empty without
            landmarks.
        faithfulness: Results of the checks; None where this face was not checked.
    """

    face: Face
    heat: npt.NDArray[np.float32] = field(repr=False)
    crop_xyxy: tuple[float, float, float, float]
    parts: Mapping[str, Region]
    faithfulness: Faithfulness | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the heat as plain JSON values."""
        return {
            "face": self.face.to_dict(),
            "crop_xyxy": [float(value) for value in self.crop_xyxy],
            "parts": {name: region.to_dict() for name, region in self.parts.items()},
            "faithfulness": self.faithfulness and self.faithfulness.to_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Explanation(DrawnResult):
    """Where in a picture a score comes from, and how far the map can be trusted.

    Attributes:
        heat: [H, W] float32 over the upright original, 0..1 where 1 is the hottest place; 0 outside the crops.
        method: Name of the method, such as ``"grad-cam"``.
        layer: The layer that the map is of; None for methods that work on pixels.
        target: ``"fake"`` or ``"real"``: the heat shows what speaks for it.
        faces: Largest first.
        prediction: The verdict, as `Predictor.predict` gives it.
    """

    heat: npt.NDArray[np.float32]
    method: str
    layer: str | None
    target: str
    faces: tuple[FaceHeat, ...]
    prediction: Prediction

    _notebook_px: ClassVar[tuple[int, int]] = (1000, 4000)

    @property
    def name(self) -> str:
        """Return the path or URL of the picture, or a word such as ``"<array>"``."""
        return self.prediction.name

    @property
    def label(self) -> Label:
        """Return the verdict: ``"real"``, ``"fake"``, ``"uncertain"`` or ``"no-face"``."""
        return self.prediction.label

    @property
    def score(self) -> float | None:
        """Return the probability of fake, 0..1; None where no face was found."""
        return self.prediction.score

    @property
    def decisive(self) -> FaceHeat | None:
        """Return the face with the highest score, which decides the verdict; None without a face."""
        return next((one for one in self.faces if one.face is self.prediction.worst), None)

    @property
    def regions(self) -> Mapping[str, float]:
        """Return the share of the heat of each part of the decisive face, 0..1; empty without landmarks."""
        return {name: region.share for name, region in self._parts.items()}

    @property
    def drops(self) -> Mapping[str, float]:
        """Return the fall of the probability of the class shown when a part alone is blurred, where measured."""
        return {name: region.drop for name, region in self._parts.items() if region.drop is not None}

    @property
    def faithfulness(self) -> Faithfulness | None:
        """Return the results of the checks of the decisive face; None where it was not checked."""
        return self.decisive.faithfulness if self.decisive else None

    @property
    def texture_share(self) -> float | None:
        """Return the texture look's share of the decisive face's logit, 0..1, which the heat does not show.

        None for a detector with one look, and where that look was withheld.
        """
        looks, settings = (self.decisive.face.looks if self.decisive else None), self.prediction.settings
        if looks is None or settings is None or settings.card.texture is None or looks["texture"] is None:
            return None
        crop, texture = abs(looks["crop"] or 0.0), abs(settings.card.texture.added(looks["texture"]))
        return texture / (crop + texture) if crop + texture else 0.0

    @property
    def is_evidence(self) -> bool:
        """Whether the heat of the decisive face may be shown to others as the reason of the verdict.

        True if, and only if, the verdict is ``"fake"`` or ``"real"``, there is heat, it is that of the verdict, and
        every check holds; see `Faithfulness` for the rule.
        """
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """List in words why the heat is no evidence; empty where it is."""
        if self.decisive is None:
            return ("no face was found, and nothing was scored",)
        reasons = []
        if self.label == "uncertain":
            reasons.append("the verdict is uncertain: there is nothing to give reasons for")
        elif self.label != self.target:
            reasons.append(f"the heat shows what speaks for {self.target}, against the verdict")
        if not self.decisive.heat.any():
            reasons.append(f"no place on the face speaks for {self.target}, by {self.method}")
        if self.texture_share is not None and self._label_of_crop() != self.label:
            without = self._label_of_crop()
            reasons.append(f"the verdict rests on the texture look, which has no map: without it, it is {without}")
        if self.faithfulness is None:
            reasons.append("the map was not checked")
        return (*reasons, *(self.faithfulness.reasons if self.faithfulness else ()))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the heat as plain JSON values; ``texture_share`` for a detector with two looks only."""
        texture = {} if self.texture_share is None else {"texture_share": self.texture_share}
        return {
            "name": self.name,
            "label": self.label,
            "score": self.score,
            **texture,
            "method": self.method,
            "layer": self.layer,
            "target": self.target,
            "is_evidence": self.is_evidence,
            "reasons": list(self.reasons),
            "regions": dict(self.regions),
            "drops": dict(self.drops),
            "faithfulness": self.faithfulness and self.faithfulness.to_dict(),
            "faces": [face.to_dict() for face in self.faces],
            "prediction": self.prediction.to_dict(),
        }

    def plot(self) -> Image.Image:
        """Draw the picture, the heat over it, the decisive face by its parts, and the results of the checks.

        The picture is opened once more.

        Returns:
            RGB picture, 800 to 1520 pixels wide.

        Raises:
            DeepfakeDetectError: The picture is gone.
        """
        if self.prediction.source is None:
            raise ImageUnreadable(f"{self.name}: this explanation holds no picture; explain it again to plot it")
        return draw_explanation(self._plot_content(open_image(self.prediction.source).pixels))

    def __repr__(self) -> str:
        score = "no score" if self.score is None else f"score {self.score:.3f}"
        held = "evidence" if self.is_evidence else "not evidence"
        return f"Explanation({self.label}, {score}, {self.method} for {self.target}, {held}, {short_name(self.name)})"

    @property
    def _parts(self) -> Mapping[str, Region]:
        return self.decisive.parts if self.decisive else {}

    def _plot_content(self, pixels: np.ndarray) -> PlotContent:
        verdict = self.label if self.score is None else f"{self.label}, score {self.score:.3f}"
        decisive = self.decisive
        method = f"{self.method} at {self.layer}" if self.layer else self.method
        if self.texture_share is not None:
            method += f"; {self.texture_share:.0%} of the logit from the texture look, not shown"
        return PlotContent(
            pixels=pixels,
            heat=self.heat,
            boxes=[one.face.box_xyxy for one in self.faces],
            captions=[f"{one.face.label} {one.face.score:.3f}" for one in self.faces],
            colours=[COLOURS.get(one.face.label or "", COLOURS["uncertain"]) for one in self.faces],
            squares=[one.crop_xyxy for one in self.faces],
            close_up=None if decisive is None else (_cut_out(pixels, decisive), decisive.heat),
            outlines=_outlines(decisive) if decisive else (),
            title=f"{verdict} ({'probability of fake' if self.score is not None else 'nothing to explain'})",
            colour=COLOURS.get(self.label, COLOURS["uncertain"]),
            shown=self.target,
            rows=[(name, region.share, region.drop) for name, region in self._parts.items()],
            findings=self.reasons or (self.faithfulness.findings if self.faithfulness else ()),
            holds=self.is_evidence,
            note=f"{self.name}; {self.prediction.model}; {method}; {self._checked()}",
        )

    def _label_of_crop(self) -> str:
        """Return the label that the decisive face has without the texture look."""
        settings, decisive = self.prediction.settings, self.decisive
        if settings is None or decisive is None or decisive.face.looks is None:
            return self.label
        logit = fuse_logits(decisive.face.looks["crop"] or 0.0, None, card=settings.card)
        return judge(logit, card=settings.card, threshold=settings.threshold)[1]

    def _checked(self) -> str:
        return f"{self.faithfulness.level} checks" if self.faithfulness else "no checks"


def _cut_out(pixels: np.ndarray, one: FaceHeat) -> np.ndarray:
    side = len(one.heat)
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC, box=one.crop_xyxy)
    return np.asarray(image)


def _outlines(one: FaceHeat) -> list[tuple[str, np.ndarray]]:
    """Return the outlines of the parts, in pixels of the heat."""
    if len(one.face.landmarks_xy) != 5:
        return []
    left, top, right, bottom = one.crop_xyxy
    scale = len(one.heat) / np.array([right - left, bottom - top])
    origin, axes = face_axes((one.face.landmarks_xy - (left, top)) * scale)
    return [(name, oval(name, corners=48) @ axes + origin) for name in OVALS]
