"""Which weights does a name mean, and are these the bytes that their card promises?"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch.overrides import TorchFunctionMode

from deepfake_detect import __version__
from deepfake_detect.card import Card
from deepfake_detect.errors import (
    HubUnavailable,
    UnknownModel,
    UnknownWeights,
    WeightsCorrupted,
    WeightsMismatch,
    nearest,
)
from deepfake_detect.hub import CARD_FILE, LIBRARY, WEIGHTS_FILE, download_bundle
from deepfake_detect.models import create_model
from deepfake_detect.readme import model_card

__all__ = [
    "CONTENT", "PRETRAINED", "Bundle", "find_bundle", "list_packaged", "list_pretrained", "load_model", "model_card",
    "save_bundle",
]  # fmt: skip

PRETRAINED = Path(__file__).with_name("pretrained")
"""The bundles that come with the package: one folder ``name@version`` each."""

CONTENT = "content-classes"
"""The packaged network that tells what is on a picture."""

_ON_HUB = re.compile(r"(?P<repo_id>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>.+))?", re.ASCII)
_NAMED = 4  # of many keys, a message names so many


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Weights and their card, found but not loaded yet.

    Attributes:
        card: What the weights say of themselves.
        folder: Holds ``card.json`` and ``model.safetensors``.
        revision: Commit on the Hub; None for weights from the package or a folder.
    """

    card: Card
    folder: Path
    revision: str | None = None


def list_pretrained() -> list[str]:
    """List the detectors that come with the package as ``name@version``, the newest version of a name last.

    Other packaged networks, ``content-classes`` and the face finder, are no detectors and have their own doors.

    Example:
        >>> any(name.startswith("xception-fakefaces@") for name in list_pretrained())
        True
    """
    return [name for name in list_packaged() if not name.startswith(f"{CONTENT}@")]


def list_packaged() -> list[str]:
    """List every bundle that comes with the package, those that are no detectors too, as ``name@version``."""
    found = (path.parent.name for path in PRETRAINED.glob(f"*@*/{CARD_FILE}"))
    return sorted((name for name in found if name.rpartition("@")[2].isdecimal()), key=_name_and_version)


