"""Run a torch model on batches: by a packed or compiled network on a processor, else as it is."""

from __future__ import annotations

import itertools
import logging
from concurrent.futures import Executor
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from deepfake_detect.engines.fusion import copy_structure
from deepfake_detect.engines.openvino_engine import Compiled
from deepfake_detect.engines.packed import TOLERANCE, Packed, Spliced, pack
from deepfake_detect.engines.trace import try_record
from deepfake_detect.errors import BackendUnavailable, MissingExtra
from deepfake_detect.system.threads import ForkSafeLock, can_share_threads, share_threads, threads_after_fork

_Fast = Packed | Compiled

_log = logging.getLogger("deepfake_detect")


class Forward:
    """Runs a model on batches: on a processor by a faster network where there is one, packed or compiled by OpenVINO.

    The faster network is made with the first batch, which costs some batches more, and again where the model's weights
    or modules have changed. May be used from several threads at once, and in a forked child. A model that was left in
    training mode answers as in evaluation mode, and keeps its mode and its statistics.

    Args:
        model: On ``device``, its weights float32.
        device: Where the model is.
        dtype: float32, or what is computed in: on a processor by the convolutions of the packed network, else by
            automatic mixed precision.
        backend: ``"openvino"`` compiles the model, and raises where that cannot be done; ``"auto"`` packs it then, with
            a line in the log; ``"torch"`` packs it.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        backend: Literal["auto", "torch", "openvino"] = "torch",
    ) -> None:
        self.model, self.device, self.dtype = model, device, dtype
        self._is_strict = backend == "openvino"
        self._compiles = backend != "torch" and device.type == "cpu"
        self._fast: dict[tuple[int, ...], _Fast | None] = {}  # by height, width and threads
        self._watched = WeightState(model)
        self._evaluated = _in_evaluation_mode(model)
        self._lock = ForkSafeLock()

    def __call__(self, pixels: np.ndarray, *, lanes: int = 1) -> np.ndarray:
        """Map pictures to logits.

        Args:
            pixels: [N, H, W, 3] float32, normalised.
            lanes: Number of threads that call at the same time; those of `join` have their share of torch's threads.

        Returns:
            [N] float32.
        """
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        with threads_after_fork(), torch.inference_mode():
            fast, logits = self._prepared(batch, lanes, compiles=self._compiles)
            if logits is not None:
                return logits.numpy()
            if isinstance(fast, Compiled):
                return fast(pixels, lanes=lanes)
            if fast is not None:
                return fast(batch).numpy()
            return run(self._evaluated, batch, device=self.device, dtype=self.dtype).numpy()

    @property
    def backend(self) -> str:
        """``"openvino"`` where a compiled network answers, or will with the first batch; else ``"torch"``."""
        return "openvino" if self._compiles else "torch"

    @property
    def how(self) -> dict[str, str]:
        """Say what runs the model and in which dtype, as predictions record it."""
        networks = list(self._fast.values())
        compiled = next((network for network in networks if isinstance(network, Compiled)), None)
        if compiled is not None:
            return compiled.how
        backend = "torch-packed" if any(networks) else "torch"
        return {"backend": backend, "dtype": str(self.dtype).removeprefix("torch.")}

    def spliced(self, batch: Tensor, layer: str) -> Spliced | None:
        """Return a packed network with one layer that hooks can be set on; None where there is none.

        Args:
            batch: Such as it will see [N, 3, H, W].
            layer: As in ``model.named_modules()``.
        """
        if self.device.type != "cpu" or self.dtype != torch.float32:
            return None
        packed, _ = self._prepared(batch, 1, compiles=False)
        return packed.splice(layer) if isinstance(packed, Packed) else None

    def lanes(self, workers: int) -> int:
        """Return how many of so many threads may compute at the same time."""
        if self.device.type != "cpu" or not can_share_threads():
            return 1
        return max(1, min(workers, torch.get_num_threads()))

    def prepare(self, lanes: int) -> None:
        """Do nothing beforehand: the faster network is made with the first batch."""

    def join(self, pool: Executor, *, workers: int, lanes: int) -> None:
        """Give the threads of a new pool their share of torch's threads."""
        if lanes > 1:
            share_threads(pool, workers=workers, lanes=lanes)

    def _prepared(self, batch: Tensor, lanes: int, *, compiles: bool) -> tuple[_Fast | None, Tensor | None]:
        """Return the faster network for such a batch, and its logits where it was just made with this batch."""
        with self._lock:
            if self._watched.has_changed():
                self._evaluated = _in_evaluation_mode(self.model)
                self._fast = {}
            if self.device.type != "cpu":
                return None, None
            kind = (*batch.shape[2:], 0 if compiles else torch.get_num_threads())
            if kind in self._fast:
                return self._fast[kind], None
            made = self._compiled(batch, lanes) if compiles else None
            fast, logits = made or pack(self._evaluated, batch, dtype=self.dtype)
            if compiles and made is None:
                kind = (*batch.shape[2:], torch.get_num_threads())
            self._fast[kind] = fast
            return fast, logits

    def _compiled(self, batch: Tensor, lanes: int) -> tuple[Compiled, Tensor] | None:
        """Compile the model, and compare the two; None where OpenVINO was a preference and cannot run it."""
        try:
            return self._compiled_and_compared(batch, lanes)
        except (BackendUnavailable, MissingExtra) as error:
            if self._is_strict:
                raise
            _log.warning("torch runs the network, since OpenVINO cannot: %s", error)
            self._compiles = False
            return None

    def _compiled_and_compared(self, batch: Tensor, lanes: int) -> tuple[Compiled, Tensor]:
        outline = try_record(self._evaluated)
        tensors = {name: value.detach().cpu().numpy() for name, value in self._evaluated.state_dict().items()}
        size_hw, dtype = (batch.shape[2], batch.shape[3]), str(self.dtype).removeprefix("torch.")
        try:
            network = Compiled(outline, tensors, size_hw=size_hw, dtype=dtype)
            logits = torch.from_numpy(network(batch.permute(0, 2, 3, 1).numpy(), lanes=lanes))
        except (KeyError, RuntimeError) as error:  # weights that no key of the state dict names; a broken OpenVINO
            message = f"OpenVINO cannot compile it ({type(error).__name__}: {error}); use backend='torch'"
            raise BackendUnavailable(message) from error
        expected = run(self._evaluated, batch, device=self.device, dtype=torch.float32)
        if logits.shape != expected.shape or not bool((logits - expected).abs().max() <= TOLERANCE[self.dtype]):
            raise BackendUnavailable(
                f"OpenVINO's logits differ from torch's ({logits.flatten()[:3].tolist()} in place of "
                f"{expected.flatten()[:3].tolist()}); use backend='torch'"
            )
        return network, logits


