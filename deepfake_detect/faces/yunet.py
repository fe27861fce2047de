"""Run a network of YuNet's kind with OpenVINO.

``cv2.FaceDetectorYN`` runs such a network too, and takes nearly twice the processor time for it. The outputs of the
network are decoded here by the same steps. Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from deepfake_detect.engines.openvino_engine import InferRequests
from deepfake_detect.engines.openvino_graph import require_openvino
from deepfake_detect.system.device import count_processors

STRIDES = (8, 16, 32)
"""Pixels from one cell to the next in each of the three output maps."""

_OUTPUTS = ("cls", "obj", "bbox", "kps")
_SMALL = 256  # px; up to this side a picture has a request of its own
_TOP = 500  # largest number of faces in a picture

Suppress = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Non-maximum suppression: maps boxes [N, 4] (x, y, width, height) and scores [N] to the indices of those kept."""


class YuNet:
    """The network, compiled once for pictures of every size. Several threads may use it at once.

    Args:
        weights: Content of an ONNX file.
        threshold: Least score of a face, 0..1.
        suppress: Non-maximum suppression of overlapping faces.

    Raises:
        MissingExtra: OpenVINO is not installed.
        RuntimeError: OpenVINO cannot read the file, or it has other outputs.
    """

    def __init__(self, weights: bytes, *, threshold: float, suppress: Suppress) -> None:
        openvino = require_openvino()
        self._threshold, self._suppress = threshold, suppress
        network = _of_pixels(openvino.Core().read_model(weights, b""), openvino)
        for name in _names():
            network.output(name)  # raises where there is none
        self._requests = InferRequests(network, _settings)

    def detect(self, pixels: np.ndarray) -> np.ndarray:
        """Find faces.

        Args:
            pixels: [H, W, 3] uint8 RGB.

        Returns:
            [N, 15] float32: x, y, width and height of the box, five landmarks (x, y), the score; highest score first.
        """
        height, width = (-(-side // STRIDES[-1]) * STRIDES[-1] for side in pixels.shape[:2])
        filled = np.zeros((1, height, width, 3), np.uint8)
        filled[0, : pixels.shape[0], : pixels.shape[1]] = pixels
        is_large = max(height, width) > _SMALL  # changing the size of a request's tensors is slow
        (request,) = self._requests.get(is_large)
        request.set_input_tensor(self._requests.tensor(filled))
        request.infer()
        outputs = {name: request.get_tensor(name).data[0] for name in _names()}
        maps = {stride: [outputs[f"{name}_{stride}"] for name in _OUTPUTS] for stride in STRIDES}
        rows = np.concatenate(
            [_decode(maps[s], stride=s, columns=width // s, threshold=self._threshold) for s in STRIDES]
        )
        if len(rows) > 1:
            rows = rows[self._suppress(np.trunc(rows[:, :4]), rows[:, 14])[:_TOP]]  # OpenCV compares whole pixels
        return rows


def _settings(_: Hashable) -> dict[str, Any]:
    streams = count_processors()
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams,
        "ENABLE_CPU_PINNING": False,
    }


def _names() -> list[str]:
    return [f"{name}_{stride}" for name in _OUTPUTS for stride in STRIDES]


def _of_pixels(network: Any, openvino: Any) -> Any:
    """Make a network that takes BGR numbers [N, 3, H, W] take RGB bytes [N, H, W, 3]."""
    network.reshape([1, 3, -1, -1])
    steps = openvino.preprocess.PrePostProcessor(network)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).reverse_channels()
    return steps.build()


def _decode(maps: Sequence[np.ndarray], *, stride: int, columns: int, threshold: float) -> np.ndarray:
    """Decode the M cells of a map to rows of `YuNet.detect`, for those whose score reaches the threshold."""
    cls, obj, bbox, kps = maps
    score = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
    (places,) = np.nonzero(score >= threshold)
    at = np.stack([places % columns, places // columns], 1).astype(np.float32)  # column and row [K, 2]
    centre, size = (at + bbox[places, :2]) * stride, np.exp(bbox[places, 2:]) * stride
    points = (kps[places].reshape(-1, 5, 2) + at[:, None]) * stride
    parts = (centre - size / 2, size, points.reshape(-1, 10), score[places, None])
    return np.concatenate(parts, 1).astype(np.float32)
