"""How does a model answer a batch on this machine: as it is, or by a faster twin?"""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Executor

import numpy as np
import torch
from torch import Tensor

from deepfake_detect.engines.openvino_engine import Compiled
from deepfake_detect.engines.packed import TOLERANCE, Packed, Spliced, pack
from deepfake_detect.engines.trace import record
from deepfake_detect.errors import MissingExtra
from deepfake_detect.system.device import share_threads

_Twin = Packed | Compiled


class Forward:
    """Runs a model on batches: on a processor by a twin, where it has one, `pack`ed or compiled by OpenVINO.

    The twin is made with the first batch, which costs some batches more, and made anew where the model's weights or
    modules have changed. May be used from several threads at once.

    Args:
        model: In evaluation mode, on ``device``, its weights float32.
        device: Where the model is.
        dtype: float32, or what is computed in: on a processor by the convolutions of the twin, else by automatic
            mixed precision.
        backend: ``"openvino"`` compiles a twin where the model can be told by an `outline`; ``"torch"`` packs one.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        backend: str = "torch",
    ) -> None:
        self.model, self.device, self.dtype, self.backend = model, device, dtype, backend
        self._twins: dict[tuple[int, ...], _Twin | None] = {}  # by height, width and threads
        self._modules: list[torch.nn.Module] = []
        self._state: list[int] = []
        self._lock = threading.Lock()

    def __call__(self, pixels: np.ndarray, *, lanes: int = 1) -> np.ndarray:
        """Map pictures to logits.

        Args:
            pixels: [N, H, W, 3] float32, normalised.
            lanes: So many threads call at the same time; those of `join` have their share of torch's threads.

        Returns:
            [N] float32.
        """
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        on_processor = self.device.type == "cpu"
        twin, logits = self._twin(batch, lanes, backend=self.backend) if on_processor else (None, None)
        if logits is None:
            if twin is None:
                logits = run(self.model, batch, device=self.device, dtype=self.dtype)
            elif isinstance(twin, Compiled):
                return twin(pixels, lanes=lanes)
            else:
                with torch.inference_mode():
                    logits = twin(batch)
        return logits.numpy()

    @property
    def how(self) -> dict[str, str]:
        """Say what runs the model, and what it computes in, as predictions tell it."""
        twins = list(self._twins.values())
        compiled = next((twin for twin in twins if isinstance(twin, Compiled)), None)
        if compiled is not None:
            return compiled.how
        backend = "torch-packed" if any(twins) else "torch"
        return {"backend": backend, "dtype": str(self.dtype).removeprefix("torch.")}

    def spliced(self, batch: Tensor, layer: str) -> Spliced | None:
        """Give a faster twin, one layer of which may be watched; None where there is none.

        Args:
            batch: Such as it will see [N, 3, H, W].
            layer: As in ``model.named_modules()``.
        """
        if self.device.type != "cpu" or self.dtype != torch.float32:
            return None
        twin, _ = self._twin(batch, 1, backend="torch")
        return twin.splice(layer) if isinstance(twin, Packed) else None

    def lanes(self, workers: int) -> int:
        """Tell how many of so many threads may compute at the same time."""
        return max(1, min(workers, torch.get_num_threads())) if self.device.type == "cpu" else 1

    def prepare(self, lanes: int) -> None:
        """Nothing is to be done beforehand: a twin is made with the first batch."""

    def join(self, pool: Executor, *, workers: int, lanes: int) -> None:
        """Give the threads of a new pool their share of torch's threads."""
        if lanes > 1:
            share_threads(pool, workers=workers, lanes=lanes)

    def _twin(self, batch: Tensor, lanes: int, *, backend: str) -> tuple[_Twin | None, Tensor | None]:
        """Give the twin for such a batch, and what it said of this one where it was just made with it."""
        threads = 0 if backend == "openvino" else torch.get_num_threads()
        kind = (*batch.shape[2:], threads)
        with self._lock:
            state = _state(self._modules)
            if not state or state != self._state:
                self._modules = list(self.model.modules())
                self._state = _state(self._modules)
                self._twins = {}
            logits = None
            if kind not in self._twins:
                made = self._compile(batch, lanes) if backend == "openvino" else None
                self._twins[kind], logits = made or pack(self.model, batch, dtype=self.dtype)
            return self._twins[kind], logits

    def _compile(self, batch: Tensor, lanes: int) -> tuple[Compiled, Tensor] | None:
        """Make the twin of OpenVINO, and compare it with the model; None where that cannot be, or they differ."""
        outline = record(self.model)
        if outline is None:
            return None
        tensors = {name: value.detach().cpu().numpy() for name, value in self.model.state_dict().items()}
        size_hw, dtype = (batch.shape[2], batch.shape[3]), str(self.dtype).removeprefix("torch.")
        try:
            twin = Compiled(outline, tensors, size_hw=size_hw, dtype=dtype)
            found = torch.from_numpy(twin(batch.permute(0, 2, 3, 1).numpy(), lanes=lanes))
        except (KeyError, RuntimeError, MissingExtra):  # weights that no key of the state dict names; a broken OpenVINO
            return None
        expected = run(self.model, batch, device=self.device, dtype=torch.float32)
        agree = found.shape == expected.shape and bool((found - expected).abs().max() <= TOLERANCE[self.dtype])
        return (twin, found) if agree else None


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


def _state(modules: list[torch.nn.Module]) -> list[int]:
    """Give numbers that change when a weight or a module does."""
    state: list[int] = []
    for module in modules:
        for tensor in itertools.chain(module._parameters.values(), module._buffers.values()):
            if tensor is not None:
                state += (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
        state += map(id, module._modules.values())
    return state
