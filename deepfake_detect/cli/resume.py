"""Keep results in a JSONL, CSV or Parquet file that a later run continues.

Each row carries the size and the time of change of its picture and a fingerprint of the settings, so that a later run
scores only what is missing, failed or changed. Rows are appended as they come and a line that was cut off by a kill is
dropped; every other change replaces the whole file at once.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

import click

from deepfake_detect.cli.render import Form, Row
from deepfake_detect.scale.parts import MARKS, require_arrow
from deepfake_detect.scale.rows import marks_of
from deepfake_detect.system.atomic import whole_file

SUFFIXES = (".jsonl", ".csv", ".parquet")

_PARTIAL = ".partial"


class ResultFile:
    """A file of results that can be continued; open for more inside a ``with`` block.

    Args:
        path: Ends in .jsonl, .csv or .parquet.
        form: How results of this kind are written to a table.
        settings: Fingerprint of everything that a result depends on beside the picture.

    Raises:
        click.UsageError: Another ending, or a file that this class did not write.
        MissingExtra: A Parquet file without pyarrow.
    """

    def __init__(self, path: Path, *, form: Form, settings: str) -> None:
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise click.UsageError(f"--out {path} ends in {path.suffix!r}, expected {', '.join(SUFFIXES)}")
        self.path, self._form, self._settings = path, form, settings
        self._is_table = suffix == ".csv"
        self._columns = (*form.columns, *MARKS)
        self._parquet = require_arrow() if suffix == ".parquet" else None
        self._journal = path.with_name(path.name + _PARTIAL) if self._parquet else path
        self.rows = {_key(str(row["name"])): row for row in self._read()}
        self._file: TextIO | None = None

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return the inputs whose result is not there, is an error, or belongs to other settings or another file."""
        return [name for name in dict.fromkeys(names) if not self._is_done(name)]

    def rows_of(self, names: Sequence[str]) -> list[Row]:
        """Return the rows of these inputs, in their order."""
        return [self.rows[key] for key in dict.fromkeys(map(_key, names)) if key in self.rows]

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._replace(self._journal, self.rows.values())  # without a line that was cut off
        self._file = self._journal.open("a", encoding="utf-8", errors="backslashreplace", newline="")
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def append(self, name: str, row: Row, marks: Row) -> None:
        """Add a result; it is in the file when this returns.

        Args:
            name: Of the input.
            row: Plain JSON values of the result.
            marks: What `marks_of` said before the picture was opened.
        """
        if self._file is None:
            raise RuntimeError("the file is not open; append() belongs into a with block")
        cells = row if self._in_full else next(iter(self._form.cells(row)))
        self.rows[_key(name)] = {**cells, **marks, "settings": self._settings}
        self._file.write(self._line(self.rows[_key(name)]))
        self._file.flush()

    def finish(self, names: Sequence[str]) -> None:
        """Put the rows into the order of the inputs, those of earlier inputs behind them."""
        first = [_key(name) for name in names if _key(name) in self.rows]
        rows = [self.rows[key] for key in dict.fromkeys([*first, *self.rows])]
        if not self._parquet:
            self._replace(self.path, rows)
            return
        table = self._parquet.Table.from_pylist([{c: row.get(c) for c in self._columns} for row in rows])
        with whole_file(self.path) as partial:
            self._parquet.parquet.write_table(table, str(partial))
        self._journal.unlink(missing_ok=True)

    @property
    def _in_full(self) -> bool:
        return not self._is_table and self._parquet is None

    def _is_done(self, name: str) -> bool:
        row = self.rows.get(_key(name))
        if row is None or name == "-" or row.get("error") or row["settings"] != self._settings:
            return False
        return all(str(row[mark] or "") == str(value or "") for mark, value in marks_of(name).items())

    def _read(self) -> list[Row]:
        rows = []
        if self._parquet and self.path.exists():
            rows = self._parquet.parquet.read_table(self.path).to_pylist()
        if self._journal.exists():
            text = self._journal.read_text(encoding="utf-8", errors="backslashreplace")
            rows += self._from_csv(text) if self._is_table else _from_jsonl(text)
        if any(not {"name", *MARKS} <= set(row) for row in rows):
            raise click.UsageError(f"--out {self.path} holds something else than results of predict; name another file")
        return rows

    def _from_csv(self, text: str) -> list[Row]:
        records = list(csv.reader(io.StringIO(text, newline="")))
        if records and not text.endswith("\n"):
            records.pop()
        if not records:
            return []
        header, *lines = records
        if lines and len(lines[-1]) < len(header):  # cut off behind a line break inside quotes
            lines.pop()
        whole = [line for line in lines if len(line) == len(header)]
        return [dict(zip(header, line, strict=True)) for line in whole] if whole == lines else [{}]

    def _replace(self, path: Path, rows: Iterable[Row]) -> None:
        header = self._csv(self._columns) if self._is_table else ""
        text = header + "".join(map(self._line, rows))
        with whole_file(path) as partial:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")

    def _line(self, row: Row) -> str:
        if self._is_table:
            return self._csv([row.get(column) for column in self._columns])
        return json.dumps(row, ensure_ascii=False) + "\n"

    def _csv(self, cells: Iterable[Any]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        return text.getvalue()


def _key(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()  # as it stands in the file


def _from_jsonl(text: str) -> list[Row]:
    lines = text.split("\n")[:-1]  # what stands behind the last line break was cut off
    try:
        rows = [json.loads(line) for line in lines if line]
    except ValueError:
        return [{}]
    return [row if isinstance(row, dict) else {} for row in rows]
