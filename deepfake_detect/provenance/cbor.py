"""Decode CBOR (RFC 8949) with limits on depth, items and size."""

from __future__ import annotations

import struct
from typing import Any, Final

MAX_DEPTH: Final = 32
MAX_ITEMS: Final = 50_000


class ItemBudget:
    """How many items may still be decoded, of one value or of several.

    Args:
        left: So many.
    """

    def __init__(self, left: int = MAX_ITEMS) -> None:
        self.left = left


_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_BREAK = object()


class CborError(ValueError):
    """The data are no CBOR, or break a limit."""


def decode_cbor(data: bytes, *, budget: ItemBudget | None = None) -> Any:
    """Decode one value.

    Args:
        data: CBOR; bytes after the first value are ignored.
        budget: Shared by the values of a file; None allows `MAX_ITEMS`.

    Returns:
        Dictionaries with text keys, lists, texts, bytes, numbers, booleans and None; of a tag, the tagged value.

    Raises:
        CborError: It is damaged, too deep or too large.

    Example:
        >>> decode_cbor(bytes.fromhex("a26161016162820203"))
        {'a': 1, 'b': [2, 3]}
    """
    return _Decoder(data, budget or ItemBudget()).value(0)


class _Decoder:
    def __init__(self, data: bytes, budget: ItemBudget) -> None:
        self._data, self._place, self._budget = data, 0, budget

    def value(self, depth: int) -> Any:
        self._budget.left -= 1
        if depth > MAX_DEPTH or self._budget.left < 0:
            raise CborError(f"more than {MAX_DEPTH} levels or {MAX_ITEMS:,} items")
        first = self._take(1)[0]
        kind, short = first >> 5, first & 31
        if kind == 7:
            return self._simple(short)
        length = None if short == 31 else self._argument(short)
        if kind in (0, 1):
            if length is None:
                raise CborError("an integer without a length")
            return length if kind == 0 else -1 - length
        if kind in (2, 3):
            raw = self._string(length, depth)
            return raw if kind == 2 else raw.decode("utf-8", "replace")
        if kind == 6:
            return self.value(depth + 1)
        return self._array(length, depth) if kind == 4 else self._map(length, depth)

    def _take(self, count: int) -> bytes:
        piece = self._data[self._place : self._place + count]
        if len(piece) < count:
            raise CborError("cut off")
        self._place += count
        return piece

    def _argument(self, short: int) -> int:
        if short < 24:
            return short
        if short > 27:
            raise CborError("a reserved length")
        return int.from_bytes(self._take(1 << (short - 24)), "big")

    def _simple(self, short: int) -> Any:
        if short == 31:
            return _BREAK
        if short in _FLOATS:
            return struct.unpack(_FLOATS[short], self._take(1 << (short - 24)))[0]
        return _SIMPLE.get(self._take(1)[0] if short == 24 else short)

    def _string(self, length: int | None, depth: int) -> bytes:
        if length is not None:
            return self._take(length)
        pieces = self._array(None, depth)
        if not all(isinstance(piece, (str, bytes)) for piece in pieces):
            raise CborError("a string made of something else")
        return b"".join(piece.encode() if isinstance(piece, str) else piece for piece in pieces)

    def _array(self, length: int | None, depth: int) -> list[Any]:
        values: list[Any] = []
        while length is None or len(values) < length:
            value = self.value(depth + 1)
            if value is _BREAK:
                if length is not None:
                    raise CborError("an end in the wrong place")
                break
            values.append(value)
        return values

    def _map(self, length: int | None, depth: int) -> dict[str, Any]:
        values = self._array(None if length is None else 2 * length, depth)
        if len(values) % 2:
            raise CborError("a key without a value")
        return {str(key): value for key, value in zip(values[::2], values[1::2], strict=True)}
