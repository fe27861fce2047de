"""Find the bundle that a name stands for, and read its files as its card promises them."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any

from deepfake_detect._options import check_flag, check_type
from deepfake_detect.errors import HubUnavailable, UnknownWeights, WeightsCorrupted, WeightsMismatch, nearest
from deepfake_detect.weights.card import CARD_FILE, LIBRARY, TEXTURE_FILE, WEIGHTS_FILE, Card, texture_card
from deepfake_detect.weights.card_check import LARGEST_CARD

PRETRAINED = Path(__file__).parents[1] / "pretrained"
"""The bundles that come with the package: one folder ``name@version`` each."""

CONTENT = "content-classes"
"""The packaged network that classifies what a picture shows."""

WAITING = ".new"
"""Ending of new weights while their card is put in place; see `read_weights`."""

_ON_HUB = re.compile(r"(?P<repo_id>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>.+))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Weights and their card, found but not loaded yet.

    It can be pickled: packaged weights by name, others with their bytes, which are checked again when they are loaded.

    Attributes:
        card: How to use the weights.
        folder: Holds ``card.json`` and ``model.safetensors``.
        revision: Commit on the Hub; None for weights from the package or a folder.
        file: Name of the file of the weights.
        content: The bytes of the weights, where they came with a pickle and not from the folder.
    """

    card: Card
    folder: Path
    revision: str | None = None
    file: str = WEIGHTS_FILE
    content: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def path(self) -> Path:
        """File of the weights."""
        return self.folder / self.file

    @property
    def texture(self) -> Bundle | None:
        """The texture network of a detector with two looks, as a bundle of its own; None with one look."""
        if self.card.texture is None:
            return None
        return replace(self, card=texture_card(self.card), file=TEXTURE_FILE, content=None)

    @property
    def networks(self) -> tuple[Bundle, ...]:
        """The bundle itself and, where it has two looks, its texture network."""
        return (self,) if self.texture is None else (self, self.texture)

    def __copy__(self) -> Bundle:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Bundle:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder.parent == PRETRAINED:
            return _packaged_bundle, (self.card, self.folder.name, self.file)
        return _bundle_with_content, (self.card, str(self.folder), self.revision, self.file, read_weights(self))


def list_pretrained() -> list[str]:
    """List the detectors that come with the package as ``name@version``, the newest version of a name last.

    The other packaged networks, ``content-classes`` and the face finder, are not detectors: `classify_content` and
    `find_faces` use them.

    Example:
        >>> any(name.startswith("xception-fakefaces@") for name in list_pretrained())
        True
    """
    return [name for name in list_packaged() if not name.startswith(f"{CONTENT}@")]


def list_packaged() -> list[str]:
    """List every bundle that comes with the package, those that are not detectors too, as ``name@version``."""
    names = (path.parent.name for path in PRETRAINED.glob(f"*@*/{CARD_FILE}"))
    return sorted((name for name in names if name.rpartition("@")[2].isdecimal()), key=_name_and_version)


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
        InvalidOption: An option of the wrong type.
        UnknownWeights: Nothing of that name is packaged, there is no such folder, and no such repository or revision.
        WeightsMismatch: The folder or repository is not a bundle, or its card cannot be used.
        HubUnavailable: The Hub cannot be reached, or refuses the request.

    Example:
        >>> find_bundle("xception-fakefaces").card.architecture
        'xception'
    """
    check_type("name_or_path", name_or_path, (str, os.PathLike), expected="a name, a folder, or 'owner/name'")
    check_type("revision", revision, (str, NoneType), expected="a branch, tag or commit, or None")
    check_type("cache_dir", cache_dir, (str, os.PathLike, NoneType), expected="a folder, or None")
    check_type("token", token, (str, bool, NoneType), expected="an access token, True, False or None")
    check_flag("force_download", force_download)
    check_flag("local_files_only", local_files_only)
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
        raise UnknownWeights(f"{name!r} names a revision, and revision={revision!r} another; give one of the two")
    from deepfake_detect.weights.hub import download_bundle  # imports the Hub's client

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
        WeightsMismatch: Not a bundle, or a card that cannot be used.
        WeightsCorrupted: The card cannot be read.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        state = f"a folder without {CARD_FILE}" if folder.is_dir() else "a file" if folder.is_file() else "not there"
        raise WeightsMismatch(
            f"{folder} is {state}, expected a folder that holds {CARD_FILE} and {WEIGHTS_FILE}; "
            "Detector.save_pretrained(folder) writes one"
        )
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_CARD + 1)
    except OSError as error:
        raise WeightsCorrupted(f"{path} cannot be read ({error.strerror}); copy or download it again") from error
    return Bundle(card=Card.from_json(content, where=str(path)), folder=folder, revision=revision)


def read_weights(bundle: Bundle) -> bytes:
    """Read the file of the weights, and check it against the sha256 of the card.

    While a bundle is saved over another, the new card is in place for a moment before the new weights are, which then
    wait beside the old ones. They are found there too, also where the saving process was killed in that moment.

    Raises:
        WeightsCorrupted: It is missing or damaged: its sha256, which is taken at every load, is not the card's.
    """
    path = bundle.path
    try:
        content = _content(path) if bundle.content is None else bundle.content
    except OSError as error:
        content, problem = b"", f"{path} cannot be read ({error.strerror})"
    else:
        digest, expected = hashlib.sha256(content).hexdigest(), bundle.card.sha256
        if digest == expected:
            return content
        problem = f"{path} ({len(content):,} bytes) has sha256 {digest}, its card expects {expected or 'none'}"
    waiting = bundle.folder / f"{bundle.file}{WAITING}"
    if bundle.content is None and waiting.is_file():
        content = waiting.read_bytes()
        if hashlib.sha256(content).hexdigest() == bundle.card.sha256:
            return content
    raise WeightsCorrupted(f"{problem}; {replacement(bundle)}")


def _content(path: Path) -> bytes:
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe or a device, which may never end
        raise OSError(errno.EINVAL, "not a regular file")
    return path.read_bytes()


def replacement(bundle: Bundle) -> str:
    """Say how to replace damaged weights."""
    if bundle.revision is not None:
        return "download it again with force_download=True"
    if bundle.folder.parent == PRETRAINED:
        return f"run: pip install --force-reinstall {LIBRARY}"
    return "copy the folder again from where it came, or save it again"


def _packaged_bundle(card: Card, name: str, file: str) -> Bundle:
    return Bundle(card=card, folder=PRETRAINED / name, file=file)


def _bundle_with_content(card: Card, folder: str, revision: str | None, file: str, content: bytes) -> Bundle:
    return Bundle(card=card, folder=Path(folder), revision=revision, file=file, content=content)


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
