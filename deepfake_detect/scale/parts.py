"""Keep the rows of a data set in a folder of Parquet files, to which many processes add at once.

Each file is one batch. Its name follows from the pictures and the settings, so that a batch that is scored twice, since
a process died after writing it, replaces itself.
"""

from __future__ import annotations

import contextlib
import posixpath
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from deepfake_detect.errors import InvalidOption, MissingExtra
from deepfake_detect.scale.rows import Row, fingerprint

MARKS = ("size_bytes", "modified_ns", "settings")
"""What a row says beside the result: size and time of change of the file, and a fingerprint of the settings."""

_SUFFIX = ".parquet"


class PartFolder:
    """A folder of Parquet files, local or on S3, Google Cloud Storage or HDFS, as pyarrow opens them.

    Args:
        out: A path, or an address such as ``s3://bucket/scores.parquet``.
        settings: Fingerprint of everything that a row depends on beside the picture.

    Raises:
        MissingExtra: pyarrow is not installed.
        InvalidOption: There is a file of that name, or no such file system.
    """

    def __init__(self, out: str, *, settings: str) -> None:
        self._arrow = require_arrow()
        from pyarrow import fs

        try:
            self._files: Any
            self._root: str
            self._files, self._root = fs.FileSystem.from_uri(out) if "://" in out else (fs.LocalFileSystem(), out)
        except (ValueError, OSError) as error:
            raise InvalidOption(
                f"out={out!r}: {error}; expected a path or an address such as s3://bucket/name"
            ) from None
        if self._files.get_file_info(self._root).type == fs.FileType.File:
            raise InvalidOption(f"out={out!r} is a file, expected a folder of Parquet files; choose another name")
        self.settings = settings

    def write(self, rows: Sequence[Row]) -> None:
        """Write the rows of a batch as one file, wholly or not at all."""
        name = fingerprint(self.settings, [row["path"] for row in rows])
        table = self._arrow.Table.from_pylist([{**row, "settings": self.settings} for row in rows], self._schema())
        self._files.create_dir(self._root, recursive=True)
        self._replace(f"part-{name}{_SUFFIX}", table)

    def done(self) -> dict[str, Row]:
        """Return path to marks of every picture that was scored without an error, by these settings.

        Where a picture stands in several files, the first with these settings counts.
        """
        known: dict[str, Row] = {}
        for name in self._names():
            table = self._read(name, ["path", "error", *MARKS])
            for row in table.to_pylist():
                if row["settings"] == self.settings and row["error"] is None:
                    known.setdefault(row["path"], {mark: row[mark] for mark in MARKS[:2]})
        return known

    def drop(self, paths: Iterable[str]) -> None:
        """Remove the rows of pictures that are scored anew, file by file."""
        stale = set(paths)
        if not stale:
            return
        for name in self._names():
            kept = [path not in stale for path in self._read(name, ["path"]).column("path").to_pylist()]
            if not any(kept):
                self._files.delete_file(self._path(name))
            elif not all(kept):
                self._replace(name, self._read(name).filter(self._arrow.array(kept)))

    def read(self) -> Any:
        """Return all rows as one pyarrow table; empty where there are none."""
        tables = [self._read(name) for name in self._names()]
        return self._arrow.concat_tables(tables) if tables else self._schema().empty_table()

    def _names(self) -> Iterator[str]:
        from pyarrow import fs

        for info in self._files.get_file_info(fs.FileSelector(self._root, allow_not_found=True)):
            if info.base_name.endswith(_SUFFIX) and not info.base_name.startswith("."):
                yield info.base_name

    def _read(self, name: str, columns: list[str] | None = None) -> Any:
        from pyarrow import parquet

        return parquet.read_table(self._path(name), columns=columns, filesystem=self._files)

    def _replace(self, name: str, table: Any) -> None:
        from pyarrow import parquet

        partial = self._path(f".{uuid.uuid4().hex}.partial")
        try:
            parquet.write_table(table, partial, filesystem=self._files)
            self._files.move(partial, self._path(name))
        except BaseException:
            with contextlib.suppress(OSError):
                self._files.delete_file(partial)
            raise

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name)

    def _schema(self) -> Any:
        arrow = self._arrow
        text, real, whole = arrow.string(), arrow.float64(), arrow.int64()
        face = arrow.struct([("box_xyxy", arrow.list_(real)), ("label", text), ("score", real)])
        kinds = {
            "path": text, "label": text, "score": real, "logit": real, "faces": arrow.list_(face), "width": whole,
            "height": whole, "error": text, "weights": text, "weights_sha256": text, "size_bytes": whole,
            "modified_ns": whole, "settings": text,
        }  # fmt: skip
        return arrow.schema(kinds)


def require_arrow() -> Any:
    """Import pyarrow.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("a Parquet file needs pyarrow; run: pip install 'deepfake-detect[parquet]'") from error
    return pyarrow
