"""Scale a part of a picture to a model's input, with Pillow's filters.

``"bilinear"`` and ``"bicubic"`` are the antialiased filters of Pillow 13, byte for byte: the first weights were trained
on them. Here they are matrix products over overlapping strips, which takes half of Pillow's time on a processor with
wide registers.

``"mipmap"`` is what newer weights are trained on. It takes a quarter of that time, and whole numbers below 2**24 alone,
so that Python, a graph of ONNX and a script in a browser give the same bytes:

1. The box is moved to whole pixels: left and top are ``floor(value + 0.5)``, and so are width and height; what would
   then lie beyond the picture is left out.
2. While the height (width) is at least twice the wanted size, it is halved: an odd last row (column) is left out, and
   four pixels become ``(a + b + c + d + 2) >> 2``; two, where one side alone is halved, ``(a + b + 1) >> 1``.
3. What is left is scaled linearly, by less than two where it shrinks: pixel ``i`` of ``size`` lies at
   ``x = (i + 0.5) * length / size - 0.5``, between the pixels ``a = floor(x)`` and ``a + 1``, which weigh ``256 - w``
   and ``w = round((x - a) * 256)``, a half to the even number; beyond the edge, the edge goes on. First along the
   rows, ``h = (256 - w) * left + w * right``; then along the columns, ``v = (256 - w) * upper + w * lower``; the value
   is ``(v + 32768) >> 16``.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.lib.stride_tricks import as_strided

from deepfake_detect.errors import InvalidOption

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels, which need not be whole."""

_STRIP = 4  # pixels of the result that one strip gives, about: what is wasted at its edges grows, its products shrink
_ONE_THREAD = 2**18  # products from which OpenBLAS uses all processors, while another thread of ours has one already
_SCRATCH = 2**19  # numbers that are held at a time
_DIGITS = 2.0**22  # weights are multiples of its inverse, as in Pillow: sums of such are exact in float64
_HALF_UP = 1 / (4 * _DIGITS)  # OpenCV rounds a half to the even number, Pillow up

_THREAD = threading.local()


def resample(pixels: np.ndarray, box_xyxy: Box | None = None, *, size_px: int, interpolation: str) -> np.ndarray:
    """Scale a part of a picture to a square.

    Args:
        pixels: [H, W, 3] uint8.
        box_xyxy: The part, within the picture; all of it where None. Pixels around it are seen by the filter.
        size_px: Side of the result.
        interpolation: ``"bilinear"``, ``"bicubic"`` or ``"mipmap"``.

    Returns:
        [size_px, size_px, 3] uint8.

    Raises:
        InvalidOption: Another interpolation, or a size below 1.

    Example:
        >>> ramp = np.repeat(np.arange(0, 200, 2, np.uint8)[:, None, None], 3, 2).repeat(50, 1)
        >>> resample(ramp, size_px=4, interpolation="bilinear")[:, 0, 0]
        array([ 29,  74, 124, 169], dtype=uint8)
    """
    if interpolation not in (*_KERNELS, "mipmap") or size_px < 1:
        raise InvalidOption(
            f"interpolation is {interpolation!r} and size_px {size_px}, "
            f"expected one of {', '.join((*_KERNELS, 'mipmap'))}, and at least 1"
        )
    height, width = pixels.shape[:2]
    if box_xyxy is None and height == width == size_px:
        return pixels.copy()
    if interpolation == "mipmap":
        return _mipmap(pixels, box_xyxy or (0, 0, width, height), size_px)
    left, top, right, bottom = np.array(box_xyxy or (0, 0, width, height), np.float32).tolist()  # as Pillow takes them
    across = _plan(width, left, right, size_px, interpolation)
    down = _plan(height, top, bottom, size_px, interpolation)
    pixels = np.ascontiguousarray(pixels)
    if (
        0 < height - size_px > 2 * (width - size_px)
    ):  # the rule of Pillow 13; between the two passes there are bytes again
        return _turned(_shrink(_shrink(pixels, down), across, turn=True))
    return _shrink(_turned(_shrink(pixels, across, turn=True)), down)


def _mipmap(pixels: np.ndarray, box_xyxy: Box, size_px: int) -> np.ndarray:
    left, top = (min(math.floor(box_xyxy[axis] + 0.5), pixels.shape[1 - axis] - 1) for axis in (0, 1))
    width, height = (max(1, math.floor(box_xyxy[axis + 2] - box_xyxy[axis] + 0.5)) for axis in (0, 1))
    part = pixels[top : top + height, left : left + width]
    while max(part.shape[:2]) >= 2 * size_px:
        part = _halve(part, down=part.shape[0] >= 2 * size_px, across=part.shape[1] >= 2 * size_px)
    if part.shape[:2] == (size_px, size_px):
        return np.ascontiguousarray(part)
    scaled: np.ndarray = cv2.resize(part, (size_px, size_px), interpolation=cv2.INTER_LINEAR_EXACT)
    return scaled


def _halve(pixels: np.ndarray, *, down: bool, across: bool) -> np.ndarray:
    """Halve the height, the width, or both; an odd last row or column is left out."""
    height, width = (
        side // 2 if halved else side for side, halved in ((pixels.shape[0], down), (pixels.shape[1], across))
    )
    even = pixels[: 2 * height if down else height, : 2 * width if across else width]
    # both of OpenCV's ways give the rounded mean of whole fours, and this one is the faster
    way = cv2.INTER_AREA if down and across else cv2.INTER_LINEAR_EXACT
    halved: np.ndarray = cv2.resize(even, (width, height), interpolation=way)
    return halved


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """How the rows of a picture become those of the result: strips of equal height, that overlap.

    Attributes:
        first: Row at which the first strip begins; may lie before the picture.
        step: Rows from one strip to the next.
        weights: [strips, rows of the result in a strip, rows of the picture in a strip] float64.
        chosen: Which of the strips' rows are those of the result, in order [size].
    """

    first: int
    step: int
    weights: np.ndarray
    chosen: np.ndarray


