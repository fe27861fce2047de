"""How is a bundle written again when nothing of it but the head has changed?"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch

from deepfake_detect.models.head import head_of
from deepfake_detect.weights.bundle import places_in
from deepfake_detect.weights.card import CARD_FILE, WEIGHTS_FILE, Card
from deepfake_detect.weights.load import save_bundle


class HeadBundle:
    """The bundle of a network whose head alone learns; the folder holds a whole one after each writing.

    The first writing is that of `save_bundle`. The next ones copy its weights as they lie, put in the head, and go on
    with the sha256 from where the head begins, so that the backbone is neither gathered, checked nor hashed again. As
    in `save_bundle`, both files are on the disk before either takes its place.

    Args:
        model: The whole network, whose backbone stays as it is.
        card: Of the bundle.
        folder: Of the bundle.
    """

    def __init__(self, model: torch.nn.Module, card: Card, folder: Path) -> None:
        self.model, self.card, self.folder = model, card, folder
        self._written: tuple[int, ...] | None = None  # what tells the file from one that somebody else has put there
        self._places: dict[str, tuple[int, int]] = {}  # of the head's tensors in the file
        self._begin, self._backbone = 0, hashlib.sha256()  # where the head begins, and what lies before it

    def write(self, head: Mapping[str, torch.Tensor]) -> None:
        """Let the bundle hold this head.

        Args:
            head: Its state, by the names that it has within the head.

        Raises:
            WeightsMismatch: As for `save_bundle`.
            OSError: The folder cannot be written, or the disk is full; the bundle stays as it was.
        """
        if self._written is None or self._written != _mark(self.folder / WEIGHTS_FILE) or not _is_finite(head):
            self._write_whole(head)
        else:
            self._write_head(head)
        self._written = _mark(self.folder / WEIGHTS_FILE)

    def _write_whole(self, head: Mapping[str, torch.Tensor]) -> None:
        whole = copy.deepcopy(self.model)
        head_of(whole)[1].load_state_dict(head)
        self.card = save_bundle(whole, self.card, self.folder, half=False)

    def _write_head(self, head: Mapping[str, torch.Tensor]) -> None:
        name = head_of(self.model)[0]
        new = _bytes_of({f"{name}.{key}": value for key, value in head.items()})
        if not self._places:
            self._find(new)
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=self.folder) as stage:
            weights, card = Path(stage, WEIGHTS_FILE), Path(stage, CARD_FILE)
            shutil.copyfile(self.folder / WEIGHTS_FILE, weights)
            found = self._fill(weights, new)
            self.card = dataclasses.replace(self.card, sha256=found)
            card.write_bytes(self.card.to_json().encode())
            for file in (weights, card):
                _flush(file)
            for file in (weights, card):  # the weights first: until the card follows, its sha256 refuses them
                os.replace(file, self.folder / file.name)

    def _find(self, new: Mapping[str, bytes]) -> None:
        """Look where the head lies in the file, and take the sha256 of what lies before it."""
        content = memoryview((self.folder / WEIGHTS_FILE).read_bytes())
        places = places_in(content)
        self._places = {name: places[name][2:] for name in new}
        self._begin = min(begin for begin, _ in self._places.values())
        self._backbone = hashlib.sha256(content[: self._begin])

    def _fill(self, weights: Path, new: Mapping[str, bytes]) -> str:
        """Write the head into a copy of the weights, and give the sha256 of the whole."""
        with weights.open("rb+") as file:
            for name, content in new.items():
                file.seek(self._places[name][0])
                file.write(content)
            file.seek(self._begin)
            found = self._backbone.copy()
            found.update(file.read())
        return found.hexdigest()


def _mark(path: Path) -> tuple[int, ...] | None:
    """Tell one state of a file from another."""
    try:
        told = path.stat()
    except FileNotFoundError:
        return None
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns


def _is_finite(head: Mapping[str, torch.Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in head.values())


def _bytes_of(head: Mapping[str, torch.Tensor]) -> dict[str, bytes]:
    """Give what `save_bundle` would store of each tensor."""
    plain = {name: value.float() if value.is_floating_point() else value for name, value in head.items()}
    stored = safetensors.torch.save({name: value.cpu().contiguous() for name, value in plain.items()})
    return {name: stored[begin:end] for name, (_, _, begin, end) in places_in(stored).items()}


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
