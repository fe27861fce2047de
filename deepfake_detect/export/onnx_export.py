"""Export a detector to an ONNX file, and its face finder next to it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from deepfake_detect._options import check_choice, check_flag, check_type
from deepfake_detect.engines.trace import try_record
from deepfake_detect.errors import BackendUnavailable, InvalidOption
from deepfake_detect.export.onnx_graph import OPSET, Nodes, add_network, require_onnx
from deepfake_detect.export.onnx_model import compose_model, to_bytes
from deepfake_detect.export.torch_graph import add_traced
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.weights.load import digest_of, write_file
from deepfake_detect.weights.onnx_file import SUFFIX, Input, Precision

FINDER_SUFFIX = ".finder.onnx"
"""Ending of the face finder's file, in place of ``.onnx``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was exported.

    Attributes:
        path: The ONNX file.
        finder: The ONNX file of the face finder; None for a detector of whole pictures.
        model: ``name@version``.
        dtype: What the network computes in.
        input: ``"pixels"``, float32 [N, 3, H, W], normalised; or ``"crops"``, uint8 [N, H, W, 3].
        opset: Version of ONNX's operators that the file uses.
        size_bytes: Of the file.
    """

    path: Path
    finder: Path | None
    model: str
    dtype: Precision
    input: Input
    opset: int
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self)
        return values | {"path": str(self.path), "finder": None if self.finder is None else str(self.finder)}

    def to_json(self, *, indent: int | None = None) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def __str__(self) -> str:
        size = f"{self.size_bytes / 1e6:.1f} MB"
        return f"{self.model}: {self.path}, {size}, {self.dtype}, opset {self.opset}, takes {self.input}"


def export_onnx(
    predictor: Predictor,
    path: str | os.PathLike[str],
    *,
    dtype: Precision = "float32",
    preprocessing: bool = False,
) -> ExportReport:
    """Write a detector to one ONNX file, with everything that is needed to use it.

    Args:
        predictor: A `Predictor` or a `Detector`.
        path: Of the file, which ends in ``.onnx``; ``~`` is expanded, missing folders are made, and a file that is
            there is replaced.
        dtype: What the network computes in: ``"float32"`` or ``"float16"``. Inputs and outputs stay as they are.
        preprocessing: Normalise in the graph, which then takes face crops as bytes.

    Returns:
        What was written.

    Raises:
        InvalidOption: An option that does not exist, or a path that does not end in ``.onnx``.
        MissingExtra: The extra ``[onnx]`` is not installed.
        BackendUnavailable: The network cannot be translated.
        OSError: The file cannot be written; nothing half-written stays behind.
    """
    target = _target(path)
    check_choice("dtype", dtype, get_args(Precision))
    check_flag("preprocessing", preprocessing)
    require_onnx()
    card = replace(predictor.card, sha256=digest_of(predictor.model))
    input_kind: Input = "crops" if preprocessing else "pixels"
    network = network_of(predictor.model, card.preprocessing.size_px, dtype)
    model = compose_model(network, card=card, dtype=dtype, input_kind=input_kind)
    content = to_bytes(model, card=card, dtype=dtype, input_kind=input_kind)
    write_file(target, content)
    return ExportReport(
        path=target,
        finder=_write_finder(predictor, target),
        model=card.id,
        dtype=dtype,
        input=input_kind,
        opset=OPSET,
        size_bytes=len(content),
    )


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


def _write_finder(predictor: Predictor, target: Path) -> Path | None:
    """Write the face finder as it is, byte for byte; ``docs/onnx.md`` describes its inputs and outputs."""
    finder = predictor.finder
    if finder is None:
        return None
    path = target.with_name(target.stem + FINDER_SUFFIX)
    write_file(path, finder.weights)
    return path