@functools.lru_cache(maxsize=64)
def _plan(length: int, start: float, end: float, size: int, interpolation: str) -> _Plan:
    """Work out the weights, as Pillow's ``precompute_coeffs`` does, and put them in strips."""
    kernel, reach = _KERNELS[interpolation]
    scale = float(np.float32(end) - np.float32(start)) / size
    wide = max(scale, 1.0)
    centres = start + (np.arange(size) + 0.5) * scale
    first = np.maximum((centres - reach * wide + 0.5).astype(int), 0)
    stop = np.minimum((centres + reach * wide + 0.5).astype(int), length)
    taps = first[:, None] + np.arange((stop - first).max())
    weights = kernel(np.abs(taps - centres[:, None] + 0.5) * (1 / wide)) * (taps < stop[:, None])
    total = np.cumsum(weights, 1)[:, -1:]
    weights /= np.where(total == 0, 1, total)
    weights = np.trunc(weights * _DIGITS + np.copysign(0.5, weights)) / _DIGITS

    step, margin = max(1, round(_STRIP * scale)), int(reach * wide) + 2
    strips = (centres // step).astype(int)
    strips, begin = strips - strips[0], int(strips[0]) * step - margin
    places = np.arange(size) - np.searchsorted(strips, strips)
    laid = np.zeros((strips[-1] + 1, places.max() + 1, step + 2 * margin + taps.shape[1]))
    laid[strips[:, None], places[:, None], taps - begin - strips[:, None] * step] = weights
    laid = np.ascontiguousarray(laid[..., : step + 2 * margin])  # what lies beyond weighs nothing
    return _Plan(first=begin, step=step, weights=laid, chosen=strips * laid.shape[1] + places)


def _turned(pixels: np.ndarray) -> np.ndarray:
    """Swap rows and columns."""
    turned = np.asarray(cv2.transpose(pixels))  # several times as fast as NumPy
    return turned.reshape(pixels.shape[1], pixels.shape[0], -1)


def _shrink(pixels: np.ndarray, plan: _Plan, *, turn: bool = False) -> np.ndarray:
    """Map [length, width, 3] to [size, width, 3]; what shall be turned is given as [width, length, 3]."""
    strips, outputs, height = plan.weights.shape
    above, needed = max(0, -plan.first), (strips - 1) * plan.step + height
    width, channels = pixels.shape[0 if turn else 1], pixels.shape[2]
    result = np.empty((len(plan.chosen), width, channels), np.uint8)
    at_once = max(1, _SCRATCH // (needed * channels))
    for left in range(0, width, at_once):
        part = _turned(pixels[left : left + at_once]) if turn else pixels[:, left : left + at_once]
        part = part[max(0, plan.first) : plan.first + needed]
        filled = part.shape[1] * channels
        parts = -(-filled * outputs * height // _ONE_THREAD)
        numbers = _scratch("in", (needed, parts * -(-filled // parts)))
        numbers[:above], numbers[above + len(part) :], numbers[:, filled:] = 0, 0, 0
        numbers[above : above + len(part), :filled].reshape(part.shape)[...] = part
        rounded = _product(numbers, plan, parts=parts)[plan.chosen, :filled]
        result[:, left : left + at_once] = rounded.reshape(-1, *part.shape[1:])
    return result


def _product(numbers: np.ndarray, plan: _Plan, *, parts: int) -> np.ndarray:
    """Multiply the strips of rows by their weights, so many columns at a time, and round.

    Returns:
        [strips * rows of a strip, columns] uint8.
    """
    strips, outputs, height = plan.weights.shape
    row, number = numbers.strides
    columns = numbers.shape[1] // parts
    views = as_strided(numbers, (strips, parts, height, columns), (plan.step * row, columns * number, row, number))
    products = _scratch("out", (strips, outputs, parts, columns))
    np.matmul(plan.weights[:, None], views, out=products.transpose(0, 2, 1, 3))
    add: Any = cv2.add  # its stub knows no numbers beside arrays
    rounded: np.ndarray = add(products.reshape(strips * outputs, -1), _HALF_UP, dtype=cv2.CV_8U)  # within 0..255, too
    return rounded


def _scratch(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Give memory that this thread has used before: to get new one takes as long as to compute."""
    count = int(np.prod(shape))
    scratch: dict[str, np.ndarray] = _THREAD.__dict__
    if name not in scratch or scratch[name].size < count:
        scratch[name] = np.empty(count)
    return scratch[name][:count].reshape(shape)


def _triangle(distances: np.ndarray) -> np.ndarray:
    return np.where(distances < 1, 1 - distances, 0)


def _cubic(distances: np.ndarray) -> np.ndarray:
    """Keys 1981, "Cubic convolution interpolation for digital image processing", a = -0.5."""
    near = (1.5 * distances - 2.5) * distances * distances + 1
    far = (((distances - 5) * distances + 8) * distances - 4) * -0.5
    return np.where(distances < 1, near, np.where(distances < 2, far, 0))


_KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "bilinear": (_triangle, 1),
    "bicubic": (_cubic, 2),
}