class WeightState:
    """Notices when a weight, a module or the mode of a model has changed.

    Args:
        model: As it is now.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._modules: list[torch.nn.Module] = list(model.modules())
        self._state = _state(self._modules)

    def has_changed(self) -> bool:
        """Say whether the model differs from what it was when this was last called, or made."""
        state = _state(self._modules)
        if state == self._state:
            return False
        self._modules = list(self._model.modules())
        self._state = _state(self._modules)
        return True


def run(model: torch.nn.Module, batch: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Run a model as it is.

    Args:
        model: In evaluation mode, on ``device``.
        batch: [N, 3, H, W] float32, on the CPU.
        device: Where the model is.
        dtype: float32, or what automatic mixed precision computes in.

    Returns:
        Logits [N], float32, on the CPU.
    """
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        logits: Tensor = model(batch.to(device))
    return logits.float().cpu()


def _in_evaluation_mode(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model itself, or a copy that shares its weights where a part of it is in training mode."""
    if not any(module.training for module in model.modules()):
        return model
    return copy_structure(model).eval()


def _state(modules: list[torch.nn.Module]) -> list[int]:
    state: list[int] = []
    for module in modules:
        state.append(int(module.training))
        for tensor in itertools.chain(module._parameters.values(), module._buffers.values()):
            if tensor is not None:
                state += (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
        state += map(id, module._modules.values())
    return state
