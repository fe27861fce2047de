"""Run a detector that is an ONNX file by onnxruntime, without torch."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

import numpy as np

from deepfake_detect.errors import BackendUnavailable, InvalidOption, MissingExtra, WeightsMismatch
from deepfake_detect.system.device import count_processors, may_have_accelerator
from deepfake_detect.system.threads import never_free, renew_after_fork
from deepfake_detect.weights.card import Preprocessing
from deepfake_detect.weights.onnx_file import OnnxFile

if TYPE_CHECKING:
    import torch

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
"""Devices, and onnxruntime's names for what computes on them."""

_PACKAGES = {"cuda": "onnxruntime-gpu", "coreml": "onnxruntime on macOS", "directml": "onnxruntime-directml"}
_ELEMENTS = {"pixels": "tensor(float)", "crops": "tensor(uint8)"}
_NOT_A_BYTE = 0.02  # how far a pixel may lie from a whole number; float32 moves it by less than 1e-4
_SILENT = 4  # onnxruntime's log level; what goes wrong is raised


class OnnxSessions:
    """An ONNX file, opened once for each number of threads that run it at a time.

    May be used from several threads at once. A forked child opens it again, since onnxruntime's threads stay with its
    parent.

    Args:
        file: What `read_onnx` gave.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"coreml"`` or ``"directml"``; ``"auto"`` is cuda where
            onnxruntime can use it, else cpu.

    Raises:
        MissingExtra: onnxruntime is not installed.
        InvalidOption: No such device, or this onnxruntime has nothing for it.
        WeightsMismatch: onnxruntime cannot run the graph, or it does not take and give what the card says.
    """

    def __init__(self, file: OnnxFile, device: str = "auto") -> None:
        self.file = file
        self.device = _find_device(device)
        self._look = file.card.preprocessing
        self._begin()
        self._session(1)
        renew_after_fork(self)

    def __call__(self, pixels: np.ndarray, *, lanes: int = 1) -> np.ndarray:
        """Map pictures to logits.

        Args:
            pixels: [N, H, W, 3] float32, normalised.
            lanes: Number of threads that call at the same time: each gets its share of the processors.

        Returns:
            [N] float32.

        Raises:
            WeightsMismatch: onnxruntime cannot run the graph on them, or it gives something else.
        """
        batch = to_crops(pixels, self._look) if self.file.input == "crops" else to_planes(pixels)
        try:
            (logits,) = self._session(lanes).run(["logit"], {self.file.input: batch})
        except Exception as error:  # onnxruntime's own classes, and whatever a graph of a stranger makes it raise
            raise WeightsMismatch(f"{self.file.path}: {_first_line(error)}; export it again") from error
        if logits.shape != (len(pixels),) or logits.dtype != np.float32:
            raise WeightsMismatch(
                f"{self.file.path} gives {logits.dtype} {list(logits.shape)}, expected a logit for each of "
                f"{len(pixels)} pictures; export it again"
            )
        return np.asarray(logits)

    def renew(self) -> None:
        """Begin anew in a forked child."""
        never_free(self._sessions)
        self._begin()

    def _begin(self) -> None:
        self._sessions: dict[int, Any] = {}
        self._lock = threading.Lock()

    def _session(self, lanes: int) -> Any:
        with self._lock:
            if lanes not in self._sessions:
                self._sessions[lanes] = _open(self.file, self.device, threads=max(1, count_processors() // lanes))
            return self._sessions[lanes]


class OnnxRunner:
    """What runs the ONNX file of a detector, with the same methods as `Runner`.

    Args:
        file: What `read_onnx` gave.
        device: As for `OnnxSessions`.
        dtype: ``"auto"``, or the one that the file computes in.
        backend: ``"auto"``.

    Raises:
        InvalidOption: Another device, dtype or backend than the file can have.
        MissingExtra: onnxruntime is not installed.
        WeightsMismatch: As for `OnnxSessions`.
    """

    bundle = None
    is_loaded = False
    uses_openvino = False
    backend: Literal["auto"] = "auto"

    def __init__(
        self,
        file: OnnxFile,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        backend: str = "auto",
    ) -> None:
        self.file, self.dtype = file, file.dtype
        self.to(device, dtype=dtype, backend=backend)

    def to(
        self,
        device: str | torch.device = "auto",
        *,
        dtype: str | torch.dtype | None = None,
        backend: str | None = None,
    ) -> None:
        """Choose the device; dtype and backend stay those of the file."""
        if backend not in (None, "auto"):
            raise InvalidOption(
                f"backend is {backend!r}, but {self.file.path} is an ONNX file, which onnxruntime runs; "
                f"leave backend= out, or load {self.file.card.id} from its bundle"
            )
        name = str(dtype).removeprefix("torch.")
        if dtype is not None and name not in ("auto", self.file.dtype):
            raise InvalidOption(
                f"dtype is {dtype!r}, but {self.file.path} computes in {self.file.dtype}; "
                f"export the detector with dtype={name!r}"
            )
        self._sessions = OnnxSessions(self.file, str(device))
        self.device = self._sessions.device

    @property
    def model(self) -> NoReturn:
        """The network as a module of torch, which an ONNX file does not hold.

        Raises:
            BackendUnavailable: Always.
        """
        raise BackendUnavailable(
            f"{self.file.path} is an ONNX file: it can score, evaluate, calibrate and export, but explain, fine_tune, "
            f"summary, save_pretrained and push_to_hub need the weights in torch; "
            f"load those that it was exported from: Detector.from_pretrained({self.file.card.id!r})"
        )

    @property
    def how(self) -> dict[str, str]:
        """What runs the network and in which dtype, as predictions record it."""
        return {"backend": "onnxruntime", "dtype": self.dtype}

    def __call__(self, pixels: np.ndarray, *, lanes: int = 1) -> np.ndarray:
        """Map pictures [N, H, W, 3] float32, normalised, to logits [N]; see `OnnxSessions`."""
        return self._sessions(pixels, lanes=lanes)

    def begin(self, workers: int) -> int:
        """Return how many of so many threads may compute at the same time."""
        return max(1, min(workers, count_processors())) if self.device == "cpu" else 1

    def join(self, pool: Executor, *, workers: int, lanes: int) -> None:
        """Do nothing for the threads of a new pool: onnxruntime has threads of its own."""

    def spliced(self, batch: torch.Tensor, layer: str) -> None:
        """Return None: there is no packed network."""

    def __getstate__(self) -> dict[str, Any]:
        """Give what a copy, or a process that unpickles it, opens anew."""
        return {"file": self.file, "dtype": self.dtype, "device": self.device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.to(self.device)

    def __copy__(self) -> Self:
        """Share the sessions, until either is moved."""
        shared = object.__new__(type(self))
        shared.__dict__.update(self.__dict__)
        return shared


def to_planes(pixels: np.ndarray) -> np.ndarray:
    """Turn pictures [N, H, W, 3] into [N, 3, H, W], as a graph without preprocessing takes them."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def to_crops(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Undo the normalisation of pictures, for a graph that does it itself.

    Args:
        pixels: [N, H, W, 3] float32, as `normalise` gives them.
        preprocessing: Mean and std.

    Returns:
        The crops [N, H, W, 3] uint8 that they were made of.

    Raises:
        InvalidOption: They were not made of crops of 8 bits.
    """
    mean, std = np.array(preprocessing.mean, np.float32), np.array(preprocessing.std, np.float32)
    values = (pixels + mean / std) * (255 * std)
    crops = np.rint(values)
    if np.abs(values - crops).max(initial=0) > _NOT_A_BYTE or crops.min(initial=0) < 0 or crops.max(initial=0) > 255:
        raise InvalidOption(
            "the ONNX file takes pictures of 8 bits, and these have other values; export it with preprocessing=False"
        )
    result: np.ndarray = crops.astype(np.uint8)
    return result


def require_onnxruntime() -> Any:
    """Import onnxruntime, without the events that its builds for Windows report.

    Where the host has imported it before, its setting stays as it is.

    Raises:
        MissingExtra: It is not installed, or cannot be imported.
    """
    is_new = "onnxruntime" not in sys.modules
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(
            f"an ONNX file needs onnxruntime ({error}); run: pip install 'deepfake-detect[onnx]'"
        ) from error
    if is_new:
        onnxruntime.disable_telemetry_events()
    return onnxruntime


def list_devices() -> list[str]:
    """List the devices that the installed onnxruntime was built for.

    Raises:
        MissingExtra: onnxruntime is not installed.
    """
    known = require_onnxruntime().get_available_providers()
    return [device for device, provider in PROVIDERS.items() if provider in known]


def _find_device(device: str) -> str:
    available = list_devices()
    if device == "auto":
        return "cuda" if "cuda" in available and may_have_accelerator() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in PROVIDERS or (number and not number.isdecimal()):
        raise InvalidOption(f"no device {device!r} for an ONNX file; expected 'auto' or one of {', '.join(PROVIDERS)}")
    if kind not in available:
        raise InvalidOption(
            f"no device {device!r} here: this onnxruntime was built for {', '.join(available)}; "
            f"install {_PACKAGES[kind]}, or use device='cpu'"
        )
    return device


def _open(file: OnnxFile, device: str, *, threads: int) -> Any:
    onnxruntime = require_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads  # a number of ours also keeps it from pinning threads to processors
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the processor alone
    kind, _, number = device.partition(":")
    provider = (PROVIDERS[kind], {"device_id": number}) if number else PROVIDERS[kind]
    try:
        session = onnxruntime.InferenceSession(file.content, options, providers=[provider, *_fallback(kind)])
    except Exception as error:  # onnxruntime's own classes
        raise WeightsMismatch(
            f"onnxruntime {onnxruntime.__version__} cannot run {file.path}: {_first_line(error)}; "
            "run: pip install --upgrade onnxruntime, or export it again"
        ) from error
    if PROVIDERS[kind] not in session.get_providers():
        raise InvalidOption(
            f"no device {device!r} here: onnxruntime could not load what it needs for it; use device='cpu'"
        )
    _check_interface(session, file)
    return session


def _fallback(kind: str) -> list[str]:
    return [] if kind == "cpu" else [PROVIDERS["cpu"]]  # for single operators that an accelerator lacks


def _check_interface(session: Any, file: OnnxFile) -> None:
    """Refuse a graph that takes or gives something else than its metadata say."""
    size_px = file.card.preprocessing.size_px
    shape = [3, size_px, size_px] if file.input == "pixels" else [size_px, size_px, 3]
    found = [(value.name, value.type, value.shape[1:]) for value in session.get_inputs()]
    expected = [(file.input, _ELEMENTS[file.input], shape)]
    outputs = {value.name: value.type for value in session.get_outputs()}
    if found != expected or outputs.get("logit") != "tensor(float)":
        raise WeightsMismatch(
            f"{file.path} takes {found} and gives {sorted(outputs)}, expected {expected} and a logit; export it again"
        )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
