"""Read JUMBF boxes (ISO/IEC 19566-5), the form in which C2PA manifests are stored, with limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from deepfake_detect.provenance.bmff import iterate_boxes

MAX_DEPTH: Final = 8
MAX_BOXES: Final = 2048


@dataclass(slots=True, kw_only=True)
class JumbfBox:
    """A superbox.

    Attributes:
        uuid: Type of its content, 16 bytes.
        label: Its name.
        content: Its content boxes as pairs of type and bytes, such as ``(b"cbor", ...)``.
        children: The superboxes inside.
    """

    uuid: bytes
    label: str
    content: list[tuple[bytes, bytes]] = field(default_factory=list)
    children: list[JumbfBox] = field(default_factory=list)

    def child(self, label: str) -> JumbfBox | None:
        """Return the superbox inside of that label; of several with a version, the last."""
        matches = [box for box in self.children if box.label == label or box.label.startswith(f"{label}.v")]
        return matches[-1] if matches else None

    def data(self, kind: bytes) -> bytes:
        """Return the content of the first content box of a type; empty where there is none."""
        return next((body for name, body in self.content if name == kind), b"")


class JumbfError(ValueError):
    """The boxes break a limit."""


def read_jumbf(data: bytes) -> list[JumbfBox]:
    """Read the superboxes of a JUMBF structure.

    Args:
        data: Boxes of type ``jumb``; others are skipped.

    Raises:
        JumbfError: More boxes or levels than the limits allow.
    """
    return _read(data, 0, len(data), 0, [0])


def _read(data: bytes, start: int, end: int, depth: int, count: list[int]) -> list[JumbfBox]:
    boxes = []
    for kind, first, last in iterate_boxes(data, start, end):
        count[0] += 1
        if depth > MAX_DEPTH or count[0] > MAX_BOXES:
            raise JumbfError(f"more than {MAX_DEPTH} levels or {MAX_BOXES} boxes")
        box = _superbox(data, first, last, depth, count) if kind == b"jumb" else None
        if box is not None:
            boxes.append(box)
    return boxes


def _superbox(data: bytes, start: int, end: int, depth: int, count: list[int]) -> JumbfBox | None:
    boxes = iterate_boxes(data, start, end)
    kind, first, last = next(boxes, (b"", 0, 0))
    if kind != b"jumd" or last - first < 17:
        return None
    has_label = data[first + 16] & 2
    label = data[first + 17 : last].partition(b"\0")[0].decode("utf-8", "replace") if has_label else ""
    box = JumbfBox(uuid=data[first : first + 16], label=label)
    for name, inner, stop in boxes:
        if name != b"jumb":
            count[0] += 1
            box.content.append((name, data[inner:stop]))
    box.children = _read(data, last, end, depth + 1, count)
    return box
