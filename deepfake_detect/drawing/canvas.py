"""Set up charts in one style, and render them.

The only module that imports matplotlib, which comes with ``pip install 'deepfake-detect[plots]'``.
No window is opened, and no global setting outlives a chart.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from PIL import Image

from deepfake_detect.errors import MissingExtra

INKS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a6a00", "#000000")
"""Line colours after Okabe and Ito, with a darker yellow: distinct with any kind of colour vision."""

MARKS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
"""A marker for each colour."""

INK: Final = "#1a1a1a"
"""Colour of text."""

SOFT: Final = "#8a8a8a"
"""Colour of baselines and axes."""

_DPI = 144
_STYLE: Final[Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 8,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def draw_chart(
    width: float, height: float, *, rows: int = 1, columns: int = 1, title: str = ""
) -> Iterator[tuple[list[Any], Callable[[], Image.Image]]]:
    """Yield empty axes in the style of the package, to draw on inside the ``with``.

    Args:
        width: Inches, of 144 pixels each.
        height: Inches.
        rows: Rows of axes.
        columns: Columns of axes.
        title: Title above all axes.

    Yields:
        The axes, row by row, and a function that returns the picture after the ``with``.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra(
            f"drawing curves needs matplotlib ({error}); run: pip install 'deepfake-detect[plots]'"
        ) from None
    done: list[Image.Image] = []
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        canvas: Any = FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        yield list(axes.flat), done.pop
        file = io.BytesIO()
        canvas.print_png(file)
        done.append(Image.open(file).convert("RGB"))
