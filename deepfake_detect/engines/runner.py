"""Choose what runs a network, torch or OpenVINO, and keep to it through changed weights, copies and forks."""

from __future__ import annotations

import copy
import logging
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np

from deepfake_detect._options import check_choice
from deepfake_detect.engines.openvino_engine import (
    PRECISIONS,
    Compiled,
    compile_bundle,
    is_openvino_lost,
    refuse_lost_openvino,
)
from deepfake_detect.engines.openvino_graph import is_installed, require_openvino
from deepfake_detect.engines.outline import known_outline
from deepfake_detect.errors import BackendUnavailable, InvalidOption, MissingExtra
from deepfake_detect.system.device import find_device, find_dtype, may_have_accelerator, name_dtype
from deepfake_detect.system.threads import ForkSafeLock
from deepfake_detect.weights.bundle import Bundle

if TYPE_CHECKING:  # torch is imported where it is needed: with OpenVINO a verdict needs none
    import torch

    from deepfake_detect.engines.packed import Spliced
    from deepfake_detect.engines.torch_engine import Forward, WeightState

Backend = Literal["auto", "torch", "openvino"]
"""What runs the network on a processor: torch, or OpenVINO, which starts and runs faster, and raises where it cannot
run the network. ``"auto"`` is OpenVINO where it is installed, no GPU is in sight, and it can run the network; else
torch, with a line in the log where OpenVINO failed."""

_log = logging.getLogger("deepfake_detect")


