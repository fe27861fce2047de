"""Load a bundle into a model, and save a model as a bundle."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch

from deepfake_detect._version import __version__
from deepfake_detect.errors import UnknownModel, WeightsMismatch
from deepfake_detect.models.registry import create_skeleton
from deepfake_detect.system.atomic import flush_to_disk, whole_file
from deepfake_detect.system.torch_defaults import usual_defaults
from deepfake_detect.weights.bundle import WAITING, Bundle, read_bundle
from deepfake_detect.weights.card import CARD_FILE, LIBRARY, TEXTURE_FILE, WEIGHTS_FILE, Card, texture_card
from deepfake_detect.weights.tensors import Form, check_fit, check_tensors, read_tensors, some_of


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
    tensors = read_tensors(bundle)
    model = _skeleton(bundle.card)
    check_tensors(tensors, _forms(model.state_dict()), bundle=bundle)
    with usual_defaults():  # tensors made under inference_mode could never be trained
        weights = {name: _in_use(torch.from_numpy(values)) for name, values in tensors.items()}
        model.load_state_dict(weights, assign=True)
    return model.eval()


def save_bundle(
    model: torch.nn.Module,
    card: Card,
    folder: str | os.PathLike[str],
    *,
    texture: torch.nn.Module | None = None,
    half: bool | None = True,
) -> Card:
    """Write a model and its card to a folder that ``find_bundle`` finds.

    All files are written in full before any takes its place: after a crash or a kill at any moment, the old or
    the new bundle loads. Other files in the folder stay.

    Args:
        model: What ``create_model(card.architecture)`` built, trained.
        card: Its sha256 and library version are filled in, and the sha256 of its texture look.
        folder: Made where it is missing.
        texture: What ``create_model(card.texture.architecture)`` built, trained; None where the card has one look.
        half: Store float16, which takes half the space and rounds weights to three digits; False stores float32; None
            stores float16 where it holds every weight without loss.

    Returns:
        The card as written.

    Raises:
        WeightsMismatch: A model is not of the card's architecture, or a weight is infinite or NaN, or becomes so in
            float16; or the card has a texture look, and there is no network for it, or the other way round.
        OSError: The folder cannot be written, or the disk is full; nothing half-written stays behind.
    """
    if (texture is None) != (card.texture is None):
        what = "a texture look, expected its network" if texture is None else "no texture look, expected no network"
        raise WeightsMismatch(f"card {card.id} has {what} as texture=")
    files = {WEIGHTS_FILE: _stored(model, card, what="the model", half=half)}
    card = dataclasses.replace(card, sha256=_sha256(files[WEIGHTS_FILE]), library_version=__version__)
    if texture is not None and card.texture is not None:
        files[TEXTURE_FILE] = _stored(texture, texture_card(card), what="the texture network", half=half)
        look = dataclasses.replace(card.texture, sha256=_sha256(files[TEXTURE_FILE]))
        card = dataclasses.replace(card, texture=look)
    _write_together(Path(os.path.expanduser(folder)), {**files, CARD_FILE: card.to_json().encode()})
    return card


def digest_of(model: torch.nn.Module) -> str:
    """Compute the sha256 of the weights as `save_bundle` writes them with ``half=None``.

    Args:
        model: Of any architecture.

    Raises:
        WeightsMismatch: A weight is infinite or NaN.

    Example:
        >>> from deepfake_detect.weights.bundle import find_bundle
        >>> bundle = find_bundle("meso4-fakefaces")
        >>> digest_of(load_model(bundle)) == bundle.card.sha256
        True
    """
    return _sha256(_in_safetensors(_to_store(model, half=None)))


def write_file(path: Path, content: bytes) -> None:
    """Write a file in full before it takes its place, so that at any moment the old or the new one is there.

    Args:
        path: Missing folders are made.
        content: Of the file.

    Raises:
        OSError: The folder cannot be written, or the disk is full; nothing half-written stays behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise OSError(
            error.errno, f"file not written ({error.strerror}); free some space or choose another folder", str(path)
        ) from error


