"""Built-in pictures that have the same pixels on every machine, to compare scores over time.

They are made by integer arithmetic alone: no file, no decoder, no random generator, no floating point. Each card
records the logits of these pictures, and `deepfake-detect doctor` checks that the weights still give them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIDE_PX = 256
"""Side of every golden picture."""

_Pixels = npt.NDArray[np.uint8]
_Grid = npt.NDArray[np.int64]


def golden_pictures() -> dict[str, _Pixels]:
    """Make the built-in pictures.

    Returns:
        Name to [256, 256, 3] uint8 RGB: ``"gradient"`` is smooth, ``"checkerboard"`` has hard edges at five scales,
        ``"noise"`` has every frequency, and ``"face"`` is the drawing of a face.

    Example:
        >>> {name: pixels.shape for name, pixels in golden_pictures().items()}["face"]
        (256, 256, 3)
    """
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.int64)
    return {
        "gradient": _gradient(y, x),
        "checkerboard": _checkerboard(y, x),
        "noise": _noise(),
        "face": _face(y, x),
    }


def _gradient(y: _Grid, x: _Grid) -> _Pixels:
    return _stack(x, y, 255 - (x + y) // 2)


def _checkerboard(y: _Grid, x: _Grid) -> _Pixels:
    """Halve the squares from 32 px on the left to 2 px on the right."""
    power = 5 - x // 52
    square = ((x >> power) + (y >> power)) & 1
    return _stack(40 + 180 * square, 60 + 140 * square, 90 + 90 * square)


def _noise() -> _Pixels:
    """Mix the number of each value by multiplication and shifts, modulo 2**32."""
    mixed = np.arange(SIDE_PX * SIDE_PX * 3, dtype=np.uint32) * np.uint32(2654435761)
    for shift, factor in ((15, 2246822519), (13, 3266489917), (16, 668265263)):
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    return (mixed >> np.uint32(24)).astype(np.uint8).reshape(SIDE_PX, SIDE_PX, 3)


def _face(y: _Grid, x: _Grid) -> _Pixels:
    """Draw hair, face, eyes, nose and mouth as ellipses, shaded from left to right."""
    picture = _stack(90 + y // 4, 120 + y // 4, 150 + y // 8).astype(np.int64)
    shade = (x - 128) // 6
    for centre_x, centre_y, radius_x, radius_y, colour in (
        (128, 118, 84, 104, (70, 48, 36)),
        (128, 136, 68, 92, (214, 168, 140)),
        (100, 116, 15, 8, (240, 238, 232)),
        (156, 116, 15, 8, (240, 238, 232)),
        (100, 116, 7, 7, (52, 40, 34)),
        (156, 116, 7, 7, (52, 40, 34)),
        (128, 148, 9, 20, (196, 146, 120)),
        (128, 190, 27, 9, (168, 78, 82)),
    ):
        dx, dy = (x - centre_x) * radius_y, (y - centre_y) * radius_x
        inside = dx * dx + dy * dy <= (radius_x * radius_y) ** 2
        picture[inside] = np.array(colour) - shade[inside][:, None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def _stack(red: _Grid, green: _Grid, blue: _Grid) -> _Pixels:
    return np.stack([red, green, blue], 2).astype(np.uint8)