class Runner:
    """A network with what runs it. May be used from several threads at once; `to` is the exception.

    Args:
        model: Any module that maps [N, 3, H, W] to logits [N]; or a `Bundle`, whose weights are loaded when they are
            needed.
        device: ``"auto"`` is cuda, then mps, then cpu; or any name that torch knows.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``; ``"auto"`` is float16 on cuda, else float32.
        backend: See `Backend`.

    Raises:
        InvalidOption: An unknown device, dtype or backend, or three that do not go together.
        BackendUnavailable: ``backend="openvino"``, and OpenVINO cannot run the network, or not in this process.
        MissingExtra: ``backend="openvino"``, and OpenVINO is not installed.
    """

    def __init__(
        self,
        model: torch.nn.Module | Bundle,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        backend: Backend = "auto",
    ) -> None:
        self.bundle = model if isinstance(model, Bundle) else None
        self._model = None if isinstance(model, Bundle) else model.eval()
        self._loaded: WeightState | None = None  # of a model that was loaded beside a compiled bundle
        self._torch: Forward | None = None  # runs that model for explanations
        self._loading = ForkSafeLock()
        self.to(device, dtype=dtype, backend=backend)

    def to(
        self,
        device: str | torch.device = "auto",
        *,
        dtype: str | torch.dtype | None = None,
        backend: Backend | None = None,
    ) -> None:
        """Move the network, and choose what it computes in and what runs it; None keeps the present choice."""
        check_choice("backend", backend, (*get_args(Backend), None))
        wanted = name_dtype(dtype) if dtype is not None else self.dtype
        self.backend = backend or self.backend
        compiles = _compiles(self.backend, str(device), wanted)
        if not (compiles and self._model is None and self._compile("float32" if wanted == "auto" else wanted)):
            self._place(device, wanted)

    @property
    def model(self) -> torch.nn.Module:
        """The network as a module of torch; it is loaded where OpenVINO has run the bundle without it so far."""
        with self._loading:
            if self._model is None:
                self._load_beside()
            assert self._model is not None
            return self._model

    @property
    def is_loaded(self) -> bool:
        """Whether there is a module of torch."""
        return self._model is not None

    @property
    def uses_openvino(self) -> bool:
        """Whether OpenVINO runs the network, or will from the first batch."""
        return self.engine.backend == "openvino"

    @property
    def engine(self) -> Compiled | Forward:
        """What runs the network; chosen again in a child that was forked after OpenVINO had started its threads."""
        if self._engine.backend == "openvino" and is_openvino_lost():
            with self._loading:
                if self._engine.backend == "openvino":
                    self.to(self.device, dtype=self.dtype)
        return self._engine

    @property
    def how(self) -> dict[str, str]:
        """What runs the network and in which dtype, as predictions record it."""
        return self._engine.how

    def __call__(self, pixels: np.ndarray, *, lanes: int = 1) -> np.ndarray:
        """Map pictures to logits.

        Args:
            pixels: [N, H, W, 3] float32, normalised.
            lanes: Number of threads that call at the same time.

        Returns:
            [N] float32; [N, outputs] where there are several.
        """
        if self._loaded is not None:
            self._follow_changes()
        return self.engine(pixels, lanes=lanes)

    def begin(self, workers: int) -> int:
        """Prepare for so many threads, and return how many of them may compute at the same time."""
        engine = self.engine
        lanes = engine.lanes(workers)
        engine.prepare(lanes)
        return lanes

    def join(self, pool: Executor, *, workers: int, lanes: int) -> None:
        """Give the threads of a new pool their share of the processor."""
        self._engine.join(pool, workers=workers, lanes=lanes)

    def spliced(self, batch: torch.Tensor, layer: str) -> Spliced | None:
        """Return a packed network with one layer that hooks can be set on; see `Forward.spliced`."""
        with self._loading:
            if self._model is None:
                self._load_beside()
            forward = self.engine if self._torch is None else self._torch
        return None if isinstance(forward, Compiled) else forward.spliced(batch, layer)

    def __copy__(self) -> Self:
        """Share the network and what runs it, until either is moved."""
        shared = object.__new__(type(self))
        shared.__dict__.update(self.__dict__)
        return shared

    def __getstate__(self) -> dict[str, Any]:
        """Give what a copy, or a process that unpickles it, loads anew: a bundle, or a model that is not in one."""
        state = {name: value for name, value in self.__dict__.items() if name not in _NOT_COPIED}
        is_changed = self._loaded is not None and copy.copy(self._loaded).has_changed()
        if self.bundle is not None and (self._model is None or (self._loaded is not None and not is_changed)):
            state["_model"] = None
        else:
            state["bundle"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._loaded = self._torch = None
        self._loading = ForkSafeLock()
        self.to(self.device)

    def _compile(self, dtype: str) -> bool:
        """Have OpenVINO run the bundle without torch, and say whether it does."""
        assert self.bundle is not None
        if known_outline(self.bundle.card.architecture) is None:
            return False  # its operations are recorded from the model itself
        try:
            self._engine = compile_bundle(self.bundle, dtype=dtype)
        except (BackendUnavailable, MissingExtra) as error:
            if self.backend == "openvino":
                raise
            _log.warning("torch runs %s, since OpenVINO cannot: %s", self.bundle.card.id, error)
            return False
        self.device, self.dtype = "cpu", dtype
        return True

    def _place(self, device: str | torch.device, dtype: str) -> None:
        """Load the model, and have torch run it, or on a processor OpenVINO where that is the backend."""
        import torch

        from deepfake_detect.engines.torch_engine import Forward
        from deepfake_detect.system.torch_defaults import usual_defaults
        from deepfake_detect.weights.load import load_model

        where = find_device(device)
        numbers = find_dtype(dtype, where)
        with usual_defaults():  # what is moved under inference_mode could not be trained
            if self._model is None:
                assert self.bundle is not None
                self._model = load_model(self.bundle)
            self._model.to(where).to(memory_format=torch.channels_last)
        self.device, self.dtype = str(where), str(numbers).removeprefix("torch.")
        backend = self.backend if _compiles(self.backend, where.type, self.dtype) else "torch"
        self._engine = Forward(self._model, device=where, dtype=numbers, backend=backend)
        self._loaded = self._torch = None

    def _load_beside(self) -> None:
        """Load the model of a bundle that OpenVINO runs, for those who look into it."""
        import torch

        from deepfake_detect.engines.torch_engine import Forward, WeightState
        from deepfake_detect.system.torch_defaults import usual_defaults
        from deepfake_detect.weights.load import load_model

        assert self.bundle is not None
        with usual_defaults():
            model = load_model(self.bundle).to(memory_format=torch.channels_last)
        self._torch = Forward(model, device=torch.device(self.device), dtype=getattr(torch, self.dtype))
        self._loaded = WeightState(model)
        self._model = model

    def _follow_changes(self) -> None:
        """Compile the loaded model where somebody has changed its weights: the bundle is no longer what was meant."""
        with self._loading:
            if self._loaded is not None and self._loaded.has_changed():
                self._place(self.device, self.dtype)

    backend: Backend
    device: str
    dtype: str
    _engine: Compiled | Forward


_NOT_COPIED = frozenset({"_engine", "_loading", "_loaded", "_torch"})


def _compiles(backend: Backend, device: str, dtype: str) -> bool:
    """Tell whether OpenVINO is to run the model.

    Raises:
        MissingExtra: It is, but is not installed.
        InvalidOption: It is, but cannot on that device or in that number format.
        BackendUnavailable: It is, but cannot in this process.
    """
    possible = device in ("auto", "cpu") and dtype in ("auto", *PRECISIONS)
    if backend == "openvino" and not possible:
        raise InvalidOption(
            f"backend='openvino' computes on the processor, in {' or '.join(PRECISIONS)}; "
            f"found device={device!r} and dtype={dtype!r}: use backend='torch'"
        )
    if backend == "openvino":
        require_openvino()
        refuse_lost_openvino()
    if backend != "auto":
        return backend == "openvino"
    possible = possible and is_installed() and not (device == "auto" and may_have_accelerator())
    if possible and is_openvino_lost():
        _log.warning("torch runs the network in this process, which was forked after OpenVINO had computed")
        return False
    return possible
