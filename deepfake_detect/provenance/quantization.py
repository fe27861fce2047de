"""Compare the quantisation tables of a JPEG with those of known encoders, and find the quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

Table = tuple[int, ...]

_LUMA: Final = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29),
    *(51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121),
    *(120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA: Final = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66),
    *((99,) * 38),
)
_ROBIDOUX: Final = (
    *(16, 16, 16, 18, 25, 37, 56, 85, 16, 17, 20, 27, 34, 40, 53, 75, 16, 20, 24, 31, 43, 62, 91, 135, 18, 27, 31, 40),
    *(53, 74, 106, 156, 25, 34, 43, 53, 69, 94, 131, 189, 37, 40, 62, 74, 94, 124, 169, 238, 56, 53, 91, 106, 131),
    *(169, 226, 311, 85, 75, 135, 156, 189, 238, 311, 418),
)
_FAMILIES: Final = {
    "libjpeg": (_LUMA, _CHROMA),  # ITU-T T.81, annex K
    "mozjpeg": (_ROBIDOUX, _ROBIDOUX),  # its table 3, the default of cjpeg
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """The encoder of a JPEG, by its tables.

    Attributes:
        name: ``"libjpeg"``, ``"mozjpeg"``, ``"Photoshop"``; empty where the tables are those of none of them.
        quality: 1..100 on libjpeg's scale, exact or the nearest; None for Photoshop.
        preset: Photoshop's names of the setting.
    """

    name: str
    quality: int | None
    preset: str = ""


def scale_table(base: Sequence[int], quality: int) -> Table:
    """Scale a table to a quality, as libjpeg does.

    Example:
        >>> scale_table((16, 11, 10), 75)
        (8, 6, 5)
    """
    factor = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(min(max((step * factor + 50) // 100, 1), 255) for step in base)


def identify_encoder(tables: Mapping[int, Table]) -> Encoder | None:
    """Find the encoder whose tables these are.

    Args:
        tables: Number of the table to 64 steps, row by row; 0 is that of brightness.

    Returns:
        The encoder; without a name where none is known, with the nearest quality. None without table 0.

    Example:
        >>> identify_encoder({0: scale_table(_LUMA, 88), 1: scale_table(_CHROMA, 88)})
        Encoder(name='libjpeg', quality=88, preset='')
    """
    if 0 not in tables:
        return None
    luma, chroma = tables[0], tables.get(1)
    if presets := _photoshop_presets(luma, chroma):
        return Encoder(name="Photoshop", quality=None, preset=presets)
    for name, (base, other) in _FAMILIES.items():
        for quality in range(100, 0, -1):
            if luma == scale_table(base, quality) and chroma in (None, scale_table(other, quality)):
                return Encoder(name=name, quality=quality)
    return Encoder(name="", quality=_nearest_quality(luma))


def _nearest_quality(luma: Table) -> int:
    """Return the quality at which libjpeg's steps are nearest on the whole, weighed by their size."""
    return min(range(1, 101), key=lambda quality: _distance(luma, scale_table(_LUMA, quality)))


def _distance(steps: Table, others: Table) -> float:
    return sum(abs(step - other) / (step + other) for step, other in zip(steps, others, strict=True) if step + other)


def _photoshop_presets(luma: Table, chroma: Table | None) -> str:
    names = [name for name, tables in _photoshop_tables() if tables == (luma, chroma)]
    return ", ".join(names)


@cache
def _photoshop_tables() -> tuple[tuple[str, tuple[Table, Table]], ...]:
    """Return Photoshop's tables, as Pillow's documentation of its presets gives them."""
    from PIL.JpegPresets import presets

    tables: dict[str, Any] = {name: preset["quantization"] for name, preset in presets.items()}
    return tuple((name, (tuple(luma), tuple(chroma))) for name, (luma, chroma) in tables.items())
