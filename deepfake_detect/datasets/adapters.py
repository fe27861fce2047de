"""What do the data sets of torch and of Hugging Face hold, without decoding it all?"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deepfake_detect.datasets.tables import COLUMNS
from deepfake_detect.errors import DatasetError, ImageUnreadable
from deepfake_detect.inputs.image import Picture, open_image

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A picture inside a data set, opened when it is asked for.

    Attributes:
        dataset: Where it is.
        index: Its place there.
        column: Of a Hugging Face data set; None for torch's, whose items are pairs of picture and label.
        name: For messages.
    """

    dataset: Any
    index: int
    column: str | None
    name: str

    def open_picture(self) -> Picture:
        """Decode it.

        Raises:
            ImageUnreadable: Not a picture.
        """
        try:
            item = self.dataset[self.index]
            image = item[0] if self.column is None else item[self.column]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise ImageUnreadable(
                f"{self.name}: the data set gives no picture ({error}); leave the item out"
            ) from error
        return open_image(image)


def is_hugging_face(dataset: Any) -> bool:
    """Say whether this is a Hugging Face ``Dataset``."""
    return hasattr(dataset, "features") and hasattr(dataset, "column_names") and hasattr(dataset, "__getitem__")


def is_torch(dataset: Any) -> bool:
    """Say whether this is a map-style torch ``Dataset``, or anything that has a length and gives items by number."""
    return hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")


def hugging_face_rows(dataset: Any) -> Iterator[Row]:
    """Give a row for each item of a Hugging Face data set; labels are read from their column, pictures are not.

    Raises:
        DatasetError: No column of pictures, or none of labels.
    """
    kinds = {name: type(kind).__name__ for name, kind in dataset.features.items()}
    image = next((name for name, kind in kinds.items() if kind == "Image"), None)
    label = next((name for name in ("label", "labels", "class", "target") if name in kinds), None)
    if image is None or label is None:
        raise DatasetError(f"the data set has the columns {kinds}, expected one of type Image and one called 'label'")
    values = _column(dataset, label)
    names = getattr(dataset.features[label], "names", None)
    others = {name: _column(dataset, name) for name in COLUMNS if name in kinds}
    for index, value in enumerate(values):
        told = {name: str(column[index] or "") for name, column in others.items()}
        item = Item(dataset, index, image, f"{image} {index}")
        yield {"image": item, "label": _named(value, names), **told}


def torch_rows(dataset: Any) -> Iterator[Row]:
    """Give a row for each item of a torch data set.

    Labels come from ``samples`` (with paths, as of ``ImageFolder``) or ``targets`` where there are such; otherwise
    every item is opened once for its label, one after the other. A ``Subset`` or ``ConcatDataset`` has no names for its
    classes, so what it is made of is asked: an ``ImageFolder`` of ``fake`` and ``real`` calls fake 0.
    """
    return (_torch_row(dataset, index, f"item {index}") for index in range(len(dataset)))


def _torch_row(dataset: Any, index: int, name: str) -> Row:
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):  # Subset, as of random_split
        return _torch_row(dataset.dataset, int(dataset.indices[index]), name)
    if hasattr(dataset, "datasets") and hasattr(dataset, "cumulative_sizes"):  # ConcatDataset
        part = bisect_right(dataset.cumulative_sizes, index)
        return _torch_row(dataset.datasets[part], index - ([0, *dataset.cumulative_sizes][part]), name)
    classes = getattr(dataset, "classes", None)
    samples = getattr(dataset, "samples", None)
    if samples and len(samples) == len(dataset) and isinstance(samples[0], tuple):
        path, label = samples[index]
        return {"image": path, "label": _named(label, classes)}
    targets: Any = getattr(dataset, "targets", None)
    known = targets is not None and len(targets) == len(dataset)
    label = targets[index] if known else _second(dataset, index)
    return {"image": Item(dataset, index, None, name), "label": _named(label, classes)}


def _named(label: Any, classes: Any) -> Any:
    """Give the name of a class where there are names; a number below 0 stands for no label."""
    if not classes or label is None or isinstance(label, str):
        return getattr(label, "item", lambda: label)()  # of numpy and torch
    return classes[int(label)] if int(label) >= 0 else None


def _column(dataset: Any, name: str) -> Any:
    return list((dataset.select_columns([name]) if hasattr(dataset, "select_columns") else dataset)[name])


def _second(dataset: Any, index: int) -> Any:
    item = dataset[index]
    if not (isinstance(item, tuple | list) and len(item) >= 2):
        raise DatasetError(f"item {index} of the data set is a {type(item).__name__}, expected (image, label)")
    return item[1]
