"""What all results have in common: JSON, tables, files, and how they show themselves in a notebook."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from PIL import Image, ImageShow

from deepfake_detect.errors import DeepfakeDetectError, InvalidOption, MissingExtra
from deepfake_detect.system.atomic import named_write_errors

if TYPE_CHECKING:
    import pandas as pd

Frame: TypeAlias = "pd.DataFrame"
"""A pandas DataFrame; pandas is imported when one is made."""

PLOT_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of the file formats that a plot can be saved in."""


class Result:
    """A result that can be turned into JSON and into a table."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        raise NotImplementedError

    def to_json(self, *, indent: int | None = None) -> str:
        """Return `to_dict` as JSON text, on one line unless an indent is given."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the result as rows of a table: one row, unless the result has several parts."""
        return [flatten(self.to_dict())]

    def to_frame(self) -> Frame:
        """Return `to_rows` as a pandas DataFrame.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return make_frame(self.to_rows())


class DrawnResult(Result):
    """A result that can be drawn, too."""

    __slots__ = ()
    _notebook_px: ClassVar[tuple[int, int]] = (1000, 1000)  # greatest width and height in a notebook
    _notebook_format: ClassVar[str] = "PNG"

    def plot(self) -> Image.Image:
        """Draw the result."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result as JSON, or its `plot` as a picture.

        Args:
            path: Ends in .json, or in .png, .jpg, .jpeg or .webp; ``~`` is expanded.

        Raises:
            InvalidOption: Any other ending, or the file cannot be written.
        """
        target = Path(os.path.expanduser(path))
        suffix = target.suffix.lower()
        if suffix not in (".json", *PLOT_SUFFIXES):
            raise InvalidOption(f"{target}: ends in {suffix!r}, expected .json or one of {', '.join(PLOT_SUFFIXES)}")
        content = self.to_json(indent=2) + "\n" if suffix == ".json" else self.plot()
        with named_write_errors(target):
            if isinstance(content, str):
                target.write_text(content, encoding="utf-8", errors="backslashreplace")
            else:
                content.save(target, quality=92)

    def show(self) -> None:
        """Show the `plot`: below the cell of a notebook, else in the picture viewer of the system.

        Raises:
            DeepfakeDetectError: There is no viewer; the message says what to do.
        """
        show_picture(self.plot())

    def _repr_html_(self) -> str:
        text = html.escape(repr(self).partition("(")[2].removesuffix(")"))
        try:
            picture = base64.b64encode(self._thumbnail(self._notebook_format)).decode()
        except DeepfakeDetectError:  # the words are still worth showing
            return f"<p>{text}</p>"
        kind = self._notebook_format.lower()
        return f'<figure><img src="data:image/{kind};base64,{picture}"><figcaption>{text}</figcaption></figure>'

    def _repr_png_(self) -> bytes | None:
        try:
            return self._thumbnail("PNG")
        except DeepfakeDetectError:
            return None

    def _thumbnail(self, format_name: str) -> bytes:
        image, file = self.plot(), io.BytesIO()
        image.thumbnail(self._notebook_px)
        image.save(file, format_name)
        return file.getvalue()


def show_picture(picture: Image.Image) -> None:
    """Show a picture: below the cell of a notebook, else in the picture viewer of the system.

    Raises:
        DeepfakeDetectError: There is no viewer; the message says what to do.
    """
    notebook = sys.modules.get("IPython")
    shell = notebook.get_ipython() if notebook else None
    if notebook and hasattr(shell, "kernel"):
        notebook.display.display(picture)
    elif not ImageShow.show(picture):
        raise DeepfakeDetectError(
            "no picture viewer is installed here; save the plot to a file: result.save('out.png')"
        )


def short_name(name: str) -> str:
    r"""Return the last part of a path or URL.

    Example:
        >>> short_name("album/2024/portrait.jpg"), short_name("C:\\album\\portrait.jpg"), short_name("<array>")
        ('portrait.jpg', 'portrait.jpg', '<array>')
    """
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2] or name


def file_stem(name: str, *, most_bytes: int = 100) -> str:
    """Make a safe file name, without ending, of the last part of a path or URL.

    Args:
        name: Path or URL of an input; ``-`` is standard input.
        most_bytes: Longest name in UTF-8; file systems take 255 bytes, endings included.

    Example:
        >>> file_stem("album/my photo (2).jpg"), file_stem("https://host/a.png?size=2"), file_stem("-")
        ('my_photo_2', 'a', 'stdin')
    """
    if name == "-":
        return "stdin"
    last = re.split(r"[?#]", name.rstrip("/"))[0] if "://" in name else name
    stem = re.sub(r"[^\w.-]+", "_", Path(last).stem).strip("._-")
    cut = stem.encode("utf-8", "replace")[:most_bytes].decode("utf-8", "ignore").rstrip("._-")
    return cut or "picture"


def make_frame(rows: list[dict[str, Any]]) -> Frame:
    """Make a pandas DataFrame of rows.

    Raises:
        MissingExtra: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra("a table needs pandas; run: pip install 'deepfake-detect[pandas]'") from error
    return pd.DataFrame(rows)


def flatten(values: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """Make one row of nested JSON values: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``, a list of values one text.

    Example:
        >>> flatten({"name": "x", "scores": {"jpeg": 0.5}, "flips": ["crop"], "faces": [{"score": 1.0}]})
        {'name': 'x', 'scores.jpeg': 0.5, 'flips': 'crop', 'faces': 1}
    """
    row: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            row.update(flatten(value, prefix=f"{prefix}{key}."))
        elif isinstance(value, list | tuple):
            nested = any(isinstance(entry, Mapping | list | tuple) for entry in value)
            row[prefix + key] = len(value) if nested else ", ".join(map(str, value))
        else:
            row[prefix + key] = value
    return row
