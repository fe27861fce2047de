"""Export a detector to an ONNX file, and its face finder next to it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from deepfake_detect._options import check_choice, check_flag, check_type
from deepfake_detect.engines.fusion import copy_structure
from deepfake_detect.engines.onnx_engine import OnnxSessions, require_onnxruntime, to_crops, to_planes
from deepfake_detect.engines.torch_engine import run
from deepfake_detect.engines.trace import try_record
from deepfake_detect.errors import BackendUnavailable, InvalidOption
from deepfake_detect.export.onnx_graph import OPSET, Nodes, add_network, require_onnx
from deepfake_detect.export.onnx_model import LOGIT, PREFIX, SCORE, compose_model, to_bytes, with_card
from deepfake_detect.export.quantize import quantize_model
from deepfake_detect.export.torch_graph import add_traced
from deepfake_detect.export.verdict_changes import (
    LabelledFaces,
    VerdictChanges,
    compare_verdicts,
    find_labelled_faces,
)
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.predict.preprocess import normalise
from deepfake_detect.weights.card import Card
from deepfake_detect.weights.golden import golden_pictures
from deepfake_detect.weights.load import digest_of, write_file
from deepfake_detect.weights.onnx_file import SUFFIX, Input, OnnxFile, Precision, parse_onnx

FINDER_SUFFIX = ".finder.onnx"
"""Ending of the face finder's file, in place of ``.onnx``."""

_AT_ONCE = 16  # faces


