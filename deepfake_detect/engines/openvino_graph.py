"""Build a graph of OpenVINO from the list of a network's operations, and import OpenVINO quietly."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from deepfake_detect.engines.outline import Operation, foldable_norms, scale_and_shift
from deepfake_detect.errors import MissingExtra
from deepfake_detect.system.threads import ForkSafeLock

_HEIGHT_WIDTH = [2, 3]  # dimensions of [N, C, H, W]
_IMPORTING = ForkSafeLock()
_TELEMETRY = "openvino_telemetry"


def build_graph(outline: Sequence[Operation], tensors: Mapping[str, np.ndarray], *, size_hw: tuple[int, int]) -> Any:
    """Build the graph; batch norms are folded into the convolutions before them.

    Args:
        outline: See `known_outline`.
        tensors: Weights, as the state dict names them; float16 or float32.
        size_hw: Height and width of the pictures.

    Returns:
        An ``openvino.Model`` that maps one picture [1, H, W, 3] float32, normalised, to logits [1, outputs].

    Raises:
        KeyError: A weight is missing.
        RuntimeError: A weight has another shape than the operation takes.
    """
    from openvino import Model

    pictures, logits = _Builder(tensors).build(outline, size_hw)
    return Model([logits], [pictures])


def require_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    While it is imported, OpenVINO forks a process that reports the import to an analytics server, and writes to
    ``~/intel``. It does neither where its telemetry package is missing, and so that package is hidden meanwhile.

    Raises:
        MissingExtra: It is not installed, or cannot be imported.
    """
    try:
        with _IMPORTING, _without_telemetry() if "openvino" not in sys.modules else nullcontext():
            import openvino
    except ImportError as error:
        raise MissingExtra(
            f"backend='openvino' needs OpenVINO ({error}); run: pip install 'deepfake-detect[openvino]'"
        ) from error
    return openvino


def is_installed() -> bool:
    """Say whether OpenVINO is installed, without importing it."""
    return importlib.util.find_spec("openvino") is not None


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hide OpenVINO's telemetry package; the list of modules is as before afterwards."""
    before = {_TELEMETRY: sys.modules[_TELEMETRY]} if _TELEMETRY in sys.modules else {}
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # makes `import openvino_telemetry` an ImportError
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]
        sys.modules.update(before)


class _Builder:
    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        from openvino import opset1, opset13

        self.ops, self.tensors = opset13, tensors
        self.max_pool = opset1.max_pool  # later ones have a second result

    def build(self, outline: Sequence[Operation], size_hw: tuple[int, int]) -> tuple[Any, Any]:
        pictures = self.ops.parameter([1, *size_hw, 3], np.float32)
        values = [self.ops.transpose(pictures, np.array([0, 3, 1, 2]))]
        norms = foldable_norms(outline)
        for place, operation in enumerate(outline[1:], start=1):
            inputs = [values[other] for other in operation.inputs]
            if place in norms.values():
                values.append(inputs[0])  # folded into the convolution
            elif operation.kind == "conv":
                norm = outline[norms[place]] if place in norms else None
                values.append(self._conv(inputs[0], operation, norm))
            else:
                values.append(getattr(self, f"_{operation.kind}")(operation, *inputs))
        return pictures, values[-1]

    def _conv(self, maps: Any, operation: Operation, norm: Operation | None) -> Any:
        weight, bias = self._weight(operation, "weight"), self._bias(operation)
        if norm is not None:
            scale, shift = scale_and_shift(norm, self.tensors)
            weight *= scale[:, None, None, None]
            bias = shift if bias is None else shift + bias * scale
        settings = operation.settings
        geometry = (settings["stride"], settings["padding"], settings["padding"], settings["dilation"])
        groups = settings["groups"]
        if groups > 1:
            grouped = weight.reshape(groups, -1, *weight.shape[1:])
            result = self.ops.group_convolution(maps, self._constant(grouped), *geometry)
        else:
            result = self.ops.convolution(maps, self._constant(weight), *geometry)
        return result if bias is None else self.ops.add(result, self._by_channel(bias))

    def _norm(self, operation: Operation, maps: Any) -> Any:
        scale, shift = scale_and_shift(operation, self.tensors)
        return self.ops.add(self.ops.multiply(maps, self._by_channel(scale)), self._by_channel(shift))

    def _linear(self, operation: Operation, features: Any) -> Any:
        weight, bias = self._weight(operation, "weight"), self._bias(operation)
        result = self.ops.matmul(features, self._constant(weight), False, True)
        return result if bias is None else self.ops.add(result, self._constant(bias[None]))

    def _max_pool(self, operation: Operation, maps: Any) -> Any:
        stride, padding, kernel = (operation.settings[name] for name in ("stride", "padding", "kernel_size"))
        return self.max_pool(maps, stride, padding, padding, kernel, "floor")

    def _adaptive_pool(self, operation: Operation, maps: Any) -> Any:
        size = operation.settings["size"]
        if list(maps.get_output_shape(0))[2:] == size:
            return maps
        return self.ops.adaptive_avg_pool(maps, np.array(size))

    def _mean(self, operation: Operation, maps: Any) -> Any:
        return self.ops.reduce_mean(maps, np.array(_HEIGHT_WIDTH), operation.settings["keep"])

    def _flatten(self, operation: Operation, maps: Any) -> Any:
        return self.ops.reshape(maps, np.array([1, -1]), False)

    def _add(self, operation: Operation, left: Any, right: Any) -> Any:
        return self.ops.add(left, right)

    def _multiply(self, operation: Operation, left: Any, right: Any) -> Any:
        return self.ops.multiply(left, right)

    def _concat(self, operation: Operation, *maps: Any) -> Any:
        return self.ops.concat(list(maps), 1)

    def _relu(self, operation: Operation, maps: Any) -> Any:
        return self.ops.relu(maps)

    def _sigmoid(self, operation: Operation, maps: Any) -> Any:
        return self.ops.sigmoid(maps)

    def _swish(self, operation: Operation, maps: Any) -> Any:
        return self.ops.swish(maps)

    def _hardswish(self, operation: Operation, maps: Any) -> Any:
        return self.ops.hswish(maps)

    def _hardtanh(self, operation: Operation, maps: Any) -> Any:
        return self.ops.clamp(maps, *operation.settings["numbers"])

    def _leaky_relu(self, operation: Operation, maps: Any) -> Any:
        return self.ops.prelu(maps, self._constant(np.array(operation.settings["numbers"], np.float32)))

    def _weight(self, operation: Operation, name: str) -> np.ndarray:
        """Give a copy of a weight, float32."""
        return self.tensors[f"{operation.weights}.{name}"].astype(np.float32)

    def _bias(self, operation: Operation) -> np.ndarray | None:
        has_bias = f"{operation.weights}.bias" in self.tensors
        return self._weight(operation, "bias") if has_bias else None

    def _constant(self, values: np.ndarray) -> Any:
        return self.ops.constant(np.ascontiguousarray(values), shared_memory=True)

    def _by_channel(self, values: np.ndarray) -> Any:
        return self._constant(values.reshape(1, -1, 1, 1))
