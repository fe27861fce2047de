"""Which pictures are there, and what do we know of each?"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepfake_detect.errors import DatasetError
from deepfake_detect.image import name_image

LABELS = {"real": 0, "fake": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One labelled picture.

    Attributes:
        image: Anything that `open_image` takes: a path, as a rule.
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


def read_csv(path: str | os.PathLike[str], *, splits: Sequence[str] = ()) -> list[Sample]:
    """Read a table of pictures: ``file,label[,source,generator,group,split,note]``.

    Args:
        path: The CSV file; files in it are relative to its folder.
        splits: Keep these only; every row where empty.

    Returns:
        The rows labelled real or fake, in order; rows with an empty label are left out.

    Raises:
        DatasetError: No such file, a missing column, or a label that is neither real nor fake.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"no table at {path}; expected a CSV file with the columns file,label")
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        missing = {"file", "label"} - set(rows.fieldnames or ())
        if missing:
            raise DatasetError(f"{path} has the columns {rows.fieldnames}, missing {sorted(missing)}")
        samples = [_sample(row, path) for row in rows if row["label"]]
    return [sample for sample in samples if not splits or sample.split in splits]


def _sample(row: dict[str, str], path: Path) -> Sample:
    label = row["label"].strip().lower()
    if label not in LABELS:
        raise DatasetError(f"{path}: {row['file']} has the label {row['label']!r}, expected 'real' or 'fake'")
    rest = {name: row.get(name) or "" for name in ("source", "generator", "group", "split", "note")}
    return Sample(image=path.parent / row["file"], label=LABELS[label], **rest)
