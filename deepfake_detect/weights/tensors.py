"""Read the tensors of a bundle, and check them against what the architecture has, before any engine sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import safetensors

from deepfake_detect.errors import WeightsCorrupted, WeightsMismatch
from deepfake_detect.weights.bundle import Bundle, read_weights, replacement
from deepfake_detect.weights.card import Card

DTYPES: Final = {"F16": np.float16, "F32": np.float32, "I64": np.int64}
"""Dtypes that `save_bundle` writes, by safetensors' names: floats, and counters of batch norms."""

_LISTED = 4  # of many keys, a message names so many
_EXPONENT = np.uint16(0x7C00)  # of float16: all ones where a number is infinite or none


def read_tensors(bundle: Bundle) -> dict[str, np.ndarray]:
    """Read the weights of a bundle into memory.

    The bytes that were hashed are parsed, as strictly as by `safetensors.safe_open`, which would open the file a second
    time, when it may be another, and gains nothing: 67 ms of processor time for Xception either way, 55 of them sha256.

    Raises:
        WeightsCorrupted: They are missing, damaged (the sha256 is taken at every load), or no safetensors file.
        WeightsMismatch: A tensor is neither float16, float32 nor int64.
    """
    try:
        stored = safetensors.deserialize(read_weights(bundle))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise WeightsCorrupted(f"{bundle.path} is not a safetensors file ({error}); {replacement(bundle)}") from error
    for name, tensor in stored:
        if tensor["dtype"] not in DTYPES:
            raise WeightsMismatch(
                f"{bundle.path}: {name} is {tensor['dtype']}, expected one of {', '.join(DTYPES)}; "
                "save the bundle again with Detector.save_pretrained"
            )
    return {
        name: np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]]).reshape(tensor["shape"]) for name, tensor in stored
    }


Form = tuple[tuple[int, ...], bool, str]
"""Shape of a tensor, whether it holds floats, and the name of its dtype."""


def check_tensors(tensors: Mapping[str, np.ndarray], expected: Mapping[str, Form], *, bundle: Bundle) -> None:
    """Check names, shapes, dtypes and finiteness of the tensors of a bundle.

    Args:
        tensors: As `read_tensors` gives them.
        expected: Name and form of every tensor that the architecture has.
        bundle: Named in the message.

    Raises:
        WeightsMismatch: A tensor is missing, unknown, of another shape or dtype, or holds infinite numbers or NaN.
    """
    what = str(bundle.path)
    forms = {name: (value.shape, value.dtype.kind == "f", str(value.dtype)) for name, value in tensors.items()}
    check_fit(forms, expected, what=what, card=bundle.card)
    broken = sorted(name for name, value in tensors.items() if not is_finite(value))
    if broken:
        raise WeightsMismatch(
            f"{what} holds infinite numbers or NaN in {some_of(broken)}, so its scores mean nothing; "
            f"{replacement(bundle)}"
        )


def check_fit(forms: Mapping[str, Form], expected: Mapping[str, Form], *, what: str, card: Card) -> None:
    """Refuse tensors that are not those of an architecture.

    Args:
        forms: Name and form of each tensor.
        expected: Name and form of each tensor of the architecture.
        what: Names the tensors in the message.
        card: Names the architecture.

    Raises:
        WeightsMismatch: Some are missing, unexpected, or of another shape or kind; the message names them.
    """
    different = [
        f"{name} {list(forms[name][0])} {forms[name][2]}, expected {list(expected[name][0])} {expected[name][2]}"
        for name in sorted(forms.keys() & expected.keys())
        if forms[name][:2] != expected[name][:2]
    ]
    lists = {
        "missing": sorted(expected.keys() - forms.keys()),
        "unexpected": sorted(forms.keys() - expected.keys()),
        "different": different,
    }
    if any(lists.values()):
        problems = "; ".join(f"{len(names)} {kind}: {some_of(names)}" for kind, names in lists.items() if names)
        raise WeightsMismatch(
            f"{what} does not fit architecture {card.architecture!r} of card {card.id}: {problems}; "
            "use the card and the weights that belong together"
        )


def is_finite(values: np.ndarray) -> bool:
    """Say whether a tensor holds no infinite numbers and no NaN."""
    if values.dtype == np.float16:  # four times as fast as numpy.isfinite
        return not bool(((np.ascontiguousarray(values).view(np.uint16) & _EXPONENT) == _EXPONENT).any())
    return bool(np.isfinite(values).all())


def some_of(names: list[str]) -> str:
    """List the first of many names."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
