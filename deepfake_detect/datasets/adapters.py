"""Read data sets of torch and of Hugging Face, without decoding pictures before they are needed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from deepfake_detect.datasets.labels import plain_label
from deepfake_detect.datasets.tables import COLUMNS
from deepfake_detect.errors import DatasetError, ImageUnreadable
from deepfake_detect.inputs.image import Picture, open_image

Row = dict[str, Any]

_LABEL_COLUMNS = ("label", "labels", "class", "target")
_IMAGE_KEYS = ("image", "img", "pixel_values")


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A picture of a data set, read when it is opened.

    Attributes:
        dataset: Anything that gives items by number.
        index: Number of the item.
        column: Name of the picture in the item; None where items are pairs of picture and label.
        name: For messages.
    """

    dataset: Any
    index: int
    column: str | None
    name: str

    def open_picture(self) -> Picture:
        """Decode the picture.

        Raises:
            ImageUnreadable: The data set fails to give a picture, or what it gives is not one.
        """
        try:
            item = self.dataset[self.index]
            image = item[0] if self.column is None else item[self.column]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise ImageUnreadable(
                f"{self.name}: the data set gives no picture ({error}); leave the item out"
            ) from error
        return open_image(_encoded(image))


def is_hugging_face(dataset: Any) -> bool:
    """Return whether this is a ``Dataset`` of Hugging Face."""
    known = hasattr(dataset, "features") and hasattr(dataset, "column_names") and hasattr(dataset, "__getitem__")
    return known and not is_hugging_face_stream(dataset)


def is_hugging_face_stream(dataset: Any) -> bool:
    """Return whether this is an ``IterableDataset`` of Hugging Face, as loaded with ``streaming=True``."""
    return hasattr(dataset, "features") and type(dataset).__name__ == "IterableDataset"


def is_torch(dataset: Any) -> bool:
    """Return whether this is a map-style ``Dataset`` of torch, or anything else with a length and items by number."""
    return hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")


def hugging_face_rows(dataset: Any) -> Iterator[Row]:
    """Yield a row for each item of a ``Dataset`` of Hugging Face, without decoding a picture.

    Transforms and formats (``with_transform``, ``set_format``) are left aside: they prepare pictures for another model.

    Raises:
        DatasetError: There is no column of pictures, or none of labels.
    """
    if hasattr(dataset, "with_format"):
        dataset = dataset.with_format(None)
    image, label = _columns(dataset.features)
    names = getattr(dataset.features[label], "names", None)
    others = {name: _values(dataset, name) for name in COLUMNS if name in dataset.features}
    for index, value in enumerate(_values(dataset, label)):
        known = {name: str(column[index] or "") for name, column in others.items()}
        item = Item(dataset, index, image, f"{image} {index}")
        yield {"image": item, "label": _class_name(value, names), **known}


def hugging_face_stream_rows(dataset: Any) -> Iterator[Row]:
    """Yield a row for each item of an ``IterableDataset`` of Hugging Face, read to its end once.

    Its pictures are kept in memory, encoded as they come (as JPEG, say), since a stream cannot be asked again. After a
    ``map`` that hides the types of the columns they are decoded already, and take far more memory.

    Raises:
        DatasetError: There is no column of pictures, or none of labels.
    """
    stream = dataset.with_format(None) if hasattr(dataset, "with_format") else dataset
    features = dataset.features
    if features is None:
        features = {name: _kind_of(value) for name, value in next(iter(stream), {}).items()}
    image, label = _columns(features)
    names = getattr(features[label], "names", None)
    if dataset.features is not None:
        stream = stream.cast_column(image, type(features[image])(decode=False))
    for item in stream:
        known = {name: str(item[name] or "") for name in COLUMNS if name in item}
        yield {"image": _encoded(item[image]), "label": _class_name(item[label], names), **known}


def _kind_of(value: Any) -> Any:
    """Return what is like the type of a column, from one of its values."""
    is_picture = isinstance(value, Image.Image) or _encoded(value) is not value
    return type("Image" if is_picture else type(value).__name__, (), {})()


