"""How does a network answer through OpenVINO, with or without torch?

OpenVINO compiles a graph for the processor at hand: convolutions with what follows them, in float32 or bfloat16. It
takes a fifth of the time that torch takes to import. The graph is built here from an `outline` and the weights.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from deepfake_detect.engines.openvino_graph import build_graph, require_openvino
from deepfake_detect.engines.outline import Operation, known_outline
from deepfake_detect.errors import MissingExtra
from deepfake_detect.system.device import count_processors
from deepfake_detect.weights.bundle import Bundle, read_weights, tensors_in

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
"""What a compiled network can compute in, and what OpenVINO calls it."""

_AT_ONCE = 8  # pictures that wait in line


class Compiled:
    """A network compiled for the processor. May be used from several threads at once.

    Args:
        outline: The operations of the network.
        tensors: Its weights, as its state dict names them; float16 or float32.
        size_hw: Height and width of the pictures.
        dtype: One of `PRECISIONS`.

    Raises:
        MissingExtra: OpenVINO is not installed.
        KeyError, RuntimeError: The weights are not those of the outline.
    """

    backend = "openvino"

    def __init__(
        self,
        outline: Sequence[Operation],
        tensors: Mapping[str, np.ndarray],
        *,
        size_hw: tuple[int, int],
        dtype: str = "float32",
    ) -> None:
        self.dtype = dtype
        self._openvino = require_openvino()
        self._core = self._openvino.Core()
        self._graph = build_graph(outline, tensors, size_hw=size_hw)
        self._compiled: dict[int, Future[Any]] = {}  # by lanes
        self._own = threading.local()
        self._lock = threading.Lock()

    @property
    def how(self) -> dict[str, str]:
        """Say what runs the network, and what it computes in, as predictions tell it."""
        return {"backend": self.backend, "dtype": self.dtype}

    def __call__(self, pixels: np.ndarray, *, lanes: int = 1) -> np.ndarray:
        """Map pictures to logits, one after the other, so that none depends on its neighbours.

        Args:
            pixels: [N, H, W, 3] float32, normalised.
            lanes: So many threads call at the same time: each gets its share of the processors.

        Returns:
            [N] float32; [N, outputs] where there are several.
        """
        pictures = np.ascontiguousarray(pixels, np.float32)
        parts = [self._answer(pictures[at : at + _AT_ONCE], lanes) for at in range(0, len(pictures), _AT_ONCE)]
        found = np.concatenate(parts)
        return found[:, 0] if found.shape[1] == 1 else found

    def prepare(self, lanes: int) -> Future[Any]:
        """Begin to compile for so many lanes, where that is not done yet; pictures can be opened meanwhile."""
        with self._lock:
            if lanes not in self._compiled:
                arguments = (self._graph, "CPU", self._settings(lanes))
                compiler = ThreadPoolExecutor(1)
                self._compiled[lanes] = compiler.submit(self._core.compile_model, *arguments)
                compiler.shutdown(wait=False)  # its thread ends with the work
            return self._compiled[lanes]

    def lanes(self, workers: int) -> int:
        """Tell how many of so many threads may compute at the same time."""
        return max(1, min(workers, count_processors()))

    def join(self, pool: Executor, *, workers: int, lanes: int) -> None:
        """Nothing is to be done for the threads of a new pool: OpenVINO has its own."""

    def _answer(self, pictures: np.ndarray, lanes: int) -> np.ndarray:
        """Have all of them wait in line for OpenVINO, so that it never waits for this thread in between."""
        requests = self._requests(lanes, len(pictures))
        for request, picture in zip(requests, pictures, strict=True):
            request.set_input_tensor(self._openvino.Tensor(picture[None], shared_memory=True))
            request.start_async()
        for request in requests:
            request.wait()
        return np.stack([request.get_output_tensor().data[0] for request in requests])

    def _requests(self, lanes: int, count: int) -> list[Any]:
        """Give what holds the picture and the logit of one call, so many; every thread has its own."""
        by_lanes: dict[int, list[Any]] = self._own.__dict__.setdefault("requests", {})
        own = by_lanes.setdefault(lanes, [])
        while len(own) < count:
            own.append(self.prepare(lanes).result().create_infer_request())
        return own[:count]

    def _settings(self, lanes: int) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.dtype],  # else bfloat16 wherever the processor has it
            "NUM_STREAMS": lanes,
            "INFERENCE_NUM_THREADS": max(lanes, count_processors()),
            "ENABLE_CPU_PINNING": False,  # the threads that open pictures are not pinned either
        }


def compile_bundle(bundle: Bundle, *, dtype: str = "float32") -> Compiled | None:
    """Compile the network of a bundle without torch.

    Args:
        bundle: Its weights are read, and their sha256 is checked.
        dtype: One of `PRECISIONS`.

    Returns:
        The network; None where OpenVINO cannot be imported, where no outline of the architecture is known, or the
        weights are not those of the outline: torch will tell what is wrong with them.

    Raises:
        WeightsCorrupted: The bytes are not those that the card promises.
    """
    card = bundle.card
    outline = known_outline(card.architecture)
    if outline is None:
        return None
    side = card.preprocessing.size_px
    with ThreadPoolExecutor(1) as helper:
        reading = helper.submit(read_weights, bundle)
        with contextlib.suppress(MissingExtra):
            require_openvino()  # takes about as long to import
        content = reading.result()
    try:
        return Compiled(outline, tensors_in(content), size_hw=(side, side), dtype=dtype)
    except (MissingExtra, AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        return None
