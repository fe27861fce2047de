"""Build a graph of OpenVINO from the list of a network's operations, and import OpenVINO quietly."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from deepfake_detect.engines.outline import GraphBuilder, Operation, scale_and_shift
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

    builder = _Builder(tensors)
    pictures = builder.ops.parameter([1, *size_hw, 3], np.float32)
    logits = builder.build(outline, builder.ops.transpose(pictures, np.array([0, 3, 1, 2])))
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


class _Builder(GraphBuilder):
    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        from openvino import opset1, opset13

        super().__init__(tensors)
        self.ops, self.pool = opset13, opset1.max_pool  # later ones have a second result

    def conv(self, operation: Operation, maps: Any, weight: np.ndarray, bias: np.ndarray | None) -> Any:
        settings = operation.settings
        geometry = (settings["stride"], settings["padding"], settings["padding"], settings["dilation"])
        groups = settings["groups"]
        if groups > 1:
            grouped = weight.reshape(groups, -1, *weight.shape[1:])
            result = self.ops.group_convolution(maps, self._constant(grouped), *geometry)
        else:
            result = self.ops.convolution(maps, self._constant(weight), *geometry)
        return result if bias is None else self.ops.add(result, self._by_channel(bias))

    def norm(self, operation: Operation, maps: Any) -> Any:
        scale, shift = scale_and_shift(operation, self.tensors)
        return self.ops.add(self.ops.multiply(maps, self._by_channel(scale)), self._by_channel(shift))

    def linear(self, operation: Operation, features: Any) -> Any:
        weight, bias = self.weight(operation), self.bias(operation)
        result = self.ops.matmul(features, self._constant(weight), False, True)
        return result if bias is None else self.ops.add(result, self._constant(bias[None]))

    def max_pool(self, operation: Operation, maps: Any) -> Any:
        stride, padding, kernel = (operation.settings[name] for name in ("stride", "padding", "kernel_size"))
        return self.pool(maps, stride, padding, padding, kernel, "floor")

    def adaptive_pool(self, operation: Operation, maps: Any) -> Any:
        size = operation.settings["size"]
        if list(maps.get_output_shape(0))[2:] == size:
            return maps
        return self.ops.adaptive_avg_pool(maps, np.array(size))

    def mean(self, operation: Operation, maps: Any) -> Any:
        return self.ops.reduce_mean(maps, np.array(_HEIGHT_WIDTH), operation.settings["keep"])

    def flatten(self, operation: Operation, maps: Any) -> Any:
        return self.ops.reshape(maps, np.array([1, -1]), False)

    def add(self, operation: Operation, left: Any, right: Any) -> Any:
        return self.ops.add(left, right)

    def multiply(self, operation: Operation, left: Any, right: Any) -> Any:
        return self.ops.multiply(left, right)

    def concat(self, operation: Operation, *maps: Any) -> Any:
        return self.ops.concat(list(maps), 1)

    def relu(self, operation: Operation, maps: Any) -> Any:
        return self.ops.relu(maps)

    def sigmoid(self, operation: Operation, maps: Any) -> Any:
        return self.ops.sigmoid(maps)

    def swish(self, operation: Operation, maps: Any) -> Any:
        return self.ops.swish(maps)

    def hardswish(self, operation: Operation, maps: Any) -> Any:
        return self.ops.hswish(maps)

    def hardtanh(self, operation: Operation, maps: Any) -> Any:
        return self.ops.clamp(maps, *operation.settings["numbers"])

    def leaky_relu(self, operation: Operation, maps: Any) -> Any:
        return self.ops.prelu(maps, self._constant(np.array(operation.settings["numbers"], np.float32)))

    def _constant(self, values: np.ndarray) -> Any:
        return self.ops.constant(np.ascontiguousarray(values), shared_memory=True)

    def _by_channel(self, values: np.ndarray) -> Any:
        return self._constant(values.reshape(1, -1, 1, 1))