def torch_rows(dataset: Any) -> Iterator[Row]:
    """Yield a row for each item of a data set of torch.

    Labels come from ``samples`` (with paths, as of ``ImageFolder``) or ``targets`` where there are such; otherwise each
    item is read once for its label. A ``Subset`` or ``ConcatDataset`` does not know the names of its classes, so the
    data sets that it is made of are asked: an ``ImageFolder`` of ``fake`` and ``real`` calls fake 0.
    """
    of_hugging_face: dict[int, list[Row]] = {}
    for number in range(len(dataset)):
        part, index = _part(dataset, number)
        if not is_hugging_face(part):
            yield _torch_row(part, index, f"item {index}")
            continue
        if id(part) not in of_hugging_face:
            of_hugging_face[id(part)] = list(hugging_face_rows(part))
        yield of_hugging_face[id(part)][index]


def _part(dataset: Any, index: int) -> tuple[Any, int]:
    """Return the data set that an item comes from, below any ``Subset`` and ``ConcatDataset``, and its number there."""
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):  # Subset, as of random_split
        return _part(dataset.dataset, int(dataset.indices[index]))
    if hasattr(dataset, "datasets") and hasattr(dataset, "cumulative_sizes"):  # ConcatDataset
        part = bisect_right(dataset.cumulative_sizes, index)
        return _part(dataset.datasets[part], index - ([0, *dataset.cumulative_sizes][part]))
    return dataset, index


def _torch_row(dataset: Any, index: int, name: str) -> Row:
    classes = getattr(dataset, "classes", None)
    samples = getattr(dataset, "samples", None)
    if samples and len(samples) == len(dataset) and isinstance(samples[0], tuple):
        path, label = samples[index]
        return {"image": path, "label": _class_name(label, classes)}
    targets: Any = getattr(dataset, "targets", None)
    known = targets is not None and len(targets) == len(dataset)
    column, label = (None, targets[index]) if known else _read_label(dataset, index)
    return {"image": Item(dataset, index, column, name), "label": _class_name(label, classes)}


def _columns(features: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return the names of the column of pictures and of the column of labels."""
    kinds = {name: type(kind).__name__ for name, kind in (features or {}).items()}
    image = next((name for name, kind in kinds.items() if kind == "Image"), None)
    label = next((name for name in _LABEL_COLUMNS if name in kinds), None)
    if image is None or label is None:
        raise DatasetError(
            f"the data set has the columns {kinds}, expected one of type Image and one called 'label'; "
            "use cast_column('...', datasets.Image()) and rename_column('...', 'label')"
        )
    return image, label


def _encoded(image: Any) -> Any:
    """Return the bytes or the path of a picture that Hugging Face has not decoded, anything else as it is."""
    if not (isinstance(image, dict) and {"bytes", "path"} >= image.keys() and image):
        return image
    content = image.get("bytes")
    return image.get("path") if content is None else content


def _class_name(label: Any, classes: Any) -> Any:
    """Return the name of a class where there are names; a number below 0 stands for no label."""
    label = plain_label(label)
    if not classes or label is None or isinstance(label, str):
        return label
    return classes[int(label)] if int(label) >= 0 else None


def _values(dataset: Any, name: str) -> list[Any]:
    values: Iterable[Any] = (dataset.select_columns([name]) if hasattr(dataset, "select_columns") else dataset)[name]
    return list(values)


def _read_label(dataset: Any, index: int) -> tuple[str | None, Any]:
    """Read an item for its label; return the name of its picture, if it has names, and the label."""
    item = dataset[index]
    if isinstance(item, Mapping):
        image = next((key for key in _IMAGE_KEYS if key in item), None)
        label = next((key for key in _LABEL_COLUMNS if key in item), None)
        if image is not None and label is not None:
            return image, item[label]
    if not (isinstance(item, tuple | list) and len(item) >= 2):
        keys = f" with the keys {sorted(map(str, item))}" if isinstance(item, Mapping) else ""
        raise DatasetError(
            f"item {index} of the data set is a {type(item).__name__}{keys}, expected (image, label), "
            "or a dict with 'image' and 'label'"
        )
    return None, item[1]
