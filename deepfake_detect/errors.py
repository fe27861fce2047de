"""Errors that the package raises on purpose; each is also the builtin that a caller would expect.

::

    DeepfakeDetectError
    ├── InvalidOption      (ValueError, TypeError)  an argument is out of range, of the wrong type, or no known choice
    ├── ImageUnreadable    (ValueError)             not a picture, or a damaged one
    ├── ImageTooLarge      (ValueError)             more pixels than the limit
    ├── UnknownModel       (KeyError)               no architecture of that name
    ├── UnknownWeights     (KeyError)               no pretrained weights of that name
    ├── WeightsCorrupted   (OSError)                the bytes are not those that the card promises
    ├── WeightsMismatch    (ValueError)             the weights or the card do not fit this model or library
    ├── HubUnavailable     (OSError)                the Hub cannot be reached, or refuses
    ├── ServerUnavailable  (OSError)                a server of this library cannot be reached, or refuses
    ├── LayerNotFound      (ValueError)             no layer of that name
    ├── DatasetError       (ValueError)             the data set cannot be read or understood
    ├── BackendUnavailable (RuntimeError)           OpenVINO or ONNX cannot do this with this network
    ├── TrainingDiverged   (RuntimeError)           the loss is not a number any more
    └── MissingExtra       (ImportError)            an optional package is not installed

Every message says what was found, what was expected, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class DeepfakeDetectError(Exception):
    """Any error that this library raises on purpose."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # KeyError would print the repr


class ImageUnreadable(DeepfakeDetectError, ValueError):
    """The input is not a picture, or a damaged or truncated one."""


class ImageTooLarge(DeepfakeDetectError, ValueError):
    """The picture has more pixels than the limit allows."""


class UnknownModel(DeepfakeDetectError, KeyError):
    """No architecture of that name."""


class UnknownWeights(DeepfakeDetectError, KeyError):
    """No pretrained weights of that name."""


class WeightsCorrupted(DeepfakeDetectError, OSError):
    """The bytes of the weights are not those that their card promises."""


class WeightsMismatch(DeepfakeDetectError, ValueError):
    """The weights or their card do not fit the architecture or this library."""


class HubUnavailable(DeepfakeDetectError, OSError):
    """The Hugging Face Hub cannot be reached, or refuses the request."""


class ServerUnavailable(DeepfakeDetectError, OSError):
    """A server of this library cannot be reached, has too much to do, or refuses the request."""


class LayerNotFound(DeepfakeDetectError, ValueError):
    """The model has no layer of that name."""


class DatasetError(DeepfakeDetectError, ValueError):
    """The data set cannot be read, or its labels cannot be interpreted."""


class InvalidOption(DeepfakeDetectError, ValueError, TypeError):
    """An argument is out of range, of the wrong type, or none of the known choices."""


class BackendUnavailable(DeepfakeDetectError, RuntimeError):
    """The backend that was chosen cannot run this network."""


class TrainingDiverged(DeepfakeDetectError, RuntimeError):
    """The loss became infinite or not a number, again and again.

    Attributes:
        history: One `Epoch` for each good epoch before.
    """

    history: tuple[Any, ...] = ()


class MissingExtra(DeepfakeDetectError, ImportError):
    """An optional package is not installed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that is closest to a misspelt one, as the end of an error message.

    Args:
        name: What the caller wrote.
        known: The names that exist.

    Returns:
        ``"; did you mean 'meso4'?"``, or the list of known names where none is near.

    Example:
        >>> nearest("mezo4", ["meso4", "xception"])
        "; did you mean 'meso4'?"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return "; known: " + (", ".join(names) if names else "none")
