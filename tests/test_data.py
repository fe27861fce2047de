"""Are pictures read by their table?"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from deepfake_detect.data import Sample, read_csv
from deepfake_detect.errors import DatasetError

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    Image.open(PORTRAIT).save(tmp_path / "a.png")
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "b.png")
    (tmp_path / "data.csv").write_text(
        "file,label,source,generator,group,split,note\n"
        "a.png,real,web,camera,p1,train,old\n"
        "b.png,Fake,web,gan,p2,val,\n"
        "b.png,,content,camera,p3,train,\n"
    )
    return tmp_path / "data.csv"


def test_table_is_read_with_its_columns(table: Path) -> None:
    first, second = read_csv(table)
    assert first == Sample(
        image=table.parent / "a.png", label=0, source="web", generator="camera", group="p1", split="train", note="old"
    )
    assert second.label == 1 and second.note == ""
    assert read_csv(table, splits=["val"]) == [second]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,kind\na.png,real\n", r"missing \['label'\]"),
        ("file,label\na.png,genuine\n", "'genuine', expected 'real' or 'fake'"),
    ],
)
def test_bad_tables_are_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_csv(tmp_path / "bad.csv")
    with pytest.raises(DatasetError, match="no table at"):
        read_csv(tmp_path / "none.csv")
