"""Explain a verdict: compute the heat map of each face, and check how far it can be trusted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from types import NoneType
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from deepfake_detect._options import check_type
from deepfake_detect.errors import InvalidOption, nearest
from deepfake_detect.explain.explanation import Explanation, FaceHeat
from deepfake_detect.explain.faithfulness import LEVELS, Level, measure_faithfulness
from deepfake_detect.explain.layers import find_layer
from deepfake_detect.explain.methods import LOCALISE, METHODS, NAMES, ODD, OF_PIXELS, enlarge, has_map, localise
from deepfake_detect.explain.regions import Subject, measure_regions
from deepfake_detect.faces.crop import crop_square
from deepfake_detect.faces.face import Face
from deepfake_detect.faces.parts import part_masks
from deepfake_detect.inputs.image import ImageInput
from deepfake_detect.predict.look import FaceChoice, Look, check_faces
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.predict.verdict import FaceLogits, calibrate_logit, compose_prediction, fuse_logits
from deepfake_detect.system.torch_defaults import usual_defaults

Target = Literal["fake", "real"]

_AT_ONCE = 16
_LAYERLESS = OF_PIXELS | {LOCALISE}


@usual_defaults()
def explain_image(
    predictor: Predictor,
    image: ImageInput,
    *,
    method: str | None = None,
    layer: str | None = None,
    faces: FaceChoice = "auto",
    faithfulness: Level | Literal["off"] | None = "quick",
    target: Target | None = None,
    threshold: float | None = None,
) -> Explanation:
    """Show where in a picture a score comes from, and check how far the map can be trusted.

    Args:
        predictor: A `Predictor` or a `Detector`.
        image: Anything that `Predictor.predict` takes.
        method: ``"localise"`` (the network's own map of what is forged, where it has one), ``"grad-cam"``,
            ``"grad-cam++"``, ``"hirescam"``, ``"eigen-cam"``, ``"integrated-gradients"`` or ``"occlusion"``; see
            `deepfake_detect.explain.methods` for the papers. None takes the first that the network has.
        layer: A name of ``predictor.model.named_modules()``; None takes the last that gives a map, see `find_layer`.
        faces: See `FaceChoice`.
        faithfulness: ``"quick"`` checks the decisive face with some 40 runs of the model, ``"full"`` every face with
            some 450; ``"off"`` or None does neither.
        target: Class to explain, ``"fake"`` or ``"real"``; None takes the label, and fake for ``"uncertain"``.
        threshold: See `Predictor.predict`.

    Returns:
        The heat in pixels of the original, and the results of the checks. The verdict is that of `Predictor.predict`.

    Raises:
        ImageUnreadable: Not a picture.
        ImageTooLarge: More pixels than the limit.
        LayerNotFound: The model has no such layer, or its output is no map.
        InvalidOption: An unknown method or other choice; a layer for a method that works on pixels.

    Example:
        >>> from deepfake_detect import Detector
        >>> detector = Detector.from_pretrained("meso4-fakefaces")
        >>> explanation = explain_image(detector, "examples/portrait.jpg", faithfulness="off")
        >>> explanation.heat.shape, explanation.layer, round(sum(explanation.regions.values()), 6)
        ((512, 512), 'head.pool', 1.0)
    """
    check_faces(faces, threshold=threshold)
    method = _chosen_method(method, predictor.model)
    _check(layer, method, faithfulness, target)
    mapper = _Mapper(predictor, method, layer)
    look = predictor.look(image, faces=faces)
    prediction, raw = mapper.predict(look, threshold)
    shown = target or ("real" if prediction.label == "real" else "fake")
    if shown == "real":
        raw = mapper.for_real(look.crops, raw)
    maps = _scaled(raw, predictor.card.preprocessing.size_px, is_share=method == LOCALISE)
    scored = zip(prediction.faces, look.crops, maps, strict=True)
    explained = [
        _face_heat(mapper, face, crop, heat, _level(face, prediction, faithfulness), shown, look.size_hw)
        for face, crop, heat in scored
    ]
    return Explanation(
        heat=_paste_back(explained, look.size_hw),
        method=method,
        layer=mapper.layer,
        target=shown,
        faces=tuple(explained),
        prediction=prediction,
    )


class _Mapper:
    """Computes heat maps by a method at a layer, of the model of a predictor or another with the same layers."""

    def __init__(self, predictor: Predictor, method: str, layer: str | None) -> None:
        self.predictor, self.method = predictor, method
        size_px = predictor.card.preprocessing.size_px
        self.layer = None if method in _LAYERLESS else find_layer(predictor.model, layer, size_px=size_px)[0]

    def maps(self, model: nn.Module, batch: Tensor, *, sign: float = 1.0) -> tuple[Tensor, Tensor]:
        """Compute maps [N, h, w] and logits [N]; of the predictor's own model by its packed network, where possible."""
        if self.method == LOCALISE:
            return localise(model, batch, sign=sign)
        if self.layer is None:
            return METHODS[self.method](model, batch, None, sign=sign)
        if model is self.predictor.model and (packed := self.predictor.spliced(batch, self.layer)) is not None:
            return METHODS[self.method](packed, batch, packed.layer, sign=sign)
        return METHODS[self.method](model, batch, model.get_submodule(self.layer), sign=sign)

    def predict(self, look: Look, threshold: float | None) -> tuple[Prediction, Tensor]:
        """Score the faces as `Predictor.predict` does, and keep the maps for fake of the same run, [N, h, w]."""
        maps, logits, start = list[Tensor](), list[float](), time.perf_counter()
        for first in range(0, len(look.crops), _AT_ONCE):
            crops = look.crops[first : first + _AT_ONCE]
            raw, logit = self.maps(self.predictor.model, self._batch(crops))
            maps.append(raw)
            logits += [float(value) for value in logit] if self._is_exact else self.predictor.logits(crops)
        textures = self.predictor.texture_logits([view.patches for view in look.views])
        prediction = compose_prediction(
            look,
            list(map(FaceLogits, logits, textures)),
            card=self.predictor.card,
            revision=self.predictor.revision,
            threshold=threshold,
            seconds=time.perf_counter() - start,
        )
        return prediction, torch.cat(maps) if maps else torch.zeros(0, 1, 1)

    def for_real(self, crops: Sequence[np.ndarray], raw: Tensor) -> Tensor:
        """Turn maps for fake into maps for real."""
        if self.method in ODD or not crops:
            return -raw
        some = (self._batch(crops[first : first + _AT_ONCE]) for first in range(0, len(crops), _AT_ONCE))
        return torch.cat([self.maps(self.predictor.model, batch, sign=-1.0)[0] for batch in some])

    def copies(self, level: Level) -> int | None:
        """Return the number of networks with random weights: one for slow methods, None for the default."""
        return 1 if level == "quick" and self.method in OF_PIXELS else None

    @property
    def _is_exact(self) -> bool:
        return self.predictor.dtype == torch.float32

    def _batch(self, crops: Sequence[np.ndarray]) -> Tensor:
        return to_batch(crops, preprocessing=self.predictor.card.preprocessing).to(self.predictor.device)


def _chosen_method(method: str | None, model: nn.Module) -> str:
    if method is None:
        return LOCALISE if has_map(model) else "grad-cam"
    if method not in NAMES:
        raise InvalidOption(f"method is {method!r}, expected one of {', '.join(NAMES)}{nearest(str(method), NAMES)}")
    if method == LOCALISE and not has_map(model):
        raise InvalidOption(
            "method is 'localise', but this network has no map of what is forged; 'xception-dense' has one, "
            "and 'grad-cam' works for every network"
        )
    return method


def _check(layer: str | None, method: str, faithfulness: str | None, target: str | None) -> None:
    check_type("layer", layer, (str, NoneType), expected="a name of model.named_modules(), or None")
    if layer is not None and method in _LAYERLESS:
        raise InvalidOption(f"layer is {layer!r}, but {method} needs none; leave it out")
    levels = (*LEVELS, "off")
    if faithfulness is not None and faithfulness not in levels:
        offer = nearest(str(faithfulness), levels)
        raise InvalidOption(f"faithfulness is {faithfulness!r}, expected one of {', '.join(levels)}{offer}")
    if target not in (None, "fake", "real"):
        raise InvalidOption(f"target is {target!r}, expected 'fake', 'real' or None")


def _scaled(raw: Tensor, size_px: int, *, is_share: bool) -> np.ndarray:
    """Keep what speaks for the class shown, at the size of the crop; probabilities as they are, else up to 1."""
    hot = enlarge(raw.clamp(min=0), size_px=size_px).float().cpu().numpy()
    top = float(hot.max(initial=0.0))
    return hot / top if top > 0 and not is_share else hot


def _level(face: Face, prediction: Prediction, faithfulness: str | None) -> Level | None:
    if faithfulness == "full":
        return "full"
    return "quick" if face is prediction.worst and faithfulness == "quick" else None


def _face_heat(
    mapper: _Mapper,
    face: Face,
    crop: np.ndarray,
    heat: np.ndarray,
    level: Level | None,
    shown: str,
    size_hw: tuple[int, int],
) -> FaceHeat:
    square = _square(face, mapper.predictor, size_hw)
    masks = _masks(face, square, len(crop))
    if level is None:
        return FaceHeat(face=face, heat=heat, crop_xyxy=square, parts=measure_regions(heat, masks))
    sign = -1.0 if shown == "real" else 1.0
    subject = Subject.of(
        crop,
        model=mapper.predictor.model,
        preprocessing=mapper.predictor.card.preprocessing,
        device=mapper.predictor.device,
        probability=_probability(mapper.predictor, face, sign),
        forward=partial(_forward, mapper.predictor),
    )
    return FaceHeat(
        face=face,
        heat=heat,
        crop_xyxy=square,
        parts=measure_regions(heat, masks, subject=subject),
        faithfulness=measure_faithfulness(
            subject, draw=partial(_draw, mapper, sign), level=level, random_weights=mapper.copies(level)
        ),
    )


def _probability(predictor: Predictor, face: Face, sign: float) -> Callable[[Tensor], Tensor]:
    """Turn logits of copies of a face's crop into probabilities; what the texture look says of it stays."""
    card, texture = predictor.card, (face.looks or {}).get("texture")
    return lambda logit: torch.sigmoid(sign * calibrate_logit(fuse_logits(logit, texture, card=card), card=card))


def _forward(predictor: Predictor, batch: Tensor) -> Tensor:
    return torch.from_numpy(predictor.answer(batch.cpu().permute(0, 2, 3, 1).contiguous().numpy()))


def _draw(mapper: _Mapper, sign: float, model: nn.Module, batch: Tensor) -> Tensor:
    return mapper.maps(model, batch, sign=sign)[0]


def _square(face: Face, predictor: Predictor, size_hw: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the square that the model saw of a face: all of the picture with ``faces="none"``."""
    if not len(face.landmarks_xy):
        return face.box_xyxy
    return crop_square(face.box_xyxy, margin=predictor.card.preprocessing.margin, size_hw=size_hw)


def _masks(face: Face, square: tuple[float, float, float, float], size_px: int) -> dict[str, np.ndarray]:
    if not len(face.landmarks_xy):
        return {}
    left, top, right, bottom = square
    scale = size_px / np.array([right - left, bottom - top])
    return dict(part_masks((face.landmarks_xy - (left, top)) * scale, (size_px, size_px)))


def _paste_back(faces: Sequence[FaceHeat], size_hw: tuple[int, int]) -> np.ndarray:
    """Paste the heat of each face where its crop was taken; where crops overlap, the maximum counts."""
    whole = np.zeros(size_hw, np.float32)
    for one in faces:
        x1, y1, x2, y2 = one.crop_xyxy
        left, top = int(x1), int(y1)
        right, bottom = min(size_hw[1], -int(-x2 // 1)), min(size_hw[0], -int(-y2 // 1))
        across, down = len(one.heat) / (x2 - x1), len(one.heat) / (y2 - y1)
        matrix = (across, 0.0, (left - x1) * across, 0.0, down, (top - y1) * down)
        size = (right - left, bottom - top)
        laid = Image.fromarray(one.heat).transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        part = whole[top:bottom, left:right]
        np.maximum(part, np.asarray(laid), out=part)
    return np.clip(whole, 0, 1)
