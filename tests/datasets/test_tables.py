"""Tables and frames are read whatever their encoding, separator and types, or refused with the remedy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow
import pytest
from PIL import Image

from deepfake_detect.datasets.read import read_dataset
from deepfake_detect.errors import DatasetError, MissingExtra

TEXT = "file,label,group\na.png,real,p;1\nb.png,fake,p2\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"never opened")
    return tmp_path


def labels_of(path: Any) -> list[int]:
    return [sample.label for sample in read_dataset(path)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["data.csv", "DATA.CSV", "data.TSV"])
def test_separators_encodings_and_suffixes(folder: Path, separator: str, encoding: str, name: str) -> None:
    text = TEXT.replace("p;1", "p1").replace(",", separator)
    (folder / name).write_text(text, encoding=encoding)
    samples = read_dataset(folder / name)
    assert [(s.image, s.label, s.group) for s in samples] == [(folder / "a.png", 0, "p1"), (folder / "b.png", 1, "p2")]


@pytest.mark.parametrize(("true", "false"), [("True", "False"), ("TRUE", "FALSE"), ("true", "false")])
def test_bools_mean_the_same_in_every_form(folder: Path, true: str, false: str) -> None:
    (folder / "t.csv").write_text(f"file,label\na.png,{true}\nb.png,{false}\n")
    (folder / "t.jsonl").write_text('{"file":"a.png","label":true}\n{"file":"b.png","label":false}\n')
    (folder / "t.json").write_text(json.dumps([{"file": "a.png", "label": true}, {"file": "b.png", "label": false}]))
    columns = {"file": [str(folder / "a.png"), str(folder / "b.png")], "label": [True, False]}
    forms = [folder / "t.csv", folder / "t.jsonl", folder / "t.json", pandas.DataFrame(columns)]
    forms += [polars.DataFrame(columns), list(zip(*columns.values(), strict=True))]
    assert [labels_of(form) for form in forms] == [[1, 0]] * len(forms)


def test_a_mapping_by_number_counts_for_the_texts_of_a_table(folder: Path) -> None:
    (folder / "t.csv").write_text("file,label\na.png,0\nb.png,1\n")
    assert labels_of(folder / "t.csv") == [0, 1]
    assert [s.label for s in read_dataset(folder / "t.csv", labels={0: "fake", 1: "real"})] == [1, 0]


def test_an_array_of_records_and_one_hot_labels(folder: Path) -> None:
    rows = [{"file": "a.png", "label": [1, 0]}, {"file": "b.png", "label": [0, 1]}]
    (folder / "t.json").write_text(json.dumps(rows, indent=1))
    (folder / "t.jsonl").write_text(json.dumps(rows))  # an array, whatever it is called
    assert labels_of(folder / "t.json") == labels_of(folder / "t.jsonl") == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.png,real\n,fake\n", r"picture 2: label 'fake' and no file; fill it in, or delete the row"),
        ("a.png,real\nb.png,fake\n", r"missing 'file'.*the first line of a CSV names the columns"),
        ("file,label\na,1.png,real\n", r"row 2: more fields than the header has; put quotes"),
    ],
)
def test_rows_that_cannot_be_read_are_named(folder: Path, text: str, message: str) -> None:
    (folder / "t.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_dataset(folder / "t.csv")


def test_empty_rows_urls_and_names_from_windows(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "real" / "c.png").write_bytes(b"")
    (folder / "t.csv").write_text("file,label\nreal\\c.png,real\n,\nhttps://example.org/x.png,fake\na.png,\n")
    samples = read_dataset(folder / "t.csv")
    assert [s.image for s in samples] == [folder / "real" / "c.png", "https://example.org/x.png"]


def test_another_encoding_is_named_with_the_remedy(folder: Path) -> None:
    (folder / "t.csv").write_bytes("file,label\nbücher.png,real\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"saved as UTF-8 \(in Excel: 'CSV UTF-8'\)"):
        read_dataset(folder / "t.csv")


def test_frames_of_pandas_polars_and_pyarrow(folder: Path) -> None:
    columns = {"Path": [str(folder / "a.png"), str(folder / "b.png"), "c"], "label": ["real", "fake", None],
               "group": ["x", None, None]}  # fmt: skip
    frames = [pandas.DataFrame(columns), polars.DataFrame(columns), polars.LazyFrame(columns), pyarrow.table(columns)]
    for frame in frames:
        assert [(s.image, s.label, s.group) for s in read_dataset(frame)] == [
            (str(folder / "a.png"), 0, "x"), (str(folder / "b.png"), 1, ""),
        ]  # fmt: skip
    numbers = pandas.DataFrame({"image": [Image.new("RGB", (2, 2)), np.zeros((2, 2, 3), np.uint8), "x"],
                                "label": [0.0, 1.0, np.nan]})  # fmt: skip
    assert labels_of(numbers) == [0, 1]
    with pytest.raises(DatasetError, match=r"the pandas DataFrame has the columns \['image'\], missing 'label'"):
        read_dataset(numbers[["image"]])


def test_parquet_is_read_as_the_frame_it_holds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "t.parquet"
    for label in ([True, False], ["True", "False"], [1.0, 0.0]):
        pandas.DataFrame({"file": ["a.png", "b.png"], "label": label}).to_parquet(path)
        assert [(s.image, s.label) for s in read_dataset(path)] == [(folder / "a.png", 1), (folder / "b.png", 0)]
    path.write_bytes(b"no table")
    with pytest.raises(DatasetError, match="is not a Parquet file"):
        read_dataset(path)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r"deepfake-detect\[parquet\]"):
        read_dataset(path)


def test_columns_that_may_mean_the_same_are_refused(folder: Path) -> None:
    (folder / "t.csv").write_text("file,label,Label\na.png,0,1\nb.png,1,0\n")
    with pytest.raises(DatasetError, match="two columns called 'label'"):
        read_dataset(folder / "t.csv")
    (folder / "t.csv").write_text("file,class,target\na.png,0,1\nb.png,1,0\n")
    with pytest.raises(DatasetError, match="'class', 'target', of which each may be the label"):
        read_dataset(folder / "t.csv")
    (folder / "t.csv").write_text("file,class,target\na.png,0,0\nb.png,1,1\n")
    assert labels_of(folder / "t.csv") == [0, 1]
    twice = pandas.DataFrame([["a.png", 0, 1]], columns=["file", "label", "label"])
    with pytest.raises(DatasetError, match="the pandas DataFrame has two columns called 'label'"):
        read_dataset(twice)
