"""Names of a package whose modules are imported when a name is first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def lazy_exports(
    package: str, homes: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and ``__dir__`` of a package that imports its modules on demand (PEP 562).

    Args:
        package: ``__name__`` of the package.
        homes: Module, relative to the package, to the names that come from it.

    Returns:
        ``__getattr__`` and ``__dir__``, to be assigned in the package.

    Example:
        >>> getattr_, dir_ = lazy_exports("collections", {"abc": ["Sized"]})
        >>> getattr_("Sized").__name__
        'Sized'
    """
    module_of = {name: module for module, names in homes.items() for name in names}

    def load(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of})

    return load, names
