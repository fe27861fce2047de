"""Which weights does a name mean, and are these the bytes that their card promises?"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepfake_detect.errors import HubUnavailable, UnknownWeights, WeightsCorrupted, WeightsMismatch, nearest
from deepfake_detect.weights.card import CARD_FILE, LIBRARY, WEIGHTS_FILE, Card

PRETRAINED = Path(__file__).parents[1] / "pretrained"
"""The bundles that come with the package: one folder ``name@version`` each."""

CONTENT = "content-classes"
"""The packaged network that tells what is on a picture."""

_LENGTH = 8  # bytes before the table of a safetensors file, which say how long it is
_TYPES = {"F16": np.float16, "F32": np.float32, "I64": np.int64}
_ON_HUB = re.compile(r"(?P<repo_id>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>.+))?", re.ASCII)


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
        return read_bundle(folder)
    address = None if isinstance(name_or_path, os.PathLike) else _ON_HUB.fullmatch(name)
    if address is None:
        raise UnknownWeights(_nothing_called(name, folder, is_path=isinstance(name_or_path, os.PathLike)))
    if revision is not None and address["revision"] is not None:
        raise UnknownWeights(f"{name!r} was asked for at revision {revision!r} as well; give one of the two")
    from deepfake_detect.weights.hub import download_bundle  # loads the Hub's client

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
    return read_bundle(folder, revision=commit)


def read_bundle(folder: Path, *, revision: str | None = None) -> Bundle:
    """Read the card of a folder.

    Args:
        folder: Holds ``card.json``.
        revision: Commit on the Hub that the folder was fetched from.

    Raises:
        WeightsMismatch: No bundle, or a card that cannot be understood.
        WeightsCorrupted: The card cannot be read.
    """
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


def read_weights(bundle: Bundle) -> memoryview:
    """Map the file of the weights into memory; it is read once, to be held against its sha256.

    Raises:
        WeightsCorrupted: It is missing or damaged: its sha256, which is taken at every load, is not the card's.
    """
    path, expected = bundle.folder / WEIGHTS_FILE, bundle.card.sha256
    try:
        with path.open("rb") as file:
            empty = os.fstat(file.fileno()).st_size == 0
            content = memoryview(b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    except OSError as error:
        raise WeightsCorrupted(f"{path} cannot be read ({error.strerror}); {replacement(bundle)}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise WeightsCorrupted(
            f"{path} ({len(content):,} bytes) has sha256 {found}, its card expects {expected or 'none'}; "
            f"{replacement(bundle)}"
        )
    return content


def tensors_in(content: memoryview) -> dict[str, np.ndarray]:
    """Give the tensors of a safetensors file where they lie, since a copy takes as long as to read it.

    The layout is that of https://huggingface.co/docs/safetensors: eight bytes for the length of a JSON header, the
    header, and the numbers.

    Args:
        content: Of the file.

    Raises:
        ValueError, KeyError: The layout is another, or there are numbers of a kind that `save_bundle` does not write.
    """
    return {
        name: np.frombuffer(content[begin:end], _TYPES[kind]).reshape(shape)
        for name, (kind, shape, begin, end) in places_in(content).items()
    }


def places_in(content: bytes | memoryview) -> dict[str, tuple[str, list[int], int, int]]:
    """Tell where in a safetensors file each tensor lies.

    Returns:
        Of each, the kind of its numbers, its shape, and its first byte and the one behind its last.

    Raises:
        ValueError, KeyError: The layout is another.
    """
    start = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    table = json.loads(bytes(content[_LENGTH:start]))
    table.pop("__metadata__", None)
    return {
        name: (told["dtype"], told["shape"], start + told["data_offsets"][0], start + told["data_offsets"][1])
        for name, told in table.items()
    }


def replacement(bundle: Bundle) -> str:
    """Say how to get whole weights in place of damaged ones."""
    if bundle.revision is not None:
        return "download it again with force_download=True"
    if bundle.folder.parent == PRETRAINED:
        return f"run: pip install --force-reinstall {LIBRARY}"
    return "copy the folder again from where it came, or save it again"


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
