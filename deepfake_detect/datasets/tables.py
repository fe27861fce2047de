"""Read tables of pictures: CSV, TSV, JSON lines, JSON, Parquet, and frames of pandas or polars."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from deepfake_detect.datasets.labels import plain_bools, plain_label
from deepfake_detect.errors import DatasetError, MissingExtra

Row = dict[str, Any]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
TABLE_NAMES = ("manifest.csv", "labels.csv", "metadata.csv", "labels.jsonl", "metadata.jsonl", "metadata.json")
"""File names of tables that are read when a folder is given, by priority."""

COLUMNS = ("source", "generator", "group", "split", "note")
"""Columns beside the file and the label."""

_ALIASES = {
    "file": ("file", "file_name", "filename", "filepath", "file_path", "path", "image", "image_path"),
    "label": ("label", "class", "target"),
}
_DELIMITERS = ",;\t|"
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins like the one of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_table(path: Path) -> list[Row]:
    """Read a table of pictures.

    CSV may be separated by commas, semicolons, tabs or bars, and be in UTF-8 or UTF-16. JSON is an object on each line,
    an array of objects, or the ``metadata.json`` of the DFDC. Parquet needs pyarrow.

    Args:
        path: The table; files in it are relative to its folder.

    Returns:
        One dict for each row: ``file`` (a path, or the text of a URL), ``label``, and those of `COLUMNS` that are not
        empty.

    Raises:
        DatasetError: There is no such file or column, two columns may be the same one, it is not a table, or a row has
            a label and no file.
        MissingExtra: A Parquet file without pyarrow.
    """
    if not path.is_file():
        raise DatasetError(f"no table at {path}; expected a CSV or JSONL file with the columns file,label")
    if path.suffix.lower() == ".parquet":
        return [{**row, "file": _located(row["file"], path.parent)} for row in frame_rows(_parquet(path))]
    try:
        text = _text(path)
        rows = list(_json(text, path) if "js" in path.suffix.lower() else _csv(text, path))
    except (UnicodeError, csv.Error, json.JSONDecodeError) as error:
        raise DatasetError(
            f"{path} is not a table of text ({error}); expected CSV or JSONL, saved as UTF-8 (in Excel: 'CSV UTF-8')"
        ) from None
    return [{**row, "file": _located(row["file"], path.parent)} for row in _checked(rows, str(path))]


def frame_rows(frame: Any) -> list[Row]:
    """Read a frame of pandas or polars, or a table of pyarrow.

    Args:
        frame: With columns as in a table; files are relative to the working folder, and pictures in memory will do.

    Raises:
        DatasetError: As for `read_table`.
    """
    kind = f"the {type(frame).__module__.partition('.')[0]} {type(frame).__name__}"
    if hasattr(frame, "collect"):  # polars.LazyFrame
        frame = frame.collect()
    _refuse_twins(getattr(frame, "column_names", None) or list(frame.columns), kind)
    if hasattr(frame, "to_pylist"):
        records = frame.to_pylist()
    else:
        records = frame.to_dicts() if hasattr(frame, "to_dicts") else frame.to_dict("records")
    return list(_checked(records, kind))


def is_frame(dataset: Any) -> bool:
    """Return whether this is a frame of pandas or polars, or a table of pyarrow; none of them is imported."""
    module = type(dataset).__module__.partition(".")[0]
    return module in ("pandas", "polars", "pyarrow") and type(dataset).__name__ in ("DataFrame", "LazyFrame", "Table")


def table_in(folder: Path) -> Path | None:
    """Return the table of a folder, or None where it holds none."""
    return next((folder / name for name in TABLE_NAMES if (folder / name).is_file()), None)


def _text(path: Path) -> str:
    content = path.read_bytes()
    encoding = next((name for mark, name in _BOMS.items() if content.startswith(mark)), None)
    if encoding is None:  # UTF-16 without its mark has a zero byte in each letter of the header
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be" if content[:1] == b"\0" else "utf-8"
    return content.decode(encoding)


def _csv(text: str, path: Path) -> Iterator[Row]:
    header = next(iter(text.splitlines()), "")
    counts = {mark: _known_columns(header.split(mark)) for mark in _DELIMITERS}
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    best = max(counts, key=lambda mark: (counts[mark], mark == usual))
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=best)
    _refuse_twins(reader.fieldnames or (), str(path))
    for number, row in enumerate(reader, 2):
        if None in row:
            raise DatasetError(
                f"{path}, row {number}: more fields than the header has; put quotes around a name with {best!r} in it"
            )
        yield row


def _parquet(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("a Parquet file needs pyarrow; run: pip install 'deepfake-detect[parquet]'") from error
    try:
        return pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DatasetError(f"{path} is not a Parquet file ({error}); write it again") from error


def _refuse_twins(columns: Iterable[Any], where: str) -> None:
    """Refuse a table with two columns of the same name, of which one would be lost."""
    names = [str(column).strip().lower() for column in columns]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DatasetError(f"{where} has two columns called {twice!r}; delete or rename one of them")


def _known_columns(names: Iterable[str]) -> int:
    known = {alias for aliases in _ALIASES.values() for alias in aliases} | set(COLUMNS)
    return sum(name.strip().strip('"').lower() in known for name in names)


def _json(text: str, path: Path) -> Iterator[Row]:
    if path.suffix.lower() == ".json" or text.lstrip().startswith("["):
        content = json.loads(text)
        yield from _records(content, path) if isinstance(content, list) else _dfdc(content, path)
        return
    for number, line in enumerate(text.splitlines(), 1):
        row = json.loads(line) if line.strip() else {}
        if not isinstance(row, dict):
            raise DatasetError(f"{path}, line {number}: a {type(row).__name__}, expected an object with file and label")
        if row:
            yield row


def _records(content: list[Any], path: Path) -> Iterator[Row]:
    for number, row in enumerate(content, 1):
        if not isinstance(row, dict):
            raise DatasetError(f"{path}, item {number}: a {type(row).__name__}, expected an object with file and label")
        yield row


def _dfdc(content: Any, path: Path) -> Iterator[Row]:
    if not (isinstance(content, dict) and all(isinstance(row, dict) for row in content.values())):
        raise DatasetError(
            f"{path}: expected an array of objects with file and label, or an object of file name to "
            "{'label': ...}, as DFDC's metadata.json"
        )
    for file, row in content.items():
        yield {**row, "file": file, "group": row.get("group") or row.get("original") or file}


def _checked(rows: Iterable[Row], where: str) -> Iterator[Row]:
    """Yield the rows under our column names; those without a label are left out by the reader."""
    named = [_named(row, where) for row in rows]
    labels = plain_bools([row["label"] for row in named])
    for number, (row, label) in enumerate(zip(named, labels, strict=True), 1):
        no_file = row["file"] is None or (isinstance(row["file"], str) and not row["file"].strip())
        if no_file and label not in (None, ""):
            raise DatasetError(f"{where}, picture {number}: label {label!r} and no file; fill it in, or delete the row")
        if not no_file:
            yield {**row, "label": label}


def _named(row: Row, where: str) -> Row:
    """Return the row under our names for its columns, whatever their case."""
    row = {str(column).strip().lower(): value for column, value in row.items()}
    named: Row = {}
    for name, aliases in _ALIASES.items():
        present = [alias for alias in aliases if alias in row]
        if not present:
            raise DatasetError(
                f"{where} has the columns {sorted(row)}, missing {name!r} (or {', '.join(aliases[1:])}); "
                "the first line of a CSV names the columns"
            )
        if name not in present and any(str(row[alias]) != str(row[present[0]]) for alias in present[1:]):
            raise DatasetError(
                f"{where} has the columns {', '.join(map(repr, present))}, of which each may be the {name} and which "
                f"differ; rename the right one to {name!r}"
            )
        named[name] = row[present[0]]
    named["label"] = plain_label(named["label"])
    return {**named, **{name: str(row[name]) for name in COLUMNS if name in row and not _is_empty(row[name])}}


def _is_empty(value: Any) -> bool:
    """Return whether a cell is empty: no text, or the missing value of JSON, pandas or numpy."""
    return value is None or str(value) in ("", "nan", "NaN", "<NA>", "NaT")


def _located(file: Any, folder: Path) -> Path | str:
    """Return where a file of a table is: relative to the table, unless it is a URL or absolute."""
    text = str(file).strip()
    if "://" in text or text.startswith("data:"):
        return text
    path = folder / os.path.expanduser(text)
    if "\\" in text and os.sep == "/" and not path.exists():  # written on Windows
        return folder / text.replace("\\", "/")
    return path
