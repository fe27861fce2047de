"""Turn arrays and tensors into RGB pixels, and refuse those whose meaning would be a guess."""

from __future__ import annotations

import sys
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from deepfake_detect.errors import DeepfakeDetectError, ImageUnreadable


def is_tensor(image: object) -> TypeGuard[Any]:
    """Tell whether this is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")  # while it is not imported, nobody can hold a tensor
    return torch is not None and isinstance(image, torch.Tensor)


def check_array(array: npt.NDArray[Any], name: str) -> None:
    """Check that an array is uint8, and of a shape that can only mean one picture.

    Args:
        array: The caller's array.
        name: Stands for it in error messages.

    Raises:
        ImageUnreadable: Anything else; the message says how to convert it.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise ImageUnreadable(f"{name}: a masked array; pass array.filled(255), with the value for what is masked")
    shape = list(array.shape)
    if array.ndim == 3 and shape[2] not in (1, 3, 4) and shape[0] in (1, 3, 4):
        raise ImageUnreadable(f"{name}: shape {shape} has channels first; pass array.transpose(1, 2, 0)")
    if array.ndim == 4:
        raise ImageUnreadable(f"{name}: shape {shape} is a batch of {shape[0]}; pass its pictures one by one")
    if array.ndim == 1 and array.dtype == np.uint8 and array.size:
        raise ImageUnreadable(f"{name}: shape {shape}, expected RGB [H, W, 3]; of a file's bytes, pass array.tobytes()")
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise ImageUnreadable(f"{name}: shape {shape}, expected RGB [H, W, 3] or greyscale [H, W]")
    if array.dtype != np.uint8:
        raise ImageUnreadable(f"{name}: {array.dtype} pixels{_range_and_fix(array)}")


def tensor_to_array(tensor: Any, name: str) -> npt.NDArray[Any]:
    """Turn a tensor with channels first into an array with channels last; floats within 0..1 become uint8.

    Args:
        tensor: [3, H, W], [1, H, W], [4, H, W] or [H, W]; on any device.
        name: Stands for it in error messages.

    Returns:
        [H, W, C] or [H, W], of the tensor's own type where that is no float.

    Raises:
        ImageUnreadable: Another shape or range, or a tensor that holds no plain numbers.
    """
    _refuse_odd_tensor(tensor, name)
    shape = list(tensor.shape)
    if tensor.ndim == 3 and shape[0] not in (1, 3, 4):
        fix = "; pass tensor.permute(2, 0, 1)" if shape[2] in (1, 3, 4) else ""
        raise ImageUnreadable(f"{name}: shape {shape}, expected channels first [3, H, W]{fix}")
    try:
        array = _to_numpy(tensor.detach().cpu(), name)
    except DeepfakeDetectError:
        raise
    except Exception as error:  # kinds of tensors that give no numbers, such as functorch's
        kind = f"{type(tensor).__name__} of {tensor.dtype}"
        raise ImageUnreadable(f"{name}: {kind} cannot be read ({error}); pass a plain tensor of uint8") from error
    return np.moveaxis(array, 0, 2) if array.ndim == 3 else array


def _refuse_odd_tensor(tensor: Any, name: str) -> None:
    if tensor.is_meta:
        raise ImageUnreadable(f"{name}: a tensor on the device 'meta' holds no numbers; pass the picture itself")
    if getattr(tensor, "is_nested", False):
        raise ImageUnreadable(f"{name}: a nested tensor; pass its pictures one by one")
    if "strided" not in str(tensor.layout):
        raise ImageUnreadable(f"{name}: a tensor of layout {tensor.layout}; pass tensor.to_dense()")
    if tensor.is_quantized:
        raise ImageUnreadable(f"{name}: a quantized tensor; pass tensor.dequantize()")


def _to_numpy(tensor: Any, name: str) -> npt.NDArray[Any]:
    if tensor.is_floating_point() and tensor.numel():
        tensor = tensor.float()
        low, high = tensor.min().item(), tensor.max().item()
        if not 0 <= low <= high <= 1:  # NaN as well
            fix = "tensor / 255" if 0 <= low <= high <= 255 else "it before mean and std are applied, clamped to 0..1"
            raise ImageUnreadable(f"{name}: floats from {low:g} to {high:g}, expected 0..1; pass {fix}")
        tensor = (tensor * 255).round().byte()
    array: npt.NDArray[Any] = tensor.resolve_conj().resolve_neg().numpy()
    return array


def _range_and_fix(array: npt.NDArray[Any]) -> str:
    if array.dtype.kind not in "buif":
        return ", expected uint8 numbers within 0..255"
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind == "u" and high > 255:
        fix = "(array // 257).astype('uint8') if they are 16-bit"
    elif not 0 <= low <= high <= 255:  # NaN as well
        fix = "it scaled to 0..255, as uint8"
    else:
        scaled = "(array * 255)" if array.dtype.kind in "bf" and high <= 1 else "array"
        fix = f"{scaled}.round().astype('uint8')"
    return f" from {low:g} to {high:g}, expected uint8 within 0..255; pass {fix}"
