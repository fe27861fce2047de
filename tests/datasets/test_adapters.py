"""Data sets of torch and Hugging Face are read in every state they may be in, or refused with the remedy."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from deepfake_detect.datasets.read import read_dataset
from deepfake_detect.errors import DatasetError
from deepfake_detect.inputs.image import open_image


def encoded(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (value, value, value)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> datasets.Dataset:
    """Two pictures, one of them in memory and the other one in a file."""
    (tmp_path / "b.png").write_bytes(encoded(200))
    pictures = [{"bytes": encoded(20), "path": None}, {"bytes": None, "path": str(tmp_path / "b.png")}]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["ai", "human"])})
    return datasets.Dataset.from_dict({"image": pictures, "label": [0, 1]}, features=features)


def read(dataset: Any) -> list[tuple[int, float]]:
    return [(s.label, float(open_image(s.image).pixels.mean())) for s in read_dataset(dataset)]


EXPECTED = [(1, 20.0), (0, 200.0)]


def test_encoded_pictures_transforms_and_formats(photos: datasets.Dataset) -> None:
    def normalised(batch: dict[str, Any]) -> dict[str, Any]:
        return {"pixel_values": [torch.zeros(3, 4, 4) for _ in batch["image"]]}

    assert read(photos) == EXPECTED
    assert read(photos.cast_column("image", datasets.Image(decode=False))) == EXPECTED
    assert read(photos.with_transform(normalised)) == EXPECTED
    assert read(photos.with_format("torch")) == EXPECTED
    assert read(photos.with_format("numpy", columns=["label"])) == EXPECTED
    assert read(photos.select([1, 0])) == EXPECTED[::-1]


def test_streams_are_read_once(photos: datasets.Dataset) -> None:
    stream = photos.to_iterable_dataset()
    assert read(stream) == EXPECTED
    hidden = stream.map(lambda row: {"image": row["image"], "label": ["ai", "human"][row["label"]]})
    assert hidden.features is None
    assert read(hidden) == EXPECTED
    assert [s.split for s in read_dataset(datasets.IterableDatasetDict({"validation": stream}))] == ["val", "val"]
    with pytest.raises(DatasetError, match=r"expected one of type Image and one called 'label'; use cast_column"):
        read_dataset(stream.remove_columns("label"))


def test_one_hot_columns_and_bools(photos: datasets.Dataset) -> None:
    plain = photos.remove_columns("label")
    one_hot = plain.add_column("label", [[0, 1], [1, 0]])
    assert [s.label for s in read_dataset(one_hot)] == [1, 0]
    assert [s.label for s in read_dataset(plain.add_column("label", [True, False]))] == [1, 0]


def test_a_subset_of_a_hugging_face_data_set(photos: datasets.Dataset) -> None:
    assert read(torch.utils.data.Subset(photos, [1, 1])) == [EXPECTED[1]] * 2  # type: ignore[arg-type]


class Items(torch.utils.data.Dataset[Any]):
    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_items_of_torch_as_pairs_dicts_and_one_hot() -> None:
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert read(Items((black, torch.tensor([1.0, 0.0])), (white, [0, 1]))) == [(0, 0.0), (1, 255.0)]
    assert read(Items({"image": black, "label": "real"}, {"image": white, "label": "fake"})) == [(0, 0.0), (1, 255.0)]
    tensors = torch.utils.data.TensorDataset(torch.zeros(2, 3, 4, 4), torch.tensor([[1, 0], [0, 1]]))
    assert read(tensors) == [(0, 0.0), (1, 0.0)]
    with pytest.raises(DatasetError, match=r"a dict with the keys \['x'\], expected \(image, label\)"):
        read_dataset(Items({"x": black}))


class Stream(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield "a.jpg", 0


def test_what_is_read_only_once_is_refused_with_the_remedy() -> None:
    for stream in (Stream(), iter([("a.jpg", 0)])):
        with pytest.raises(DatasetError, match=r"pass list\(\.\.\.\) of it"):
            read_dataset(stream)
    with pytest.raises(DatasetError, match=r"pass the loader's \.dataset"):
        read_dataset(torch.utils.data.DataLoader(Items(("a.jpg", 0))))
