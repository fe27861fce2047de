"""Show the examples of docstrings as code on the reference page. For mkdocs; no part of the package."""

from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Call a section ``Example:`` by the name that griffe reads as code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename it in one docstring."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
