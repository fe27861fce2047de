"""Run a network by OpenVINO, with or without torch.

OpenVINO compiles a graph for the processor at hand: convolutions with what follows them, in float32 or bfloat16. It
takes a fifth of the time that torch takes to import. The graph is built here from an `Operation` list and the weights.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np

from deepfake_detect.engines.openvino_graph import build_graph, require_openvino
from deepfake_detect.engines.outline import Operation, expected_forms, known_outline
from deepfake_detect.errors import BackendUnavailable, MissingExtra
from deepfake_detect.system.device import count_processors
from deepfake_detect.system.threads import ForkSafeLock, never_free, renew_after_fork
from deepfake_detect.weights.bundle import Bundle
from deepfake_detect.weights.tensors import check_tensors, read_tensors

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
"""Dtypes that a compiled network can compute in, and OpenVINO's names for them."""

_QUEUED = 8  # pictures that wait for OpenVINO at a time


class InferRequests:
    """Compile a graph once for each of several settings, and give every thread infer requests of its own.

    Args:
        graph: An ``openvino.Model``.
        settings: Gives the settings of OpenVINO for a key.

    Raises:
        BackendUnavailable: As `refuse_lost_openvino`, here and when it compiles.
    """

    _started_in: ClassVar[int | None] = None  # process in which OpenVINO started its threads
    _core: Any

    def __init__(self, graph: Any, settings: Callable[[Any], dict[str, Any]]) -> None:
        self._openvino = require_openvino()
        refuse_lost_openvino()
        self._graph, self._settings = graph, settings
        self._lock = ForkSafeLock()
        self._begin()
        renew_after_fork(self)

    def prepare(self, key: Hashable) -> Future[Any]:
        """Start to compile for a key where that is not done yet; pictures can be opened meanwhile."""
        refuse_lost_openvino()
        with self._lock:
            if key not in self._compiled:
                InferRequests._started_in = os.getpid()
                compiler = ThreadPoolExecutor(1)
                self._core = self._core or self._openvino.Core()
                self._compiled[key] = compiler.submit(self._core.compile_model, self._graph, "CPU", self._settings(key))
                compiler.shutdown(wait=False)  # its thread ends with the work
            return self._compiled[key]

    def get(self, key: Hashable, *, count: int = 1) -> list[Any]:
        """Give so many requests of the calling thread, each of which holds the input and the output of one call."""
        by_key: dict[Hashable, list[Any]] = self._of_thread.__dict__.setdefault("requests", {})
        requests = by_key.setdefault(key, [])
        while len(requests) < count:
            requests.append(self.prepare(key).result().create_infer_request())
        return requests[:count]

    def tensor(self, array: np.ndarray) -> Any:
        """Wrap an array for OpenVINO, without a copy."""
        return self._openvino.Tensor(array, shared_memory=True)

    def renew(self) -> None:
        """Leave the parent's networks alone in a forked child: to free them would wait for lost threads."""
        never_free((self._core, self._compiled, self._of_thread.__dict__))
        self._begin()

    def _begin(self) -> None:
        self._core = None
        self._compiled: dict[Hashable, Future[Any]] = {}
        self._of_thread = threading.local()


def is_openvino_lost() -> bool:
    """Tell whether this process was forked after OpenVINO had started its threads, which stay with the parent.

    OpenVINO is not made for that: most of the time it computes all the same, and now and then it waits for ever.
    """
    return InferRequests._started_in not in (None, os.getpid())


