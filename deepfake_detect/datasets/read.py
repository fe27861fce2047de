"""Which pictures are there, and what do we know of each?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepfake_detect.datasets.adapters import hugging_face_rows, is_hugging_face, is_torch, torch_rows
from deepfake_detect.datasets.labels import read_labels
from deepfake_detect.datasets.tables import TABLE_SUFFIXES, read_table, table_in
from deepfake_detect.errors import DatasetError, ImageUnreadable
from deepfake_detect.inputs.frames import VIDEO_SUFFIXES, sample_frames
from deepfake_detect.inputs.image import PICTURE_SUFFIXES, Picture, name_image, open_image

FRAMES = 16
"""Pictures that stand for a video."""

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
"""What a split may be called, and what we call it."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One labelled picture: a reference, not its pixels.

    Attributes:
        image: Anything that `open_image` takes, a path as a rule; or what opens itself, such as a frame of a video.
        label: 1 is fake.
        source: The collection it comes from.
        generator: What made it: ``"camera"``, or a tool.
        group: Pictures of one group (a person, a video) never stand on two sides of a split.
        split: ``"train"``, ``"val"``, ``"test"``, or empty.
        note: Whatever else the data says.
    """

    image: Any
    label: int
    source: str = ""
    generator: str = ""
    group: str = ""
    split: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """Path or address of the picture, for messages."""
        return name_image(self.image)

    def open_picture(self, *, min_side_px: int | None = None) -> Picture:
        """Read the pixels.

        Args:
            min_side_px: As for `open_image`.

        Raises:
            ImageUnreadable: Not a picture.
            ImageTooLarge: More pixels than the limit.
        """
        return open_image(self.image, min_side_px=min_side_px)


def read_dataset(
    dataset: Any, *, labels: Mapping[Any, str] | None = None, splits: Sequence[str] = (), frames: int = FRAMES
) -> list[Sample]:
    """List the labelled pictures of a data set, whatever it is given as; none is decoded.

    =======================  ==============================================================================
    Given                    Read as
    =======================  ==============================================================================
    folder with a table      its ``manifest.csv``, ``labels.csv``, ``metadata.csv``, ``.jsonl`` or ``.json``
    folder of class folders  ``real/``, ``fake/`` and their synonyms at any depth; folders called ``train``,
                             ``val`` or ``test`` are splits, the other ones name the source
    CSV, TSV, JSONL          columns ``file,label``, and where they are there, ``source``, ``generator``,
                             ``group``, ``split``, ``note``; files are relative to the table
    ``metadata.json``        as of the DFDC: the original video is the group
    list                     of ``(image, label)`` or ``(image, label, group)``; or of samples
    torch ``Dataset``        map-style; labels by the names in ``classes``, else 0 and 1, where 1 is fake
    Hugging Face             ``Dataset`` or ``DatasetDict``; the first column of type ``Image``, and ``label``
    =======================  ==============================================================================

    A video among the files stands for evenly spaced frames, which are one group. Rows without a label are left out.

    Args:
        dataset: See above.
        labels: What labels mean that are not known: ``{"mine": "fake"}``; see `read_labels`.
        splits: Keep these only; everything where empty.
        frames: For each video.

    Returns:
        The samples, in order.

    Raises:
        DatasetError: Nothing there, or a label that cannot be told; the names found are shown.

    Example:
        >>> [(sample.name, sample.label) for sample in read_dataset([("a.jpg", "real"), ("b.jpg", "ai")])]
        [('a.jpg', 0), ('b.jpg', 1)]
    """
    samples = list(_samples(dataset, labels, frames))
    if not samples:
        raise DatasetError(f"no labelled pictures in {_describe(dataset)}; expected {_EXPECTED}")
    wanted = {SPLITS.get(split, split) for split in splits}
    return [sample for sample in samples if not wanted or sample.split in wanted]


_EXPECTED = (
    "a folder of class folders, a CSV or JSONL with file,label, a list of (image, label), "
    "or a Dataset of torch or Hugging Face"
)


def _samples(dataset: Any, labels: Mapping[Any, str] | None, frames: int) -> Iterable[Sample]:
    if isinstance(dataset, list | tuple) and dataset and all(isinstance(item, Sample) for item in dataset):
        return dataset
    if isinstance(dataset, Mapping):  # DatasetDict: a data set for each split
        parts = ((name, _samples(part, labels, frames)) for name, part in dataset.items())
        return (replace(sample, split=_split(str(name))) for name, part in parts for sample in part)
    return _labelled(list(_rows(dataset, labels)), labels, _describe(dataset), frames)


def _rows(dataset: Any, labels: Mapping[Any, str] | None) -> Iterable[Row]:
    if isinstance(dataset, str | os.PathLike):
        return _path_rows(Path(dataset).expanduser(), labels)
    if is_hugging_face(dataset):
        return hugging_face_rows(dataset)
    if isinstance(dataset, list | tuple):
        return (_pair(item, index) for index, item in enumerate(dataset))
    if is_torch(dataset):
        return torch_rows(dataset)
    raise DatasetError(f"a {type(dataset).__name__} is no data set; expected {_EXPECTED}")


def _path_rows(path: Path, labels: Mapping[Any, str] | None) -> Iterable[Row]:
    table = table_in(path) if path.is_dir() else path
    if table is None:
        return _folder_rows(path, labels)
    if not path.exists():
        raise DatasetError(f"no data set at {path}; expected {_EXPECTED}")
    if table.suffix.lower() not in TABLE_SUFFIXES:
        raise DatasetError(f"{table} is no table of pictures; expected {_EXPECTED}")
    rows = [{"image": row.pop("file"), **row} for row in read_table(table)]
    named = [row for row in rows if row["label"] not in (None, "")]
    if named and not any(os.path.exists(row["image"]) for row in named[:100]):
        raise DatasetError(
            f"{table} names files that are not there, such as {named[0]['image']}; they are relative to it"
        )
    return rows


def _folder_rows(folder: Path, labels: Mapping[Any, str] | None) -> Iterator[Row]:
    """Walk the class folders; the outermost folder whose name is a label is the class."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        parts = Path(parent).relative_to(folder).parts
        pictures = [name for name in sorted(files) if _is_picture(name)]
        if pictures and not parts:
            raise DatasetError(f"{folder} holds {pictures[0]} outside any class folder; expected real/ and fake/ in it")
        split = next((SPLITS[part.lower()] for part in parts if part.lower() in SPLITS), "")
        rest = [part for part in parts if part.lower() not in SPLITS]
        label = next((part for part in rest if _is_label(part, labels)), rest[0] if rest else "")
        source = "/".join(part for part in rest if part != label)
        for name in pictures:
            yield {"image": Path(parent, name), "label": label, "split": split, "source": source}


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES


