"""Progress bars on standard error, which vanish where it is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sized
from typing import Any


def progress_bar(
    items: Iterable[Any] | None = None, *, total: int | None = None, title: str = "", unit: str = "picture"
) -> Any:
    """Make a bar of tqdm's: shown on a terminal and in a notebook, hidden where output is redirected or closed.

    No thread is started to watch it, unlike tqdm's default.

    Args:
        items: Passed on one by one, if any.
        total: How many there are; that of ``items`` where None.
        title: In front of the bar.
        unit: Of what is counted.

    Returns:
        The bar: iterate over it, or call its ``update``; a context manager, too.

    Example:
        >>> list(progress_bar("ab", title="letters"))
        ['a', 'b']
    """
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0

    total = len(items) if total is None and isinstance(items, Sized) else total
    return Bar(items, total=total, desc=title, unit=unit, leave=False, disable=not _is_shown())


def _is_shown() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        return True
    return sys.stderr is not None and sys.stderr.isatty()
