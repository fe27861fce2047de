"""List the operations of a network, without torch, and walk them to build a graph for another library.

The networks are written in torch. What one computes in use is listed here once more as plain data, which
`record` writes from the network itself, so that OpenVINO can run it and the weights of a bundle can be checked without
torch. The lists of the architectures come with the package; a test records them again and compares.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepfake_detect.weights.tensors import Form

OUTLINES = Path(__file__).with_name("outlines")
"""The lists that come with the package, one file for each architecture."""

_COUNTER = "num_batches_tracked"  # of batch norms, the only tensor of whole numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation on maps [N, C, H, W] or features [N, C].

    Attributes:
        kind: Such as ``"conv"``; `build_graph` knows them all.
        inputs: Places in the list of the operations whose results it takes.
        weights: What its keys in the state dict begin with; empty where it has none.
        shapes: The shape of each of its tensors, by the name behind ``weights``.
        settings: Numbers that belong to the kind, such as ``stride``.
    """

    kind: str
    inputs: tuple[int, ...] = ()
    weights: str = ""
    shapes: dict[str, list[int]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def known_outline(architecture: str) -> tuple[Operation, ...] | None:
    """Load the operations of an architecture, the pictures first and the logits last; None where none are packaged.

    Example:
        >>> [operation.kind for operation in known_outline("meso4")[:4]]
        ['pictures', 'conv', 'relu', 'norm']
    """
    file = OUTLINES / file_name(architecture)
    if not file.is_file():
        return None
    values = json.loads(file.read_text("utf-8"))
    return tuple(Operation(**{**value, "inputs": tuple(value.get("inputs", ()))}) for value in values)


def expected_forms(outline: Sequence[Operation], *, outputs: int = 1) -> dict[str, Form]:
    """Give name and form of every tensor that a network has.

    Args:
        outline: Its operations.
        outputs: Logits for each picture: the first side of the last layer's tensors.

    Example:
        >>> expected_forms(known_outline("meso4"))["head.logit.weight"]
        ((1, 16), True, 'float32')
    """
    last = next(operation for operation in reversed(outline) if operation.weights)
    forms: dict[str, Form] = {}
    for operation in outline:
        for name, shape in operation.shapes.items():
            fitted = [outputs, *shape[1:]] if operation is last else shape
            is_float = name != _COUNTER
            forms[f"{operation.weights}.{name}"] = (tuple(fitted), is_float, "float32" if is_float else "int64")
    return forms


def foldable_norms(outline: Sequence[Operation]) -> dict[int, int]:
    """Map each convolution whose only user is a batch norm to that batch norm, by their places in the list."""
    users = Counter(other for operation in outline for other in operation.inputs)
    return {
        operation.inputs[0]: place
        for place, operation in enumerate(outline)
        if operation.kind == "norm" and outline[operation.inputs[0]].kind == "conv" and users[operation.inputs[0]] == 1
    }


def scale_and_shift(norm: Operation, tensors: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Compute what a batch norm multiplies each channel by, and adds to it.

    Args:
        norm: The batch norm.
        tensors: Weights, as the state dict names them; float16 or float32.

    Returns:
        Scale and shift, [channels] float32 each.
    """
    names = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, variance = (tensors[f"{norm.weights}.{name}"].astype(np.float32) for name in names)
    scale = weight / np.sqrt(variance + np.float32(norm.settings["eps"]))
    return scale, bias - mean * scale


class GraphBuilder:
    """Builds a graph for another library from an outline: a subclass has a method for each kind of `Operation`.

    A method takes the operation and the values that it computes with, and returns the new value; that of a convolution
    gets its weight and bias, too, with the batch norm behind it folded into them.

    Args:
        tensors: Weights, as the state dict names them; float16 or float32.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.tensors = tensors

    def build(self, outline: Sequence[Operation], pictures: Any, *, fold: bool = True) -> Any:
        """Add every operation of a network, and return the value of the last.

        Args:
            outline: See `known_outline`.
            pictures: The value of the first operation.
            fold: Fold batch norms into the convolutions before them; else the weights stay as they are.
        """
        values = [pictures]
        norms = foldable_norms(outline) if fold else {}
        for place, operation in enumerate(outline[1:], start=1):
            inputs = [values[other] for other in operation.inputs]
            if place in norms.values():
                values.append(inputs[0])  # folded into the convolution
            elif operation.kind == "conv":
                norm = outline[norms[place]] if place in norms else None
                values.append(self.conv(operation, inputs[0], *self._folded(operation, norm)))
            else:
                values.append(getattr(self, operation.kind)(operation, *inputs))
        return values[-1]

    def conv(self, operation: Operation, maps: Any, weight: np.ndarray, bias: np.ndarray | None) -> Any:
        """Add a convolution."""
        raise NotImplementedError

    def weight(self, operation: Operation, name: str = "weight") -> np.ndarray:
        """Give a copy of a weight, float32."""
        return self.tensors[f"{operation.weights}.{name}"].astype(np.float32)

    def bias(self, operation: Operation) -> np.ndarray | None:
        """Give a copy of the bias, float32; None where there is none."""
        return self.weight(operation, "bias") if f"{operation.weights}.bias" in self.tensors else None

    def _folded(self, operation: Operation, norm: Operation | None) -> tuple[np.ndarray, np.ndarray | None]:
        weight, bias = self.weight(operation), self.bias(operation)
        if norm is None:
            return weight, bias
        scale, shift = scale_and_shift(norm, self.tensors)
        weight *= scale[:, None, None, None]
        return weight, shift if bias is None else shift + bias * scale


def file_name(architecture: str) -> str:
    """Name the file of an architecture in `OUTLINES`."""
    return architecture.replace(":", "-").replace("/", "-") + ".json"


def to_json(outline: Iterable[Operation]) -> str:
    """Give the text of such a file: one operation a line, without what is empty."""
    values = ({key: value for key, value in dataclasses.asdict(operation).items() if value} for operation in outline)
    return "[\n" + ",\n".join(json.dumps(value) for value in values) + "\n]\n"
