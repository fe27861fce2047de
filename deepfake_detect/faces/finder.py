"""Find the faces of a picture with a network of YuNet's kind."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import cv2
import numpy as np

from deepfake_detect._options import check_choice, check_flag, check_number, check_type
from deepfake_detect.engines.openvino_engine import is_openvino_lost
from deepfake_detect.errors import UnknownWeights, WeightsCorrupted
from deepfake_detect.faces.face import Face
from deepfake_detect.faces.yunet import YuNet
from deepfake_detect.inputs.image import ImageInput, open_image
from deepfake_detect.system.threads import ForkSafeLock

PACKAGED = "dd-yunet@1"
"""The face finder in the wheel: ours, of YuNet's kind; `MODELS.md` says what it misses."""

THRESHOLD = 0.5
"""Confidence from which a face counts: as many false alarms as the published YuNet makes at 0.6, or fewer."""

SIDES_PX = (256, 768)
"""Longer side that a picture is shrunk to, for large and for small faces."""

CLOSER_PX = 3072
"""Longer side for a closer look, in tiles, where a large picture shows no face or only small ones."""

CLOSER_THRESHOLD = 0.8
"""Confidence from which a face counts in a closer look, which sees so much more that may resemble one."""

CONVINCING = 0.95
"""Confidence from which nobody doubts that the picture is upright."""

TURNED_MARGIN = 0.03
"""A picture counts as turned where a face in the turned one is surer by so much than any in the upright one."""

_LOOKS = 2  # version of how a picture is looked at, for caches of faces
_SMALL_PX = 48  # longer side of a face in the second look, below which others may have been too small for it
_TILE_OVERLAP_PX = 128
_OVERLAP = 0.3  # intersection over union from which two boxes are one face

_THREAD = threading.local()  # a network of OpenCV's serves one thread at a time

_LOADING = ForkSafeLock()


