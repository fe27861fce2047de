"""Walk class folders, and find the class, split and source of every picture in them."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepfake_detect.datasets.labels import SPLITS, find_label, is_plain_name
from deepfake_detect.datasets.tables import TABLE_SUFFIXES
from deepfake_detect.errors import DatasetError
from deepfake_detect.inputs.frames import VIDEO_SUFFIXES
from deepfake_detect.inputs.image import PICTURE_SUFFIXES

logger = logging.getLogger("deepfake_detect")

Row = dict[str, Any]


def folder_rows(folder: Path, *, labels: Mapping[Any, str] | None = None) -> Iterator[Row]:
    """Yield a row for each picture in class folders at any depth.

    Of several folders on the way to a picture that sound like a class, the innermost one counts, and "real" and "fake"
    more than synonyms: ``deepfake/0_real/a.jpg`` is real, ``fake/photos/a.jpg`` beside ``real/photos`` is fake.

    Args:
        folder: Hidden files and folders in it are left aside.
        labels: Meaning of unknown names, as for `read_label`.

    Raises:
        DatasetError: A picture stands outside any class folder, two folders contradict each other about the class of
            a picture, or one file stands in two classes by links.
    """
    walk = _Walk(folder)
    parents = list(walk.folders())
    names = _Names(labels=labels)
    for parent, _ in parents:
        names.add(_class_parts(parent.relative_to(folder)))
    for link, target in walk.repeated:
        meanings = {names.class_of(path.relative_to(folder)) for path in (link, target)}
        if meanings == {0, 1}:
            raise DatasetError(_twice(target, link))
    for parent, pictures in parents:
        parts = parent.relative_to(folder).parts
        if pictures and not parts:
            raise DatasetError(_outside(folder, pictures[0]))
        split = _split_of(parts)
        rest = _class_parts(Path(*parts))
        place = names.class_place(rest, parent)
        label = rest[place] if rest else ""
        source = "/".join(part for index, part in enumerate(rest) if index != place)
        for name in pictures:
            if walk.is_new(parent / name, names.meaning(label)):
                yield {"image": parent / name, "label": label, "split": split, "source": source}
    walk.warn()


def class_folder_rows(folder: Path) -> Iterator[Row]:
    """Yield a row for each picture in class folders of any names: the first folder below those of splits is its class.

    Args:
        folder: Hidden files and folders in it are left aside.

    Raises:
        DatasetError: A picture stands outside any class folder, or one file stands in two classes by links.
    """
    walk = _Walk(folder)
    for parent, pictures in list(walk.folders()):
        parts = parent.relative_to(folder).parts
        classes = _class_parts(Path(*parts))
        if pictures and not classes:
            raise DatasetError(_outside(parent, pictures[0], expected="a folder for each class"))
        for name in pictures:
            if walk.is_new(parent / name, classes[0]):
                source = "/".join(classes[1:])
                yield {"image": parent / name, "label": classes[0], "split": _split_of(parts), "source": source}
    walk.warn()


@dataclass
class _Walk:
    """A walk through a folder that enters each folder once, whatever links lead to it."""

    root: Path
    entered: dict[str, Path] = field(default_factory=dict)
    repeated: list[tuple[Path, Path]] = field(default_factory=list)
    files: dict[object, tuple[Path, object]] = field(default_factory=dict)

    def folders(self) -> Iterator[tuple[Path, list[str]]]:
        """Yield each folder with its pictures, in order; what links lead to comes after the rest."""
        links, walked = [self.root], []
        while links:
            walked += list(self._below(links.pop(0), links))
        yield from sorted(walked)

    def is_new(self, path: Path, meaning: object) -> bool:
        """Return whether a file was not yet listed under another name."""
        first, first_meaning = self.files.setdefault(_identity(path), (path, meaning))
        if first != path and first_meaning != meaning:
            raise DatasetError(_twice(first, path))
        if first != path:
            self.repeated.append((path, first))
        return first == path

    def warn(self) -> None:
        """Log what links lead to a second time."""
        if self.repeated:
            logger.warning(
                "%d link(s) in %s lead to what is read already, such as %s; nothing is read twice",
                len(self.repeated), self.root, self.repeated[0][0],
            )  # fmt: skip

    def _below(self, folder: Path, links: list[Path]) -> Iterator[tuple[Path, list[str]]]:
        real = os.path.realpath(folder)
        encloses = folder != self.root and _is_inside(os.path.realpath(self.root), real)
        if real in self.entered or encloses:
            self.repeated.append((folder, self.entered.get(real, self.root)))
            return
        self.entered[real] = folder
        pictures = []
        for entry in self._entries(folder):
            if entry.name.startswith("."):
                continue
            if _is_folder(entry) and entry.is_symlink():
                links.append(Path(entry.path))
            elif _is_folder(entry):
                yield from self._below(Path(entry.path), links)
            elif Path(entry.name).suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES:
                pictures.append(entry.name)
        yield folder, sorted(pictures)

    @staticmethod
    def _entries(folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise DatasetError(
                f"{folder} cannot be listed ({error.strerror}); make it readable, or move it away"
            ) from error


@dataclass
class _Names:
    """The names of folders below each folder and at each depth, and which of them are classes."""

    labels: Mapping[Any, str] | None
    below: dict[tuple[str, ...], set[str]] = field(default_factory=lambda: defaultdict(set))
    at_depth: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    known: dict[str, int | None] = field(default_factory=dict)

    def add(self, parts: tuple[str, ...]) -> None:
        """Note the folders on the way to some pictures."""
        for depth, name in enumerate(parts):
            self.below[parts[:depth]].add(name)
            self.at_depth[depth].add(name)

    def meaning(self, name: str) -> int | None:
        """Return 0 or 1 where a name is a class, else None."""
        if name not in self.known:
            self.known[name] = find_label(name, labels=self.labels)
        return self.known[name]

    def class_of(self, path: Path) -> int | None:
        """Return the class of the pictures in a folder, None where no part of its path is one."""
        parts = _class_parts(path)
        return self.meaning(parts[self.class_place(parts, path)]) if parts else None

    def class_place(self, parts: tuple[str, ...], parent: Path) -> int:
        """Return which of the folders on the way to a picture is its class; the innermost where none sounds so."""
        candidates = [place for place in range(len(parts)) if self._may_be_class(parts, place)]
        if not candidates:
            return len(parts) - 1
        plain = [place for place in candidates if is_plain_name(parts[place])]
        if len({self.meaning(parts[place]) for place in candidates}) == 1:
            return plain[-1] if plain else candidates[0]
        if not plain:  # synonyms only: the innermost level that holds both classes
            both = [place for place in candidates if self._both(self.at_depth[place])]
            if not both:
                raise DatasetError(_contradiction(parent, parts[candidates[0]], parts[candidates[-1]]))
            return both[-1]
        inner = [place for place in candidates if place > plain[-1] and self._both(self.below[parts[:place]])]
        if not inner:
            return plain[-1]
        if self._both({name for name in self.below[parts[: plain[-1]]] if is_plain_name(name)}):
            raise DatasetError(_contradiction(parent, parts[plain[-1]], parts[inner[-1]]))
        return inner[-1]

    def _may_be_class(self, parts: tuple[str, ...], place: int) -> bool:
        """Return whether a folder sounds like a class; a number does only beside numbers, and below no plain name."""
        if self.meaning(parts[place]) is None:
            return False
        numbers_only = all(name.isdecimal() and self.meaning(name) is not None for name in self.below[parts[:place]])
        return not parts[place].isdecimal() or (numbers_only and not any(map(is_plain_name, parts)))

    def _both(self, names: Iterable[str]) -> bool:
        return {self.meaning(name) for name in names} >= {0, 1}


def _class_parts(path: Path) -> tuple[str, ...]:
    return tuple(part for part in path.parts if part.lower() not in SPLITS)


def _split_of(parts: tuple[str, ...]) -> str:
    return next((SPLITS[part.lower()] for part in parts if part.lower() in SPLITS), "")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _identity(path: Path) -> object:
    """Return what two names of one file have in common, whether by a symbolic or a hard link."""
    try:
        status = os.stat(path)
    except OSError:  # named when it is opened
        return os.path.abspath(path)
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def _is_inside(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


def _contradiction(parent: Path, outer: str, inner: str) -> str:
    return (
        f"{parent}: {outer!r} and {inner!r} contradict each other about the class of its pictures; "
        "rename one of the folders, or give a table with file,label"
    )


def _twice(first: Path, second: Path) -> str:
    return f"{first} and {second} are the same by a link, in two classes; remove one of them"


def _outside(folder: Path, picture: str, *, expected: str = "real/ and fake/") -> str:
    tables = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
    advice = f"; to read the table {tables[0]} in it, pass {folder / tables[0]}" if tables else ""
    return f"{folder} holds {picture} outside any class folder, expected {expected} in it{advice}"
