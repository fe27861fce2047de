"""Data sets of every form are read, without decoding a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.errors import DatasetError, ImageUnreadable
from deepfake_detect.inputs.image import open_image
from tests.inputs.test_frames import write_video

HEADER = "file,label,source,generator,group,split,note\n"


def touch(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"never opened")
    return folder


def picture(value: int) -> Image.Image:
    return Image.new("RGB", (8, 6), (value, value, value))


def told(samples: list[Sample]) -> list[tuple[str, int, str, str]]:
    return [(Path(s.name).name, s.label, s.split, s.source) for s in samples]


def test_class_folders_with_splits_and_sources_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path, "train/real/a.jpg", "train/fake/gan/b.png", "validation/1_fake/c.webp", "web/real/test/d.jpg",
          "real/.hidden.jpg", ".git/real/e.jpg", "real/notes.txt")  # fmt: skip
    assert told(read_dataset(tmp_path)) == [
        ("b.png", 1, "train", "gan"),
        ("a.jpg", 0, "train", ""),
        ("c.webp", 1, "val", ""),
        ("d.jpg", 0, "test", "web"),
    ]
    assert [s.name for s in read_dataset(tmp_path, splits=["valid"])] == [str(tmp_path / "validation/1_fake/c.webp")]


def test_folders_that_are_no_classes_are_all_named(tmp_path: Path) -> None:
    touch(tmp_path, "cats/a.jpg", "dogs/b.jpg")
    with pytest.raises(DatasetError, match=r"has the labels 'cats', 'dogs'; cannot tell whether 'cats'"):
        read_dataset(tmp_path)
    assert [s.label for s in read_dataset(tmp_path, labels={"cats": "real", "dogs": "fake"})] == [0, 1]
    touch(tmp_path / "flat", "x.jpg")
    with pytest.raises(DatasetError, match=r"holds x\.jpg outside any class folder"):
        read_dataset(tmp_path / "flat")


def test_csv_with_all_columns(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    rows = "a.png,real,web,camera,p1,train,old\nb.png,AI,web,gan,p2,valid,\nb.png,,content,camera,p3,train,\n"
    (tmp_path / "manifest.csv").write_text(HEADER + rows, encoding="utf-8-sig")
    first, second = read_dataset(tmp_path / "manifest.csv")
    assert first == Sample(
        image=tmp_path / "a.png", label=0, source="web", generator="camera", group="p1", split="train", note="old"
    )
    assert (second.label, second.split, second.note) == (1, "val", "")
    assert read_dataset(tmp_path) == [first, second]


def test_jsonl_and_the_metadata_of_the_dfdc(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    lines = [{"file_name": "a.png", "Label ": "real"}, {"file_name": "b.png", "label": 1, "group": "g"}]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert [(s.name, s.label, s.group) for s in read_dataset(tmp_path / "data.jsonl")] == [
        (str(tmp_path / "a.png"), 0, ""),
        (str(tmp_path / "b.png"), 1, "g"),
    ]
    dfdc = {"a.png": {"label": "REAL", "split": "train"}, "b.png": {"label": "FAKE", "original": "a.png"}}
    (tmp_path / "metadata.json").write_text(json.dumps(dfdc))
    assert [(s.label, s.group, s.split) for s in read_dataset(tmp_path)] == [(0, "a.png", "train"), (1, "a.png", "")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "file,kind\na.png,real\n", r"missing 'label'"),
        ("a.csv", "file,label\na.png,genuinely\n", "cannot tell whether 'genuinely'"),
        ("a.csv", "file,label\n", "no labelled pictures in"),
        ("a.csv", "file,label\nnowhere.png,real\n", r"names files that are not there, such as .*nowhere\.png"),
        ("a.jsonl", "[1]\n", "item 1: a int, expected an object"),
        ("a.jsonl", "{\n", "is not a table of text"),
        ("a.json", "7", "expected an array of objects"),
        ("a.xlsx", "", r"a\.xlsx is no table of pictures"),
    ],
)
def test_bad_tables_are_refused_by_name(tmp_path: Path, name: str, text: str, message: str) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path / name)


def test_what_is_no_data_set(tmp_path: Path) -> None:
    for nothing, message in (
        (tmp_path / "none", "no data set at"),
        (tmp_path, "no labelled pictures in"),
        ([], "no labelled pictures in the list"),
        (7, "a int is no data set"),
        (["a.jpg"], "item 0 of the list is a str"),
    ):
        with pytest.raises(DatasetError, match=message):
            read_dataset(nothing)


def test_lists_of_pictures_of_any_kind() -> None:
    pairs = [(picture(1), "fake"), ("a.jpg", False), (np.zeros((4, 4, 3), np.uint8), 1, "someone")]
    samples = read_dataset(pairs)
    assert [(s.label, s.group) for s in samples] == [(1, ""), (0, ""), (1, "someone")]
    assert read_dataset(samples) == samples


class Counted(torch.utils.data.Dataset[tuple[Image.Image, int]]):
    """Counts how often a picture is asked for."""

    def __init__(self) -> None:
        self.opened: list[int] = []

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.opened.append(index)
        return picture(10 * index), index % 2


def test_a_torch_data_set_is_opened_only_when_asked() -> None:
    dataset = Counted()
    samples = read_dataset(dataset)
    assert [s.label for s in samples] == [0, 1, 0, 1]
    assert dataset.opened == [0, 1, 2, 3]  # for their labels
    assert open_image(samples[3].image).pixels[0, 0, 0] == 30
    assert samples[3].name == "item 3"
    dataset.targets, dataset.classes, dataset.opened = [0, 1, 1, 0], ["fake", "real"], []  # type: ignore[attr-defined]
    assert [s.label for s in read_dataset(dataset)] == [1, 0, 0, 1]
    assert dataset.opened == []
    dataset.targets = torch.tensor([0, 1, 1, 0])  # type: ignore[attr-defined]
    del dataset.classes  # type: ignore[attr-defined]
    assert [s.label for s in read_dataset(dataset, labels={0: "fake", 1: "real"})] == [1, 0, 0, 1]


def test_an_item_that_is_no_picture_says_which() -> None:
    dataset = Counted()
    dataset.targets = [0, 1, 0, 1]  # type: ignore[attr-defined]
    samples = read_dataset(dataset)
    dataset.__class__ = type("Broken", (Counted,), {"__getitem__": lambda self, index: 1 / 0})
    with pytest.raises(ZeroDivisionError):  # not ours to hide
        samples[0].open_picture()
    dataset.__class__ = type("Broken", (Counted,), {"__getitem__": lambda self, index: {}[index]})
    with pytest.raises(ImageUnreadable, match="item 2: the data set gives no picture"):
        samples[2].open_picture()


def test_image_folder_sorts_fake_to_nought_and_is_read_by_name(tmp_path: Path) -> None:
    for label in ("fake", "real"):
        (tmp_path / label).mkdir()
        picture(5).save(tmp_path / label / "x.png")
    samples = read_dataset(ImageFolder(tmp_path))
    assert [(Path(s.image).parent.name, s.label) for s in samples] == [("fake", 1), ("real", 0)]
    whole = ImageFolder(tmp_path)
    part = torch.utils.data.Subset(whole, torch.tensor([1]))  # type: ignore[arg-type]
    parts = torch.utils.data.ConcatDataset([part, torch.utils.data.Subset(whole, [1, 0]), part])
    names = [("real", 0), ("real", 0), ("fake", 1), ("real", 0)]
    assert [(Path(s.image).parent.name, s.label) for s in read_dataset(parts)] == names


def test_hugging_face_data_sets() -> None:
    import datasets

    features = datasets.Features(
        {
            "photo": datasets.Image(),
            "label": datasets.ClassLabel(names=["ai", "human"]),
            "group": datasets.Value("string"),
        }
    )
    columns = {"photo": [picture(20), picture(200), picture(9)], "label": [0, 1, -1], "group": ["a", None, "b"]}
    whole = datasets.Dataset.from_dict(columns, features=features)
    samples = read_dataset(whole)
    assert [(s.label, s.group, s.name) for s in samples] == [(1, "a", "photo 0"), (0, "", "photo 1")]
    assert open_image(samples[1].image).pixels.mean() == 200
    parts = read_dataset(datasets.DatasetDict({"train": whole, "validation": whole}))
    assert [s.split for s in parts] == ["train", "train", "val", "val"]
    with pytest.raises(DatasetError, match="expected one of type Image and one called 'label'"):
        read_dataset(whole.remove_columns("label"))


def test_hugging_face_labels_do_not_decode_pictures() -> None:
    class Photos:  # as much of a Dataset as is needed
        column_names = ("image", "label")

        def __init__(self) -> None:
            self.features = {"image": type("Image", (), {})(), "label": type("Value", (), {})()}

        def __getitem__(self, key: Any) -> Any:
            assert key != "image" and not isinstance(key, int), "a picture was decoded"
            return ["real", "fake"]

    assert [s.label for s in read_dataset(Photos())] == [0, 1]


def test_a_video_is_frames_of_one_group(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "labels.csv").write_text("file,label,group\nclip.avi,fake,\nclip.avi,real,someone\nbroken.mp4,real,\n")
    samples = read_dataset(tmp_path, frames=5)
    assert [s.label for s in samples] == [1] * 5 + [0] * 5 + [0]
    assert {s.group for s in samples[:5]} == {str(tmp_path / "clip.avi")}
    assert {s.group for s in samples[5:10]} == {"someone"}
    assert samples[3].name == f"{tmp_path / 'clip.avi'}@2.80s"
    with pytest.raises(ImageUnreadable, match=r"broken\.mp4"):
        samples[10].open_picture()