class FaceFinder:
    """Find faces with a network of YuNet's kind, run by OpenCV.

    Usable from several threads: each gets a network of its own. Wu et al. 2023, "YuNet: A Tiny
    Millisecond-level Face Detector", Machine Intelligence Research 20.

    Args:
        model: An ONNX file that ``cv2.FaceDetectorYN`` decodes: a path, its bytes,
            ``hf://owner/name/file.onnx`` on the Hub, or None for the packaged one.
        threshold: Confidence in 0..1 from which a face counts.
        backend: ``"opencv"``, which takes all processors for a picture; or ``"openvino"``, which takes one, and half
            the time in all: for many pictures at once. Boxes are the same, to a thousandth of a pixel.

    Raises:
        FileNotFoundError: No such file.
        UnknownWeights: No such repository on the Hub, or the address names no file.
        WeightsCorrupted: OpenCV cannot read the file.
        InvalidOption: A threshold out of range, or another backend.
        MissingExtra: ``backend="openvino"``, and OpenVINO is not installed.

    Example:
        >>> import numpy as np
        >>> FaceFinder().find(np.zeros((64, 64, 3), np.uint8))
        []
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | None = None,
        *,
        threshold: float = THRESHOLD,
        backend: Literal["opencv", "openvino"] = "opencv",
        local_files_only: bool = False,
    ) -> None:
        check_number("threshold", threshold, low=0, high=1)
        check_choice("backend", backend, ("opencv", "openvino"))
        self.name, self.weights = _read_model(model, local_files_only=local_files_only)
        self.fingerprint = f"{hashlib.sha256(self.weights).hexdigest()[:16]} {threshold} {_LOOKS}"
        self.threshold = threshold
        self._network()
        compiled = backend == "openvino" and not is_openvino_lost()
        self._yunet = YuNet(self.weights, threshold=threshold, suppress=self._suppress) if compiled else None

    def find(self, pixels: np.ndarray, *, border: bool = False) -> list[Face]:
        """Find the faces of one picture, largest first.

        Args:
            pixels: [H, W, 3] uint8 RGB.
            border: Where no face is found, look once more with a border around the picture: tight
                crops leave the network too little to see around the face.

        Returns:
            Faces with boxes inside the picture, in its pixels; empty where there is none.
        """
        rows = self._look(pixels)
        if _may_hold_small_faces(rows, pixels.shape):
            rows = _add_new(rows, self._look_closer(pixels))
        if border and not len(rows):
            rows = self._look_with_border(pixels)
        if self._is_turned(rows, pixels):
            return []
        height, width = pixels.shape[:2]
        faces = [_face(row, height, width) for row in rows]
        return sorted((face for face in faces if _area(face.box_xyxy) >= 1), key=lambda f: -_area(f.box_xyxy))

    def _look(self, pixels: np.ndarray) -> np.ndarray:
        """Look for large, then for small faces: rows of box, points, confidence [N, 15]."""
        longer = max(pixels.shape[:2])
        sides = [min(SIDES_PX[0], longer)]
        if longer > 1.5 * SIDES_PX[0]:
            sides.append(min(SIDES_PX[1], longer))
        return _drop_doubles(np.concatenate([self._look_at(pixels, side / longer) for side in sides]))

    def _look_closer(self, pixels: np.ndarray) -> np.ndarray:
        """Look for faces that are too small for `_look`, in tiles that overlap."""
        scale = min(1.0, CLOSER_PX / max(pixels.shape[:2]))
        side, step = round(SIDES_PX[-1] / scale), round((SIDES_PX[-1] - _TILE_OVERLAP_PX) / scale)
        tiles = [np.zeros((0, 15), np.float32)]
        for top in _starts(pixels.shape[0], side, step):
            for left in _starts(pixels.shape[1], side, step):
                rows = self._look_at(np.ascontiguousarray(pixels[top : top + side, left : left + side]), scale)
                rows[:, [0, *range(4, 14, 2)]] += left
                rows[:, [1, *range(5, 14, 2)]] += top
                tiles.append(rows)
        rows = np.concatenate(tiles)
        return _drop_doubles(rows[rows[:, 14] >= max(self.threshold, CLOSER_THRESHOLD)])

    def _is_turned(self, rows: np.ndarray, pixels: np.ndarray) -> bool:
        """Tell whether the picture lies on its side or upside down: what was found upright is then no face."""
        surest = float(rows[:, 14].max()) if len(rows) else 1.0
        if surest >= CONVINCING:
            return False
        pixels, _ = _shrink(pixels)
        turned = (self._look(np.ascontiguousarray(np.rot90(pixels, turns))) for turns in (2, 1, 3))
        return any(len(other) and other[:, 14].max() >= surest + TURNED_MARGIN for other in turned)

    def _look_at(self, pixels: np.ndarray, scale: float) -> np.ndarray:
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        if scale < 1:
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        yunet = self._yunet and (None if is_openvino_lost() else self._yunet)  # in a forked child OpenCV finds the same
        rows = self._detect(pixels) if yunet is None else yunet.detect(pixels)
        rows[:, :14] /= scale
        return rows

    def _detect(self, pixels: np.ndarray) -> np.ndarray:
        network = self._network()
        network.setInputSize((pixels.shape[1], pixels.shape[0]))
        _, rows = network.detect(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        return np.zeros((0, 15), np.float32) if rows is None else np.asarray(rows)

    def _suppress(self, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), self.threshold, _OVERLAP)
        return np.asarray(kept, np.intp)

    def _look_with_border(self, pixels: np.ndarray) -> np.ndarray:
        pixels, scale_xy = _shrink(pixels)
        pad = max(pixels.shape[:2]) // 3
        rows = self._look(cv2.copyMakeBorder(pixels, pad, pad, pad, pad, cv2.BORDER_REPLICATE))
        rows[:, [0, 1, *range(4, 14)]] -= pad
        rows[:, :14] /= np.tile(scale_xy, 7)
        return rows

    def _network(self) -> Any:
        networks: dict[str, Any] = _THREAD.__dict__.setdefault("networks", {})
        if self.fingerprint not in networks:
            networks[self.fingerprint] = _load_network(self.name, self.weights, self.threshold)
        return networks[self.fingerprint]


def find_faces(
    image: ImageInput,
    *,
    model: str | os.PathLike[str] | bytes | None = None,
    threshold: float = THRESHOLD,
    border: bool = True,
) -> list[Face]:
    """Find the faces of a picture, largest first.

    Args:
        image: Anything that `open_image` takes.
        model: Another face finder; see `FaceFinder`.
        threshold: Confidence in 0..1 from which a face counts.
        border: Look once more with a border where none is found, since a picture may be a tight crop.

    Returns:
        Faces with box, five landmarks and confidence, in pixels of the upright picture.

    Raises:
        ImageUnreadable: Not a picture.
    """
    check_flag("border", border)
    return FaceFinder(model, threshold=threshold).find(open_image(image).pixels, border=border)


def _read_model(model: str | os.PathLike[str] | bytes | None, *, local_files_only: bool) -> tuple[str, bytes]:
    check_type("model", model, (str, os.PathLike, bytes, NoneType), expected="an ONNX file, its bytes, or None")
    if isinstance(model, bytes):
        return "<bytes>", model
    if model is None:
        return PACKAGED, (Path(__file__).parents[1] / "pretrained" / PACKAGED / "finder.onnx").read_bytes()
    if str(model).startswith("hf://"):
        return str(model), _read_from_hub(str(model), local_files_only=local_files_only)
    path = Path(model)
    if not path.is_file():
        raise FileNotFoundError(f"no face finder at {path}; expected an ONNX file that cv2.FaceDetectorYN reads")
    return path.name, path.read_bytes()


def _read_from_hub(address: str, *, local_files_only: bool) -> bytes:
    from deepfake_detect.weights.hub import download_file  # loads the Hub's client

    owner, _, rest = address.removeprefix("hf://").partition("/")
    name, _, file = rest.partition("/")
    if not (owner and name and file):
        raise UnknownWeights(f"{address!r} names no file on the Hub; expected 'hf://owner/name/file.onnx'")
    return download_file(f"{owner}/{name}", file, local_files_only=local_files_only).read_bytes()


def _load_network(name: str, weights: bytes, threshold: float) -> Any:
    data, nothing = np.frombuffer(weights, np.uint8), np.zeros(0, np.uint8)
    with _LOADING, _quiet():
        try:
            return cv2.FaceDetectorYN.create("onnx", data, nothing, (32, 32), threshold, _OVERLAP, 500)
        except cv2.error as error:
            raise WeightsCorrupted(
                f"face finder {name} ({len(weights)} bytes) is no ONNX file that cv2.FaceDetectorYN reads: {error.err}"
            ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back OpenCV 5's warning at every load that targets cannot be chosen, where the host wants to see warnings.

    OpenCV's log level is that of the process: it is raised for the milliseconds of a load, in which warnings of other
    threads are held back, too, and nothing else; a level that the host sets meanwhile stays.
    """
    log = cv2.utils.logging
    level = log.getLogLevel()
    if level > log.LOG_LEVEL_ERROR:
        log.setLogLevel(log.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        if log.getLogLevel() == log.LOG_LEVEL_ERROR:
            log.setLogLevel(level)


def _drop_doubles(rows: np.ndarray, *, overlap: float = _OVERLAP) -> np.ndarray:
    """Keep the surest of faces that overlap, as when both scales found one."""
    boxes = [[float(value) for value in row[:4]] for row in rows]
    kept = cv2.dnn.NMSBoxes(boxes, [float(row[14]) for row in rows], 0.0, overlap) if boxes else []
    return rows[np.asarray(kept, np.intp)]


def _shrink(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shrink a very large picture before it is copied with a border, which would take gigabytes; give the scale, too.

    Without a limit a strip of 1 x 60,000 pixels would get a border of 20,000 pixels on every side.
    """
    height, width = pixels.shape[:2]
    scale = CLOSER_PX / max(height, width)
    if scale >= 1:
        return pixels, np.ones(2, np.float32)
    new_height, new_width = (max(1, round(side * scale)) for side in (height, width))
    scale_xy = np.array([new_width / width, new_height / height], np.float32)
    return cv2.resize(pixels, (new_width, new_height), interpolation=cv2.INTER_AREA), scale_xy


def _may_hold_small_faces(rows: np.ndarray, shape: tuple[int, ...]) -> bool:
    longer = max(shape[:2])
    largest = rows[:, 2:4].max() if len(rows) else 0.0
    return longer > 1.5 * SIDES_PX[-1] and largest * SIDES_PX[-1] / longer < _SMALL_PX


def _starts(length: int, side: int, step: int) -> list[int]:
    """Return where tiles begin that cover a length, the last one at its end."""
    last = max(0, length - side)
    return [*range(0, last, step), last]


def _add_new(rows: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Add the faces that none of those found before overlaps, which stay as they are."""
    firm = rows.copy()
    firm[:, 14] += 1.0
    kept = _drop_doubles(np.concatenate([firm, more]))
    kept[kept[:, 14] > 1.0, 14] -= 1.0
    return kept


def _face(row: np.ndarray, height: int, width: int) -> Face:
    x, y, w, h = (float(value) for value in row[:4])
    box = (max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height)))
    return Face(
        box_xyxy=box,
        landmarks_xy=row[4:14].reshape(5, 2).astype(np.float32),
        confidence=min(1.0, float(row[14])),
    )


def _area(box_xyxy: tuple[float, float, float, float]) -> float:
    x1, y1, x2, y2 = box_xyxy
    return max(0.0, x2 - x1) * max(0.0, y2 - y1)
