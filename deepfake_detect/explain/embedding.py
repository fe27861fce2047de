"""Project the features of a data set's faces to two dimensions, and draw them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from deepfake_detect._options import check_choice
from deepfake_detect.datasets.read import FRAMES, Sample, read_dataset
from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.drawing.canvas import INKS, MARKS, draw_chart
from deepfake_detect.errors import DatasetError, DeepfakeDetectError, MissingExtra
from deepfake_detect.explain.layers import undisturbed
from deepfake_detect.models.head import last_linear
from deepfake_detect.predict.look import FaceChoice
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.system.torch_defaults import usual_defaults
from deepfake_detect.weights.card import DETECTS

_AT_ONCE, _LEAST, _MOST_SOURCES = 16, 3, 8
_INK: Final = {label: "#{:02x}{:02x}{:02x}".format(*COLOURS[label]) for label in DETECTS}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedding:
    """The faces of a data set as points of a plane.

    Attributes:
        xy: [N, 2] float64.
        label: ``"real"`` or ``"fake"``, N.
        source: Collection of each, N; empty where unknown.
        name: Of each picture, N.
        features: [N, D] float32: input of the last dense layer.
        explained: Share of the variance on each axis, for PCA; None for UMAP.
        left_out: Pictures that are not included, each with its name and the reason.
    """

    xy: npt.NDArray[np.float64] = field(repr=False)
    label: Sequence[str] = field(repr=False)
    source: Sequence[str] = field(repr=False)
    name: Sequence[str] = field(repr=False)
    features: npt.NDArray[np.float32] = field(repr=False)
    explained: tuple[float, float] | None
    left_out: tuple[str, ...] = ()

    def plot(self) -> Image.Image:
        """Draw the points twice: coloured by label, and by source.

        Returns:
            RGB picture. The eight largest sources have a colour and a mark each; the rest are grey.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        axes_named = [
            f"axis {number}" + (f": {share:.0%} of the variance" if self.explained else "")
            for number, share in enumerate(self.explained or (0.0, 0.0), start=1)
        ]
        with draw_chart(10.4, 5.0, columns=2, title=f"{len(self.name)} faces, by the input of the last layer") as (
            axes,
            finish,
        ):
            for label in DETECTS:
                self._points(axes[0], self.label, label, _INK[label], "o")
            for place, source in enumerate(_largest(self.source)):
                self._points(axes[1], self.source, source, INKS[place], MARKS[place])
            rest = [source not in _largest(self.source) for source in self.source]
            axes[1].scatter(*self.xy[rest].T, s=8, c="#b0b0b0", label="others" if any(rest) else None, zorder=1)
            for part, title in zip(axes, ("By label", "By source"), strict=True):
                part.set(title=title, xlabel=axes_named[0], ylabel=axes_named[1])
                part.legend(fontsize=7)
        return finish()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `plot` as a picture, by the ending of the file."""
        self.plot().save(os.path.expanduser(path))

    def _points(self, axes: Any, names: Sequence[str], name: str, ink: str, mark: str) -> None:
        chosen = [other == name for other in names]
        axes.scatter(*self.xy[chosen].T, s=14, c=ink, marker=mark, alpha=0.7, linewidths=0, label=name or "no source")


@usual_defaults()
def embed(
    predictor: Predictor,
    dataset: Any,
    *,
    method: Literal["pca", "umap"] = "pca",
    split: str | None = None,
    labels: Mapping[Any, str] | None = None,
    frames: int = FRAMES,
    faces: FaceChoice = "auto",
) -> Embedding:
    """Project the faces of a data set to a plane, so that faces with similar features lie near each other.

    Args:
        predictor: A `Predictor` or a `Detector`.
        dataset: Anything that `read_dataset` takes; of each picture the largest face is used.
        method: ``"pca"`` (principal components), or ``"umap"`` (McInnes et al. 2018, "UMAP: Uniform Manifold
            Approximation and Projection"), which needs the extra ``umap``.
        split: Keep the pictures of this split only.
        labels: Meaning of labels that are not recognised.
        frames: Number of frames of each video.
        faces: See `FaceChoice`.

    Returns:
        The points, with label, source and name of each.

    Raises:
        DatasetError: Fewer than three faces.
        MissingExtra: umap-learn is not installed.
        InvalidOption: Unknown method.
    """
    check_choice("method", method, ("pca", "umap"))
    samples = [s for s in read_dataset(dataset, labels=labels, frames=frames) if split in (None, s.split)]
    left_out: list[str] = []
    kept: list[Sample] = []
    parts = list(_features(predictor, _crops(predictor, samples, faces, kept, left_out)))
    if len(kept) < _LEAST:
        raise DatasetError(f"{len(kept)} faces were found in {len(samples)} pictures, expected at least {_LEAST}")
    features = np.concatenate(parts)
    xy, explained = principal(features) if method == "pca" else (_umap(features), None)
    return Embedding(
        xy=xy,
        label=[DETECTS[sample.label] for sample in kept],
        source=[sample.source for sample in kept],
        name=[sample.name for sample in kept],
        features=features,
        explained=explained,
        left_out=tuple(left_out),
    )


def principal(features: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """Project features on their two principal components.

    Args:
        features: [N, D], N and D at least 2.

    Returns:
        [N, 2], each axis turned so that its largest weight is positive; and the share of the variance on each.

    Example:
        >>> xy, explained = principal(np.array([[0, 0, 1], [2, 0, 1], [4, 1, 1]], np.float32))
        >>> xy.shape, round(sum(explained), 6)
        ((3, 2), 1.0)
    """
    centred = features.astype(float) - features.mean(0, dtype=float)
    left, strength, weights = np.linalg.svd(centred, full_matrices=False)
    turn = np.sign(weights[np.arange(2), np.abs(weights[:2]).argmax(1)])
    total = float((strength**2).sum()) or 1.0
    first, second = (float(value**2 / total) for value in strength[:2])
    return left[:, :2] * strength[:2] * turn, (first, second)


def _crops(
    predictor: Predictor, samples: Sequence[Sample], faces: FaceChoice, kept: list[Sample], left_out: list[str]
) -> Iterator[np.ndarray]:
    for sample in samples:
        try:
            crops = predictor.look(sample.image, faces=faces).crops
        except DeepfakeDetectError as error:
            left_out.append(str(error))
            continue
        if crops:
            kept.append(sample)
            yield crops[0]
        else:
            left_out.append(f"{sample.name}: no face was found")


def _features(predictor: Predictor, crops: Iterator[np.ndarray]) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the input of the last dense layer, [n, D], for batches of crops."""
    inputs: list[npt.NDArray[np.float32]] = []
    _, last = last_linear(predictor.model)
    hook = last.register_forward_pre_hook(lambda _, args: inputs.append(args[0].float().cpu().numpy()))
    try:
        while some := [*itertools.islice(crops, _AT_ONCE)]:
            batch = to_batch(some, preprocessing=predictor.card.preprocessing).to(predictor.device)
            with undisturbed(predictor.model, batch), torch.no_grad():
                predictor.model(batch)
            yield inputs.pop()
    finally:
        hook.remove()


def _largest(sources: Sequence[str]) -> list[str]:
    return sorted(set(sources), key=lambda source: (-list(sources).count(source), source))[:_MOST_SOURCES]


def _umap(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    try:
        from umap import UMAP
    except ImportError as error:
        raise MissingExtra(
            f"method='umap' needs umap-learn ({error}); run: pip install 'deepfake-detect[umap]'"
        ) from None
    return np.asarray(UMAP(random_state=0).fit_transform(features), float)
