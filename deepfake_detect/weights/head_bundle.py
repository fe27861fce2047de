"""Write a bundle again of which only the head has changed."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from deepfake_detect.models.head import head_of
from deepfake_detect.system.atomic import flush_to_disk
from deepfake_detect.weights.card import CARD_FILE, WEIGHTS_FILE, Card
from deepfake_detect.weights.load import put_in_place, save_bundle

_LENGTH = 8  # bytes that give the length of the header


class HeadBundle:
    """The bundle of a network of which only the head is trained; the folder holds a whole one after each writing.

    The first writing is that of `save_bundle`. The next ones copy its file, replace the head, and continue the sha256
    from where the head begins, so that the backbone is neither collected, checked nor hashed again. As in
    `save_bundle`, the old or the new bundle loads at any moment.

    Args:
        model: The whole network, whose backbone stays as it is.
        card: Of the bundle.
        folder: Of the bundle.
    """

    def __init__(self, model: torch.nn.Module, card: Card, folder: Path) -> None:
        self.model, self.card, self.folder = model, card, folder
        self._written: tuple[int, ...] | None = None  # identifies the file that was written here
        self._places: dict[str, tuple[int, int]] = {}  # of the head's tensors in the file
        self._begin, self._backbone = 0, hashlib.sha256()  # where the head begins, and what lies before it

    def write(self, head: Mapping[str, torch.Tensor]) -> None:
        """Write the bundle with this head.

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
            digest = self._fill(weights, new)
            self.card = dataclasses.replace(self.card, sha256=digest)
            card.write_bytes(self.card.to_json().encode())
            for file in (weights, card):
                flush_to_disk(file)
            put_in_place(Path(stage), self.folder)

    def _find(self, new: Mapping[str, bytes]) -> None:
        """Find the bytes of the head in the file, and take the sha256 of what stands before it."""
        content = memoryview((self.folder / WEIGHTS_FILE).read_bytes())
        places = _places_in(content)
        self._places = {name: places[name] for name in new}
        self._begin = min(begin for begin, _ in self._places.values())
        self._backbone = hashlib.sha256(content[: self._begin])

    def _fill(self, weights: Path, new: Mapping[str, bytes]) -> str:
        """Write the head into a copy of the weights, and return the sha256 of the whole."""
        with weights.open("rb+") as file:
            for name, content in new.items():
                file.seek(self._places[name][0])
                file.write(content)
            file.seek(self._begin)
            digest = self._backbone.copy()
            digest.update(file.read())
        return digest.hexdigest()


def _mark(path: Path) -> tuple[int, ...] | None:
    """Identify the state of a file."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def _is_finite(head: Mapping[str, torch.Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in head.values())


def _bytes_of(head: Mapping[str, torch.Tensor]) -> dict[str, bytes]:
    """Give the bytes that `save_bundle` would store of each tensor."""
    plain = {name: value.float() if value.is_floating_point() else value for name, value in head.items()}
    stored = safetensors.torch.save({name: value.cpu().contiguous() for name, value in plain.items()})
    tensors = safetensors.deserialize(stored)  # type: ignore[no-untyped-call]
    return {name: bytes(tensor["data"]) for name, tensor in tensors}


def _places_in(content: memoryview) -> dict[str, tuple[int, int]]:
    """Give the first byte of each tensor and the one behind its last, in a file that `save_bundle` has written.

    Such a file begins with the length of its header in eight bytes, and the header in JSON; offsets count from behind
    it (https://huggingface.co/docs/safetensors).
    """
    start = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    header = json.loads(bytes(content[_LENGTH:start]))
    offsets = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: (start + begin, start + end) for name, (begin, end) in offsets.items()}
