"""Progress bars on standard error, which vanish where it is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sized
from typing import Any


def progress_bar(
    items: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    title: str = "",
    unit: str = "picture",
    initial: int = 0,
    show: bool | None = None,
) -> Any:
    """Make a progress bar of tqdm, without the thread that tqdm starts to watch its bars.

    It stands on standard error: on a terminal and in a notebook, but not where output is redirected or closed.

    Args:
        items: Passed on one by one, if any.
        total: How many there are; that of ``items`` where None.
        title: In front of the bar.
        unit: Name of what is counted.
        initial: How many are done already.
        show: True shows it on a redirected standard error, too; False never; None only where someone can see it.

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
    is_hidden = sys.stderr is None or not (_is_seen() if show is None else show)
    return Bar(items, total=total, desc=title, unit=unit, initial=initial, leave=False, disable=is_hidden)


def _is_seen() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        return True
    return sys.stderr is not None and sys.stderr.isatty()
