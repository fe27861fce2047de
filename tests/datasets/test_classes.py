"""Are classes of one's own read from folders, tables and lists, by name and in one order?"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from deepfake_detect.datasets.read import read_classes
from deepfake_detect.errors import DatasetError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_the_first_folder_is_the_class_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path, "train/human/web/a.jpg", "train/ai lab/b.jpg", "test/human/real/c.png", "train/.hidden/d.jpg")
    samples, classes = read_classes(tmp_path)
    assert classes == ("ai lab", "human")  # both are synonyms of fake and real, and neither is taken for it
    seen = [(Path(sample.image).name, classes[sample.label], sample.split, sample.source) for sample in samples]
    assert sorted(seen) == [
        ("a.jpg", "human", "train", "web"),
        ("b.jpg", "ai lab", "train", ""),
        ("c.png", "human", "test", "real"),
    ]
    assert [sample.image for sample in read_classes(tmp_path, splits=["test"])[0]] == [
        tmp_path / "test/human/real/c.png"
    ]


def test_labels_of_any_type_are_names(tmp_path: Path) -> None:
    assert read_classes([("a", 10), ("b", 9.0), ("c", True)])[1] == ("9", "10", "True")
    assert read_classes([("a", [0, 0, 1]), ("b", [1, 0, 0])])[1] == ("0", "2")
    frame = pd.DataFrame({"file": ["a", "b", "c"], "label": [1, None, 2]})  # floats, since there is a gap
    samples, classes = read_classes(frame)
    assert (classes, [sample.name for sample in samples]) == (("1", "2"), ["a", "c"])


def test_a_card_keeps_the_order_and_refuses_other_classes() -> None:
    samples, classes = read_classes([("a", "dog")], classes=("hen", "dog", "cat"))
    assert (classes, samples[0].label) == (("hen", "dog", "cat"), 1)
    assert read_classes(samples, classes=classes) == (samples, classes)
    with pytest.raises(DatasetError, match=r"'dgo'.*did you mean 'dog'"):
        read_classes([("a", "dgo")], classes=("hen", "dog", "cat"))


@pytest.mark.parametrize("names", [["cat/a.jpg"], ["cat/a.jpg", "b.jpg"], ["train/a.jpg", "train/cat/b.jpg"], []])
def test_what_holds_no_classes_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(DatasetError, match="class"):
        read_classes(touch(tmp_path, *names))


def test_a_file_in_two_classes_by_a_link_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.jpg", "dog/b.jpg", "hen/c.jpg")
    os.symlink(tmp_path / "cat" / "a.jpg", tmp_path / "dog" / "a.jpg")
    with pytest.raises(DatasetError, match="two classes"):
        read_classes(tmp_path)