def _is_label(name: str, labels: Mapping[Any, str] | None) -> bool:
    try:
        read_labels([name], labels=labels)
    except DatasetError:
        return False
    return True


def _pair(item: Any, index: int) -> Row:
    if not (isinstance(item, tuple | list) and len(item) in (2, 3)):
        raise DatasetError(f"item {index} of the list is a {type(item).__name__}, expected (image, label[, group])")
    return {"image": item[0], "label": item[1], **({"group": str(item[2])} if len(item) == 3 else {})}


def _labelled(rows: list[Row], labels: Mapping[Any, str] | None, where: str, frames: int) -> Iterator[Sample]:
    rows = [row for row in rows if row["label"] is not None and row["label"] != ""]
    known = read_labels((row["label"] for row in rows), labels=labels, where=where)
    for row in rows:
        told = {**row, "label": known[row["label"]], "split": _split(row.get("split", ""))}
        image = told.pop("image")
        if isinstance(image, str | os.PathLike) and Path(image).suffix.lower() in VIDEO_SUFFIXES:
            group = told.pop("group", "") or str(image)
            yield from (Sample(image=frame, group=group, **told) for frame in _frames(image, frames))
        else:
            yield Sample(image=image, **told)


def _frames(video: str | os.PathLike[str], count: int) -> Sequence[Any]:
    try:
        return sample_frames(video, count=count)
    except ImageUnreadable:
        return [video]  # told by name when it is opened, like any unreadable picture


def _split(name: str) -> str:
    return SPLITS.get(name.lower(), name.lower())


def _describe(dataset: Any) -> str:
    return str(dataset) if isinstance(dataset, str | os.PathLike) else f"the {type(dataset).__name__}"
