"""How does a bundle become a model, and a model a bundle?"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch.overrides import TorchFunctionMode

from deepfake_detect._version import __version__
from deepfake_detect.errors import UnknownModel, WeightsCorrupted, WeightsMismatch
from deepfake_detect.models.registry import create_model
from deepfake_detect.weights.bundle import Bundle, read_bundle, read_weights, replacement, tensors_in
from deepfake_detect.weights.card import CARD_FILE, LIBRARY, WEIGHTS_FILE, Card

_NAMED = 4  # of many keys, a message names so many


def load_model(bundle_or_folder: Bundle | str | os.PathLike[str]) -> torch.nn.Module:
    """Build the architecture that a card names and fill in the weights, each key in its place.

    Args:
        bundle_or_folder: What ``find_bundle`` found, or a folder.

    Returns:
        The model, float32, in evaluation mode.

    Raises:
        WeightsCorrupted: The weights are missing or damaged: their sha256, which is taken at every load, is not the
            card's.
        WeightsMismatch: The weights do not fit the architecture, or this library does not know it.

    Example:
        >>> from deepfake_detect.weights.bundle import find_bundle
        >>> load_model(find_bundle("xception-fakefaces")).training
        False
    """
    bundle = bundle_or_folder
    if not isinstance(bundle, Bundle):
        bundle = read_bundle(Path(os.path.expanduser(bundle)))
    tensors = _read_tensors(bundle)
    with _Undrawn():  # to draw weights takes longer than to read them
        model = _untrained(bundle.card).float()
    _check_fit(tensors, model.state_dict(), what=str(bundle.folder / WEIGHTS_FILE), card=bundle.card)
    model.load_state_dict({key: _owned(tensor) for key, tensor in tensors.items()}, assign=True)
    return model.eval()


def save_bundle(
    model: torch.nn.Module, card: Card, folder: str | os.PathLike[str], *, half: bool | None = True
) -> Card:
    """Write a model and its card to a folder that ``find_bundle`` finds.

    Both files are written in full before either takes its place, so that a crash leaves nothing that loads by mistake.
    Other files in the folder stay.

    Args:
        model: What ``create_model(card.architecture)`` built, trained.
        card: Its sha256 and library version are filled in.
        folder: Made where it is missing.
        half: Store float16, which takes half the space and rounds weights to three digits; False stores float32;
            None float16 where it holds every weight without loss.

    Returns:
        The card as written.

    Raises:
        WeightsMismatch: The model is not of the card's architecture, or some weight is infinite or no number, or
            becomes so in float16.
        OSError: The folder cannot be written, or the disk is full; nothing half-written stays behind.
    """
    tensors = _to_store(model, half=_fits_half(model) if half is None else half)
    _check_fit(tensors, _untrained(card).state_dict(), what="the model", card=card)
    weights = safetensors.torch.save(tensors, metadata={"format": "pt"})
    card = dataclasses.replace(card, sha256=hashlib.sha256(weights).hexdigest(), library_version=__version__)
    _write_together(Path(os.path.expanduser(folder)), {WEIGHTS_FILE: weights, CARD_FILE: card.to_json().encode()})
    return card


_DRAW = {torch.Tensor.normal_, torch.Tensor.uniform_} | {
    draw for name, draw in vars(torch.nn.init).items() if name.endswith(("normal_", "uniform_"))
}


class _Undrawn(TorchFunctionMode):
    """Leave new weights as the memory is, for something else to fill in."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAW:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _read_tensors(bundle: Bundle) -> dict[str, torch.Tensor]:
    """Give the tensors of a bundle, most of them where they lie in the file."""
    content = read_weights(bundle)
    with contextlib.suppress(ValueError, KeyError, AttributeError, TypeError):
        return {name: torch.from_numpy(numbers) for name, numbers in tensors_in(content).items()}
    try:  # safetensors reads more kinds of numbers, and tells what is wrong
        tensors: dict[str, torch.Tensor] = safetensors.torch.load(bytes(content))
        return tensors
    except SafetensorError as error:
        path = bundle.folder / WEIGHTS_FILE
        raise WeightsCorrupted(f"{path} is no safetensors file ({error}); {replacement(bundle)}") from error


def _owned(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a tensor out of the file, floats to float32, channels last, as they will be used."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    order = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
    return tensor.to(dtype, copy=True, memory_format=order)


def _untrained(card: Card) -> torch.nn.Module:
    try:
        return create_model(
            card.architecture, seed=0, outputs=card.outputs
        )  # with a seed, torch's random state stays as it was
    except UnknownModel as error:
        raise WeightsMismatch(
            f"card {card.id} asks for what this library does not have: {error}; run: pip install --upgrade {LIBRARY}"
        ) from error


def _check_fit(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], *, what: str, card: Card
) -> None:
    shared = sorted(found.keys() & expected.keys())
    other = [
        f"{key} {list(found[key].shape)} {found[key].dtype}, expected {list(expected[key].shape)} {expected[key].dtype}"
        for key in shared
        if found[key].shape != expected[key].shape
        or found[key].is_floating_point() != expected[key].is_floating_point()
    ]
    lists = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "different": other,
    }
    if any(lists.values()):
        told = "; ".join(f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in lists.items() if keys)
        raise WeightsMismatch(
            f"{what} does not fit architecture {card.architecture!r} of card {card.id}: {told}; "
            "use the card and the weights that belong together"
        )


def _some(keys: list[str]) -> str:
    more = len(keys) - _NAMED
    return ", ".join(keys[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _fits_half(model: torch.nn.Module) -> bool:
    """Say whether float16 holds every weight without loss."""
    values = (value for value in model.state_dict().values() if value.is_floating_point())
    return all(torch.equal(value, value.half().to(value.dtype)) for value in values)


def _to_store(model: torch.nn.Module, *, half: bool) -> dict[str, torch.Tensor]:
    stored, overflown = {}, []
    for key, tensor in model.state_dict().items():
        dtype = (torch.float16 if half else torch.float32) if tensor.is_floating_point() else tensor.dtype
        stored[key] = tensor.detach().to("cpu", dtype, copy=True).contiguous()
        if not tensor.isfinite().all():
            raise WeightsMismatch(f"{key} of the model is not finite, so its scores mean nothing; train it again")
        if not stored[key].isfinite().all():
            overflown.append(f"{key} (up to {tensor.abs().max():.4g})")
    if overflown:
        raise WeightsMismatch(f"float16 ends at 65504, too early for {_some(overflown)}; save with half=False")
    return stored


def _write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Inside the folder, since only within one file system is a rename whole or not at all.
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as stage:
            for name, content in files.items():
                _write_through(Path(stage, name), content)
            for name in files:  # the weights first: until the card follows, its sha256 refuses them
                os.replace(Path(stage, name), folder / name)
    except OSError as error:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise OSError(
            error.errno, f"bundle not saved ({error.strerror}); free some space or choose another folder", str(folder)
        ) from error


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # a rename may otherwise outlive a power cut that the bytes do not