TOLERANCE = 1e-4
"""How far a logit of the file may lie from torch's in float32, as a share of it where it is above 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was exported, and how it compares with the detector.

    Attributes:
        path: The ONNX file.
        finder: The ONNX file of the face finder; None for a detector of whole pictures.
        model: ``name@version``.
        dtype: What the network computes in.
        input: ``"pixels"``, float32 [N, 3, H, W], normalised; or ``"crops"``, uint8 [N, H, W, 3].
        opset: Version of ONNX's operators that the file uses.
        onnxruntime: Version of onnxruntime that the file was checked with.
        size_bytes: Of the file.
        logit_difference: Largest distance of its logits from torch's in float32, on the built-in pictures; None where
            the detector is an ONNX file itself.
        changes: How the verdicts on ``data`` differ from those in float32; None without.
    """

    path: Path
    finder: Path | None
    model: str
    dtype: Precision
    input: Input
    opset: int
    onnxruntime: str
    size_bytes: int
    logit_difference: float | None = None
    changes: VerdictChanges | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return values | {
            "path": str(self.path),
            "finder": None if self.finder is None else str(self.finder),
            "changes": None if self.changes is None else self.changes.to_dict(),
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def __str__(self) -> str:
        facts = f"{self.size_bytes / 1e6:.2f} MB, {self.dtype}, takes {self.input}, opset {self.opset}"
        lines = [f"{self.model}: {self.path}, {facts}"]
        if self.logit_difference is not None:
            difference = f"{self.logit_difference:.1g}"
            lines.append(f"logits within {difference} of torch's in float32, by onnxruntime {self.onnxruntime}")
        if self.finder is not None:
            lines.append(f"face finder: {self.finder}")
        return "\n".join(lines if self.changes is None else [*lines, str(self.changes)])


def export_onnx(
    predictor: Predictor,
    path: str | os.PathLike[str],
    *,
    dtype: Precision = "float32",
    preprocessing: bool = False,
    data: Any = None,
) -> ExportReport:
    """Write a detector to one ONNX file, with everything that is needed to use it.

    Args:
        predictor: A `Predictor` or a `Detector`.
        path: Of the file, which ends in ``.onnx``; ``~`` is expanded, missing folders are made, and a file that is
            there is replaced.
        dtype: What the network computes in: ``"float32"``, ``"float16"`` or ``"int8"``. Inputs and outputs stay
            float32.
        preprocessing: Normalise in the graph, which then takes face crops as bytes.
        data: A labelled data set, as for `read_dataset`: int8 takes the ranges of values from a third of it, and the
            report counts the verdicts that change on the others.

    Returns:
        What was written.

    Raises:
        InvalidOption: An option that does not exist, int8 without data, or a path that does not end in ``.onnx``.
        MissingExtra: The extra ``[onnx]`` is not installed.
        BackendUnavailable: The network cannot be translated, or answers otherwise than in torch.
        DatasetError: The data cannot be read, or show too few faces.
        OSError: The file cannot be written; nothing half-written stays behind.
    """
    target = _target(path)
    check_choice("dtype", dtype, get_args(Precision))
    check_flag("preprocessing", preprocessing)
    if dtype == "int8" and data is None:
        raise InvalidOption("dtype='int8' needs a labelled data set, to take the ranges of values from: pass data=")
    require_onnx()
    if predictor.onnx_file is not None:
        return _export_again(predictor, predictor.onnx_file, target, dtype=dtype, preprocessing=preprocessing)
    card = replace(predictor.card, sha256=digest_of(predictor.model))
    kind: Input = "crops" if preprocessing else "pixels"
    exact = _compose(predictor.model, card, "float32" if dtype == "int8" else dtype, kind)
    faces = None if data is None else find_labelled_faces(predictor, data)
    model = _quantised(exact, faces[0].pixels, card, kind) if dtype == "int8" and faces is not None else exact
    file = parse_onnx(to_bytes(model, card=card, dtype=dtype, input_kind=kind), path=target)
    network = OnnxSessions(file, "cpu")
    difference = _check_logits(network, predictor, dtype)
    changes = None if faces is None else _changes(network, predictor, faces[1])
    return replace(_written(predictor, file), logit_difference=difference, changes=changes)


def _target(path: str | os.PathLike[str]) -> Path:
    check_type("path", path, (str, os.PathLike), expected="the path of a file that ends in .onnx")
    target = Path(os.path.expanduser(path))
    if target.suffix.lower() != SUFFIX or target.is_dir():
        raise InvalidOption(f"path is {str(target)!r}, expected a file that ends in {SUFFIX}")
    return target


def network_of(model: torch.nn.Module, size_px: int, dtype: Precision, *, fold: bool = True) -> Any:
    """Return what adds the network to a graph: from the list of its operations, else by torch's exporter."""
    is_half = dtype == "float16"
    try:
        outline = try_record(model)
        tensors = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    except BackendUnavailable:
        return partial(_traced, model=model, size_px=size_px, dtype=torch.float16 if is_half else torch.float32)

    def add(graph: Nodes, pixels: str) -> str:
        values = np.float16 if is_half else np.float32
        return add_network(graph, outline, tensors, pixels=pixels, size_hw=(size_px, size_px), dtype=values, fold=fold)

    return add


def _traced(graph: Nodes, pixels: str, *, model: torch.nn.Module, size_px: int, dtype: torch.dtype) -> str:
    return add_traced(graph, model, pixels=pixels, size_px=size_px, dtype=dtype)


def _export_again(
    predictor: Predictor, file: OnnxFile, target: Path, *, dtype: Precision, preprocessing: bool
) -> ExportReport:
    """Write an ONNX file with another card, such as after `calibrate`."""
    if (dtype, preprocessing) != (file.dtype, file.input == "crops"):
        raise InvalidOption(
            f"{file.path} computes in {file.dtype} and takes {file.input}, which cannot be changed: pass "
            f"dtype={file.dtype!r} and preprocessing={file.input == 'crops'}, or export {file.card.id} from its bundle"
        )
    model = with_card(require_onnx().load_from_string(file.content), predictor.card)
    content = to_bytes(model, card=predictor.card, dtype=dtype, input_kind=file.input)
    return _written(predictor, parse_onnx(content, path=target))


def _written(predictor: Predictor, file: OnnxFile) -> ExportReport:
    """Write a file, and the face finder next to it, byte for byte; ``docs/onnx.md`` describes the finder's outputs."""
    finder = predictor.finder
    finder_path = None if finder is None else file.path.with_name(file.path.stem + FINDER_SUFFIX)
    write_file(file.path, file.content)
    if finder is not None and finder_path is not None:
        write_file(finder_path, finder.weights)
    return ExportReport(
        path=file.path,
        finder=finder_path,
        model=file.card.id,
        dtype=file.dtype,
        input=file.input,
        opset=OPSET,
        onnxruntime=require_onnxruntime().__version__,
        size_bytes=len(file.content),
    )


def _compose(model: torch.nn.Module, card: Card, dtype: Precision, kind: Input) -> Any:
    network = network_of(model, card.preprocessing.size_px, dtype)
    return compose_model(network, card=card, dtype=dtype, input_kind=kind)


def _quantised(model: Any, pixels: np.ndarray, card: Card, kind: Input) -> Any:
    look = card.preprocessing
    batches = [pixels[start : start + _AT_ONCE] for start in range(0, len(pixels), _AT_ONCE)]
    inputs = [to_crops(batch, look) if kind == "crops" else to_planes(batch) for batch in batches]
    return quantize_model(model, inputs, input_name=kind, keep=(PREFIX, LOGIT, SCORE))


def _check_logits(network: OnnxSessions, predictor: Predictor, dtype: Precision) -> float:
    """Compare the logits of the built-in pictures with those of torch in float32."""
    crops = [predictor.look(pixels, faces="none").crops[0] for pixels in golden_pictures().values()]
    pixels = normalise(crops, preprocessing=predictor.card.preprocessing)
    expected, logits = _torch_logits(predictor, pixels), network(pixels)
    differences = np.abs(logits - expected)
    if dtype == "float32" and not np.all(differences <= TOLERANCE * np.maximum(1, np.abs(expected))):
        raise BackendUnavailable(
            f"the ONNX graph of {predictor.card.id} gives logits of {logits.tolist()}, torch {expected.tolist()}; "
            "nothing was written"
        )
    return float(differences.max())


def _changes(network: OnnxSessions, predictor: Predictor, faces: LabelledFaces) -> VerdictChanges:
    starts = range(0, len(faces.pixels), _AT_ONCE)
    batches = [faces.pixels[start : start + _AT_ONCE] for start in starts]
    before = np.concatenate([_torch_logits(predictor, batch) for batch in batches])
    after = np.concatenate([network(batch) for batch in batches])
    return compare_verdicts(before, after, labels=faces.labels, card=predictor.card)


def _torch_logits(predictor: Predictor, pixels: np.ndarray) -> np.ndarray:
    model = predictor.model
    device = next(model.parameters()).device
    batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    return run(copy_structure(model).eval(), batch, device=device, dtype=torch.float32).numpy()