def find_bundle(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Bundle:
    """Find weights in the package, in a folder, or on the Hugging Face Hub, in this order.

    Args:
        name_or_path: ``name`` (the newest version), ``name@version``, a folder, ``owner/name`` or
            ``owner/name@revision``. A path object always means a folder.
        revision: Branch, tag or commit of a repository.
        cache_dir: Where downloads are kept, in place of the Hub's own cache.
        force_download: Fetch even what the cache holds.
        token: For private and gated repositories, in place of ``HF_TOKEN`` and of the saved one.
        local_files_only: Never ask the Hub.

    Raises:
        UnknownWeights: Nothing of that name is packaged, there is no such folder, and no such repository or revision.
        WeightsMismatch: The folder or repository is no bundle, or its card cannot be understood.
        HubUnavailable: The Hub cannot be reached, or refuses.

    Example:
        >>> find_bundle("xception-fakefaces").card.architecture
        'xception'
    """
    name = os.fspath(name_or_path)
    packaged = None if isinstance(name_or_path, os.PathLike) else _packaged(name)
    folder = packaged or Path(os.path.expanduser(name))
    if packaged or (name and os.path.exists(folder)):
        if revision is not None:
            raise UnknownWeights(
                f"{name!r} is {folder}, which has no revision {revision!r}; only repositories on the Hub have "
                "revisions: leave it out, or name packaged weights by version (name@version)"
            )
        return _read_bundle(folder)
    address = None if isinstance(name_or_path, os.PathLike) else _ON_HUB.fullmatch(name)
    if address is None:
        raise UnknownWeights(_nothing_called(name, folder, is_path=isinstance(name_or_path, os.PathLike)))
    if revision is not None and address["revision"] is not None:
        raise UnknownWeights(f"{name!r} was asked for at revision {revision!r} as well; give one of the two")
    try:
        folder, commit = download_bundle(
            address["repo_id"],
            revision=revision or address["revision"],
            cache_dir=cache_dir,
            force_download=force_download,
            token=token,
            local_files_only=local_files_only,
        )
    except (UnknownWeights, HubUnavailable) as error:
        raise type(error)(f"{error} (nor is there a folder {name!r} in {Path.cwd()})") from error
    return _read_bundle(folder, revision=commit)


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
        >>> load_model(find_bundle("xception-fakefaces")).training
        False
    """
    bundle = bundle_or_folder
    if not isinstance(bundle, Bundle):
        bundle = _read_bundle(Path(os.path.expanduser(bundle)))
    tensors = _read_tensors(bundle)
    with _Undrawn():  # to draw weights takes longer than to read them
        model = _untrained(bundle.card).float()
    _check_fit(tensors, model.state_dict(), what=str(bundle.folder / WEIGHTS_FILE), card=bundle.card)
    full = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    model.load_state_dict(full, assign=True)
    return model.eval()


def save_bundle(model: torch.nn.Module, card: Card, folder: str | os.PathLike[str], *, half: bool = True) -> Card:
    """Write a model and its card to a folder that ``find_bundle`` finds.

    Both files are written in full before either takes its place, so that a crash leaves nothing that loads by mistake.
    Other files in the folder stay.

    Args:
        model: What ``create_model(card.architecture)`` built, trained.
        card: Its sha256 and library version are filled in.
        folder: Made where it is missing.
        half: Store float16, which takes half the space and rounds weights to three digits; False stores float32.

    Returns:
        The card as written.

    Raises:
        WeightsMismatch: The model is not of the card's architecture, or some weight is infinite or no number, or
            becomes so in float16.
        OSError: The folder cannot be written, or the disk is full; nothing half-written stays behind.
    """
    tensors = _to_store(model, half=half)
    _check_fit(tensors, _untrained(card).state_dict(), what="the model", card=card)
    weights = safetensors.torch.save(tensors, metadata={"format": "pt"})
    card = dataclasses.replace(card, sha256=hashlib.sha256(weights).hexdigest(), library_version=__version__)
    _write_together(Path(os.path.expanduser(folder)), {WEIGHTS_FILE: weights, CARD_FILE: card.to_json().encode()})
    return card


class _Undrawn(TorchFunctionMode):
    """Leave new weights as the memory is, for something else to fill in."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        drawn = func in (torch.Tensor.normal_, torch.Tensor.uniform_)
        return args[0] if drawn else func(*args, **(kwargs or {}))


def _name_and_version(name: str) -> tuple[str, int]:
    alias, _, version = name.rpartition("@")
    return alias, int(version)


def _packaged(name: str) -> Path | None:
    versions = [known for known in list_packaged() if name in (known, known.rpartition("@")[0])]
    return PRETRAINED / versions[-1] if versions else None


def _nothing_called(name: str, folder: Path, *, is_path: bool) -> str:
    if is_path or name.startswith((".", "~")) or "/" in name or os.sep in name:
        expected = f"expected a folder that holds {CARD_FILE}, or a repository of the Hub as 'owner/name'"
        return f"no folder {str(folder)!r} (looked in {Path.cwd()}); {expected}"
    known = list_pretrained()
    if "@" not in name:
        known = sorted({packaged.rpartition("@")[0] for packaged in known})
    return f"no pretrained weights called {name!r}{nearest(name, known)} (a folder or 'owner/name' will also do)"


def _read_bundle(folder: Path, *, revision: str | None = None) -> Bundle:
    path = folder / CARD_FILE
    if not path.is_file():
        found = f"a folder without {CARD_FILE}" if folder.is_dir() else "a file" if folder.is_file() else "not there"
        raise WeightsMismatch(
            f"{folder} is {found}, expected a folder that holds {CARD_FILE} and {WEIGHTS_FILE}; "
            "Detector.save_pretrained(folder) writes one"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsCorrupted(f"{path} cannot be read ({error.strerror}); copy or download it again") from error
    return Bundle(card=Card.from_json(content, where=str(path)), folder=folder, revision=revision)


def _read_tensors(bundle: Bundle) -> dict[str, torch.Tensor]:
    path, expected = bundle.folder / WEIGHTS_FILE, bundle.card.sha256
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsCorrupted(f"{path} cannot be read ({error.strerror}); {_replacement(bundle)}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise WeightsCorrupted(
            f"{path} ({len(content):,} bytes) has sha256 {found}, its card expects {expected or 'none'}; "
            f"{_replacement(bundle)}"
        )
    try:
        tensors: dict[str, torch.Tensor] = safetensors.torch.load(content)
    except SafetensorError as error:
        raise WeightsCorrupted(f"{path} is no safetensors file ({error}); {_replacement(bundle)}") from error
    return tensors


def _replacement(bundle: Bundle) -> str:
    if bundle.revision is not None:
        return "download it again with force_download=True"
    if bundle.folder.parent == PRETRAINED:
        return f"run: pip install --force-reinstall {LIBRARY}"
    return "copy the folder again from where it came, or save it again"


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
