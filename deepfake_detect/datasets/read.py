"""List the labelled pictures of a data set: a folder, a table, a frame, a list, or a data set of another library."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepfake_detect.datasets.adapters import (
    hugging_face_rows,
    hugging_face_stream_rows,
    is_hugging_face,
    is_hugging_face_stream,
    is_torch,
    torch_rows,
)
from deepfake_detect.datasets.folders import class_folder_rows, folder_rows
from deepfake_detect.datasets.labels import SPLITS, class_name, number_classes, plain_label, read_labels
from deepfake_detect.datasets.tables import TABLE_SUFFIXES, frame_rows, is_frame, read_table, table_in
from deepfake_detect.errors import DatasetError, ImageUnreadable
from deepfake_detect.inputs.frames import VIDEO_SUFFIXES, sample_frames
from deepfake_detect.inputs.image import Picture, name_image, open_image

logger = logging.getLogger("deepfake_detect")

FRAMES = 16
"""Frames that stand for a video."""

__all__ = ["FRAMES", "SPLITS", "Sample", "note_tags", "read_classes", "read_dataset"]

Row = dict[str, Any]

FolderReader = Callable[[Path], Iterable[Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A labelled picture: a reference, not its pixels.

    Attributes:
        image: A path as a rule, or anything else that `open_image` takes, such as a frame of a video.
        label: 1 is fake; or the number of the class, where there are other classes than real and fake.
        source: The collection it comes from.
        generator: What made it: ``"camera"`` or a tool.
        group: Pictures of one group (a person, a video) always go into the same split.
        split: ``"train"``, ``"val"``, ``"test"``, or empty.
        note: Any other remark.
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
        """Path or URL of the picture, for messages."""
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
    """List the labelled pictures of a data set without decoding them.

    =======================  ==============================================================================
    Given                    Read as
    =======================  ==============================================================================
    folder with a table      its ``manifest.csv``, ``labels.csv``, ``metadata.csv``, ``.jsonl`` or ``.json``
    folder of class folders  ``real/``, ``fake/`` and their synonyms at any depth, the innermost counts; folders
                             called ``train``, ``val`` or ``test`` are splits, the other ones name the source
    CSV, TSV, JSONL, JSON,   columns ``file,label``, and where they are there, ``source``, ``generator``,
    Parquet                  ``group``, ``split``, ``note``; files are relative to the table
    ``metadata.json``        as of the DFDC: the original video is the group
    pandas, polars           a frame with the columns of a table; files are relative to the working folder
    list                     of ``(image, label)`` or ``(image, label, group)``; or of samples
    torch ``Dataset``        map-style; labels by the names in ``classes``, else 0 and 1, where 1 is fake
    Hugging Face             ``Dataset``, streamed or not, or a dict of splits; the first column of type ``Image``,
                             and ``label``
    =======================  ==============================================================================

    A video among the files stands for evenly spaced frames, which are one group. Rows without a label are left out.
    Links to files and folders are followed, but not to a folder that is being read already. Labels may be names, 0 and
    1, bools (True is fake) or one-hot pairs.

    Args:
        dataset: See above.
        labels: Meaning of unknown labels: ``{"mine": "fake"}``; see `read_labels`.
        splits: Keep these splits only; everything where empty.
        frames: Frames of each video.

    Returns:
        The samples, in order.

    Raises:
        DatasetError: There are no pictures, or labels are unknown; the names are shown.

    Example:
        >>> [(sample.name, sample.label) for sample in read_dataset([("a.jpg", "real"), ("b.jpg", "ai")])]
        [('a.jpg', 0), ('b.jpg', 1)]
    """
    if _is_samples(dataset):
        samples = list(dataset)
    else:
        rows = _all_rows(dataset, functools.partial(folder_rows, labels=labels))
        meaning = functools.partial(read_labels, labels=labels, where=_describe(dataset))
        samples = list(_labelled(rows, meaning, _describe(dataset), frames))
    return _of_splits(samples, splits, dataset)


def note_tags(note: str) -> dict[str, str]:
    """Return the entries ``key=value;key=value`` of a note, such as the difficulty.

    Example:
        >>> note_tags("difficulty=hard; seen twice")
        {'difficulty': 'hard'}
    """
    pairs = (entry.partition("=") for entry in note.split(";"))
    return {key.strip(): value.strip() for key, equals, value in pairs if equals and value.strip()}


def read_classes(
    dataset: Any, *, classes: Sequence[str] | None = None, splits: Sequence[str] = (), frames: int = FRAMES
) -> tuple[list[Sample], tuple[str, ...]]:
    """List the pictures of a data set with classes of its own, such as cats and dogs, without decoding them.

    In a folder the first folders count, as for ``ImageFolder``, below those of splits: ``train/cat/a.jpg`` is a cat;
    the folders below name the source. A class is called what its folder or label is called; numbers are names, too.

    Args:
        dataset: As for `read_dataset`.
        classes: Names of the classes in order, as on a card; others are refused. None takes those of the data: sorted,
            numbers by their size.
        splits: As for `read_dataset`.
        frames: As for `read_dataset`.

    Returns:
        The samples, each with the number of its class; and the names of the classes.

    Raises:
        DatasetError: There are no pictures, a class is unknown, or there is only one.

    Example:
        >>> samples, classes = read_classes([("a.jpg", "dog"), ("b.jpg", "cat")])
        >>> classes, [sample.label for sample in samples]
        (('cat', 'dog'), [1, 0])
    """
    where = _describe(dataset)
    if _is_samples(dataset):
        if classes is None:
            raise DatasetError("samples hold numbers of classes, not their names; give classes=, in order")
        return _of_splits(dataset, splits, dataset), tuple(classes)
    rows = _all_rows(dataset, class_folder_rows)
    names = {class_name(row["label"]) for row in rows} - {""}
    number = number_classes(names, classes=classes, where=where)

    def read(labels: Iterable[Any]) -> dict[Any, int]:
        return {label: number[class_name(label)] for label in labels}

    samples = list(_labelled(rows, read, where, frames))
    return _of_splits(samples, splits, dataset), tuple(number)


_EXPECTED = (
    "a folder of class folders, a CSV or JSONL with file,label, a list of (image, label), "
    "a frame of pandas or polars, or a Dataset of torch or Hugging Face"
)


def _is_samples(dataset: Any) -> bool:
    return isinstance(dataset, list | tuple) and bool(dataset) and all(isinstance(item, Sample) for item in dataset)


def _of_splits(samples: Sequence[Sample], splits: Sequence[str], dataset: Any) -> list[Sample]:
    if not samples:
        raise DatasetError(f"no labelled pictures in {_describe(dataset)}; expected {_EXPECTED}")
    wanted = {SPLITS.get(split, split) for split in splits}
    return [sample for sample in samples if not wanted or sample.split in wanted]


def _all_rows(dataset: Any, read_folder: FolderReader) -> list[Row]:
    if isinstance(dataset, Mapping):  # DatasetDict: a data set for each split
        parts = ((str(name), _rows(part, read_folder)) for name, part in dataset.items())
        return [{**row, "split": name} for name, part in parts for row in part]
    return list(_rows(dataset, read_folder))


def _rows(dataset: Any, read_folder: FolderReader) -> Iterable[Row]:
    if isinstance(dataset, str | os.PathLike):
        return _path_rows(Path(dataset).expanduser(), read_folder)
    if isinstance(dataset, list | tuple):
        return (_pair(item, index) for index, item in enumerate(dataset))
    if is_frame(dataset):
        return ({"image": row.pop("file"), **row} for row in frame_rows(dataset))
    if is_hugging_face(dataset):
        return hugging_face_rows(dataset)
    if is_hugging_face_stream(dataset):
        return hugging_face_stream_rows(dataset)
    if is_torch(dataset):
        return torch_rows(dataset)
    advice = ""
    if hasattr(dataset, "batch_sampler"):
        advice = "; pass the loader's .dataset, since its batches are prepared for another model"
    elif hasattr(dataset, "__iter__"):
        advice = "; it can be read only once and in order: pass list(...) of it, if it has an end"
    raise DatasetError(f"a {type(dataset).__name__} is no data set, expected {_EXPECTED}{advice}")


def _path_rows(path: Path, read_folder: FolderReader) -> Iterable[Row]:
    table = table_in(path) if path.is_dir() else path
    if table is None:
        return read_folder(path)
    if not path.exists():
        raise DatasetError(f"no data set at {path}; expected {_EXPECTED}")
    if table.suffix.lower() not in TABLE_SUFFIXES:
        raise DatasetError(f"{table} is no table of pictures; expected {_EXPECTED}")
    rows = [{"image": row.pop("file"), **row} for row in read_table(table)]
    files = [row["image"] for row in rows if row["label"] not in (None, "") and isinstance(row["image"], Path)]
    if files and not any(file.exists() for file in files[:100]):
        raise DatasetError(f"{table} names files that are not there, such as {files[0]}; they are relative to it")
    return rows


def _pair(item: Any, index: int) -> Row:
    if not (isinstance(item, tuple | list) and len(item) in (2, 3)):
        raise DatasetError(f"item {index} of the list is a {type(item).__name__}, expected (image, label[, group])")
    group = {"group": str(item[2])} if len(item) == 3 else {}
    return {"image": item[0], "label": plain_label(item[1]), **group}


def _labelled(
    rows: list[Row], read: Callable[[Iterable[Any]], Mapping[Any, int]], where: str, frames: int
) -> Iterator[Sample]:
    labelled = [row for row in rows if row["label"] is not None and row["label"] != ""]
    if len(labelled) < len(rows):
        logger.info("%d of %d rows of %s have no label and are left out", len(rows) - len(labelled), len(rows), where)
    meaning = read([row["label"] for row in labelled])
    for row in labelled:
        fields = {**row, "label": meaning[row["label"]], "split": _split(row.get("split", ""))}
        image = fields.pop("image")
        if isinstance(image, str | os.PathLike) and Path(image).suffix.lower() in VIDEO_SUFFIXES:
            group = fields.pop("group", "") or str(image)
            yield from (Sample(image=frame, group=group, **fields) for frame in _frames(image, frames))
        else:
            yield Sample(image=image, **fields)


def _frames(video: str | os.PathLike[str], count: int) -> Sequence[Any]:
    try:
        return sample_frames(video, count=count)
    except ImageUnreadable:
        return [video]  # named when it is opened, like any unreadable picture


def _split(name: str) -> str:
    return SPLITS.get(name.lower(), name.lower())


def _describe(dataset: Any) -> str:
    return str(dataset) if isinstance(dataset, str | os.PathLike) else f"the {type(dataset).__name__}"
