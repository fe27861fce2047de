"""Which rows does a table of pictures hold?"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepfake_detect.errors import DatasetError

Row = dict[str, Any]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
TABLE_NAMES = ("manifest.csv", "labels.csv", "metadata.csv", "labels.jsonl", "metadata.jsonl", "metadata.json")
"""What a table in a folder is called; the first that is there counts."""

COLUMNS = ("source", "generator", "group", "split", "note")
"""Columns beside the file and the label."""

_OTHER_NAMES = {"file": ("file", "file_name", "filename", "path", "image"), "label": ("label", "class", "target")}


def read_table(path: Path) -> list[Row]:
    """Read a table of pictures: CSV with a header, JSON lines, or the ``metadata.json`` of the DFDC.

    Args:
        path: The table; files in it are relative to its folder.

    Returns:
        One dict a row: ``file`` (a path), ``label`` and those of `COLUMNS` that are there, empty ones left out.

    Raises:
        DatasetError: No such file, no such column, or not a table.
    """
    if not path.is_file():
        raise DatasetError(f"no table at {path}; expected a CSV or JSONL file with the columns file,label")
    try:
        rows = list(_dfdc(path) if path.suffix == ".json" else _lines(path) if "js" in path.suffix else _csv(path))
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise DatasetError(f"{path} is no table of text ({error}); expected CSV or JSONL in UTF-8") from None
    return [_named(row, path) for row in rows]


def table_in(folder: Path) -> Path | None:
    """Find the table of a folder; None where it holds none."""
    return next((folder / name for name in TABLE_NAMES if (folder / name).is_file()), None)


def _csv(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")


def _lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            row = json.loads(line) if line.strip() else {}
            if not isinstance(row, dict):
                raise DatasetError(
                    f"{path}, line {number}: a {type(row).__name__}, expected an object with file and label"
                )
            if row:
                yield row


def _dfdc(path: Path) -> Iterator[Row]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not (isinstance(rows, dict) and all(isinstance(row, dict) for row in rows.values())):
        raise DatasetError(f"{path}: expected an object of file name to {{'label': ...}}, as DFDC's metadata.json")
    for file, row in rows.items():
        yield {**row, "file": file, "group": row.get("group") or row.get("original") or file}


def _named(row: Row, path: Path) -> Row:
    """Give the row with our names for its columns; capitals in theirs do not count."""
    found: Row = {}
    row = {str(column).strip().lower(): value for column, value in row.items()}
    for name, others in _OTHER_NAMES.items():
        column = next((other for other in others if other in row), None)
        if column is None:
            raise DatasetError(f"{path} has the columns {sorted(map(str, row))}, missing {name!r}")
        found[name] = row[column]
    found["file"] = path.parent / str(found["file"])
    return {**found, **{name: str(row[name]) for name in COLUMNS if row.get(name)}}