def refuse_lost_openvino() -> None:
    """Raise an error where OpenVINO's threads stayed with the parent of this process.

    Raises:
        BackendUnavailable: See `is_openvino_lost`; the message says what to do.
    """
    if is_openvino_lost():
        raise BackendUnavailable(
            "this process was forked after its parent had computed with OpenVINO, whose threads do not come along; "
            "start processes with multiprocessing.get_context('spawn'), or fork before the first picture is scored, "
            "or use backend='auto' or 'torch'"
        )


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
        require_openvino()
        self._requests = InferRequests(build_graph(outline, tensors, size_hw=size_hw), self._settings)

    @property
    def how(self) -> dict[str, str]:
        """Say what runs the network and in which dtype, as predictions record it."""
        return {"backend": self.backend, "dtype": self.dtype}

    def __call__(self, pixels: np.ndarray, *, lanes: int = 1) -> np.ndarray:
        """Map pictures to logits, one after the other, so that none depends on its neighbours.

        Args:
            pixels: [N, H, W, 3] float32, normalised.
            lanes: Number of threads that call at the same time: each gets its share of the processors.

        Returns:
            [N] float32; [N, outputs] where there are several.
        """
        pictures = np.ascontiguousarray(pixels, np.float32)
        parts = [self._infer(pictures[at : at + _QUEUED], lanes) for at in range(0, len(pictures), _QUEUED)]
        logits = np.concatenate(parts)
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def prepare(self, lanes: int) -> Future[Any]:
        """Start to compile for so many lanes where that is not done yet; pictures can be opened meanwhile."""
        return self._requests.prepare(lanes)

    def lanes(self, workers: int) -> int:
        """Return how many of so many threads may compute at the same time."""
        return max(1, min(workers, count_processors()))

    def join(self, pool: Executor, *, workers: int, lanes: int) -> None:
        """Do nothing for the threads of a new pool: OpenVINO has threads of its own."""

    def _infer(self, pictures: np.ndarray, lanes: int) -> np.ndarray:
        """Queue all pictures at once, so that OpenVINO does not wait for this thread between two of them."""
        requests = self._requests.get(lanes, count=len(pictures))
        for request, picture in zip(requests, pictures, strict=True):
            request.set_input_tensor(self._requests.tensor(picture[None]))
            request.start_async()
        for request in requests:
            request.wait()
        return np.stack([request.get_output_tensor().data[0] for request in requests])

    def _settings(self, lanes: int) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.dtype],  # else bfloat16 wherever the processor has it
            "NUM_STREAMS": lanes,
            "INFERENCE_NUM_THREADS": max(lanes, count_processors()),
            "ENABLE_CPU_PINNING": False,  # the threads that open pictures are not pinned either
        }


def compile_bundle(bundle: Bundle, *, dtype: str = "float32") -> Compiled:
    """Compile the network of a bundle without torch.

    Args:
        bundle: Its weights are read, and checked against its sha256 and against the architecture.
        dtype: One of `PRECISIONS`.

    Returns:
        The network.

    Raises:
        BackendUnavailable: The operations of the architecture are not packaged, or OpenVINO refuses them.
        MissingExtra: OpenVINO is not installed, or cannot be imported.
        WeightsCorrupted: The bytes are not those that the card promises.
        WeightsMismatch: The weights do not fit the architecture.
    """
    card = bundle.card
    outline = known_outline(card.architecture)
    if outline is None:
        raise BackendUnavailable(f"the operations of architecture {card.architecture!r} are not packaged")
    with ThreadPoolExecutor(1) as helper:
        reading = helper.submit(_checked_tensors, bundle, outline)
        with contextlib.suppress(MissingExtra):
            require_openvino()  # takes about as long to import
        tensors = reading.result()
    side = card.preprocessing.size_px
    require_openvino()
    try:
        return Compiled(outline, tensors, size_hw=(side, side), dtype=dtype)
    except RuntimeError as error:
        raise BackendUnavailable(
            f"OpenVINO refuses {card.architecture!r} at {side} px: {_first_line(error)}"
        ) from error


def _checked_tensors(bundle: Bundle, outline: Sequence[Operation]) -> dict[str, np.ndarray]:
    tensors = read_tensors(bundle)
    check_tensors(tensors, expected_forms(outline, outputs=bundle.card.outputs), bundle=bundle)
    return tensors


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "Exception from" not in line]
    return lines[0] if lines else type(error).__name__
