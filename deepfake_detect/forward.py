"""How does a model answer a batch on this machine: as it is, or by a faster twin?"""

from __future__ import annotations

import itertools
import threading

import torch
from torch import Tensor

from deepfake_detect.models.packed import Packed, pack


class Forward:
    """Runs a model on batches: on a processor by its `pack`ed twin, where it has one.

    The twin is made with the first batch, which costs some batches more, and made anew where the model's weights or
    modules have changed. May be used from several threads at once.

    Args:
        model: In evaluation mode, on ``device``, its weights float32.
        device: Where the model is.
        dtype: float32, or what is computed in: on a processor by the convolutions of the twin, else by automatic
            mixed precision.
    """

    def __init__(self, model: torch.nn.Module, *, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.model, self.device, self.dtype = model, device, dtype
        self._twins: dict[tuple[int, ...], Packed | None] = {}  # by height, width and threads
        self._modules: list[torch.nn.Module] = []
        self._state: list[int] = []
        self._lock = threading.Lock()

    def __call__(self, batch: Tensor) -> Tensor:
        """Map a batch [N, 3, H, W] float32, on the CPU, to logits [N] float32, on the CPU."""
        twin, logits = self._twin(batch) if self.device.type == "cpu" else (None, None)
        if logits is not None:
            return logits
        if twin is None:
            return run(self.model, batch, device=self.device, dtype=self.dtype)
        with torch.inference_mode():
            return twin(batch)

    @property
    def how(self) -> dict[str, str]:
        """Say what runs the model, and what it computes in, as predictions tell it."""
        packed = any(twin is not None for twin in self._twins.values())
        return {"backend": "torch-packed" if packed else "torch", "dtype": str(self.dtype).removeprefix("torch.")}

    def _twin(self, batch: Tensor) -> tuple[Packed | None, Tensor | None]:
        """Give the twin for such a batch, and what it said of this one where it was just made with it."""
        kind = (*batch.shape[2:], torch.get_num_threads())
        with self._lock:
            state = _state(self._modules)
            if not state or state != self._state:
                self._modules = list(self.model.modules())
                self._state = _state(self._modules)
                self._twins = {}
            logits = None
            if kind not in self._twins:
                self._twins[kind], logits = pack(self.model, batch, dtype=self.dtype)
            return self._twins[kind], logits


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
