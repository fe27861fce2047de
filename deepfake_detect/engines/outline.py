"""Which operations is a network made of, told without torch?

The networks are written in torch. What one computes when it is used is told here once more as a plain list, which
`models.recorded` writes from the network itself, so that `compiled` can build it elsewhere. The lists of the
architectures come with the package; a test records them again and compares.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OUTLINES = Path(__file__).with_name("outlines")
"""The lists that come with the package, one file for each architecture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation on maps [N, C, H, W] or features [N, C].

    Attributes:
        kind: One of the names in `compiled`, such as ``"conv"``.
        inputs: Places in the list of the operations whose results it takes.
        weights: What its keys in the state dict begin with; empty where it has none.
        settings: Numbers that belong to the kind, such as ``stride``.
    """

    kind: str
    inputs: tuple[int, ...] = ()
    weights: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


def known_outline(architecture: str) -> tuple[Operation, ...] | None:
    """Give the operations of an architecture, the pictures first and the logits last; None where none is packaged.

    Example:
        >>> [operation.kind for operation in known_outline("meso4")[:4]]
        ['pictures', 'conv', 'relu', 'norm']
    """
    file = OUTLINES / file_name(architecture)
    if not file.is_file():
        return None
    values = json.loads(file.read_text("utf-8"))
    return tuple(Operation(**{**value, "inputs": tuple(value.get("inputs", ()))}) for value in values)


def file_name(architecture: str) -> str:
    """Name the file of an architecture in `OUTLINES`."""
    return architecture.replace(":", "-").replace("/", "-") + ".json"


def to_json(outline: Iterable[Operation]) -> str:
    """Give the text of such a file: an operation a line, without what is empty."""
    values = ({key: value for key, value in dataclasses.asdict(operation).items() if value} for operation in outline)
    return "[\n" + ",\n".join(json.dumps(value) for value in values) + "\n]\n"