def put_in_place(stage: Path, folder: Path) -> None:
    """Move a card and its weights from a folder beside them into their own, so that a bundle can be loaded at any time.

    The card decides: until it is replaced the old bundle loads, and from then on the new one, whose weights are found
    with the ending `WAITING` until they stand in the place of the old ones. The texture network of an old bundle goes
    where the new one has none.

    Args:
        stage: Holds the card and all weights, written through to the disk, on the same file system.
        folder: Of the bundle.
    """
    files = [name for name in (WEIGHTS_FILE, TEXTURE_FILE) if (stage / name).exists()]
    waiting: list[Path] = []
    try:
        for name in files:
            os.replace(stage / name, folder / f"{name}{WAITING}")
            waiting.append(folder / f"{name}{WAITING}")
        os.replace(stage / CARD_FILE, folder / CARD_FILE)
    except BaseException:
        for path in waiting:
            path.unlink()
        raise
    for path in waiting:
        os.replace(path, path.with_suffix(""))
    if TEXTURE_FILE not in files:
        (folder / TEXTURE_FILE).unlink(missing_ok=True)


def _stored(model: torch.nn.Module, card: Card, *, what: str, half: bool | None) -> bytes:
    """Return the file of a network, checked against the architecture of its card."""
    tensors = _to_store(model, half=half)
    check_fit(_forms(tensors), _forms(_skeleton(card).state_dict()), what=what, card=card)
    return _in_safetensors(tensors)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _skeleton(card: Card) -> torch.nn.Module:
    try:
        return create_skeleton(card.architecture, outputs=card.outputs)
    except UnknownModel as error:
        raise WeightsMismatch(
            f"card {card.id} names an architecture that this library does not have: {error}; "
            f"run: pip install --upgrade {LIBRARY}"
        ) from error


def _forms(tensors: Mapping[str, torch.Tensor]) -> dict[str, Form]:
    return {
        name: (tuple(tensor.shape), tensor.is_floating_point(), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in tensors.items()
    }


def _in_use(tensor: torch.Tensor) -> torch.Tensor:
    """Convert floats to float32, and kernels to channels last, as the engines use them."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    order = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
    return tensor.to(dtype, memory_format=order)


def _fits_half(model: torch.nn.Module) -> bool:
    """Say whether float16 holds every weight without loss."""
    values = (value for value in model.state_dict().values() if value.is_floating_point())
    return all(torch.equal(value, value.half().to(value.dtype)) for value in values)


def _to_store(model: torch.nn.Module, *, half: bool | None) -> dict[str, torch.Tensor]:
    half = _fits_half(model) if half is None else half
    stored, overflown = {}, []
    for key, tensor in model.state_dict().items():
        dtype = (torch.float16 if half else torch.float32) if tensor.is_floating_point() else tensor.dtype
        stored[key] = tensor.detach().to("cpu", dtype, copy=True).contiguous()
        if not tensor.isfinite().all():
            raise WeightsMismatch(f"{key} of the model is not finite, so its scores mean nothing; train it again")
        if not stored[key].isfinite().all():
            overflown.append(f"{key} (up to {tensor.abs().max():.4g})")
    if overflown:
        raise WeightsMismatch(f"float16 ends at 65504, too early for {some_of(overflown)}; save with half=False")
    return stored


def _in_safetensors(tensors: dict[str, torch.Tensor]) -> bytes:
    content: bytes = safetensors.torch.save(tensors, metadata={"format": "pt"})
    return content


def _write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # inside the folder, since only within one file system a rename is whole or not at all
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as stage:
            for name, content in files.items():
                Path(stage, name).write_bytes(content)
                flush_to_disk(Path(stage, name))
            put_in_place(Path(stage), folder)
    except OSError as error:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise OSError(
            error.errno, f"bundle not saved ({error.strerror}); free some space or choose another folder", str(folder)
        ) from error
