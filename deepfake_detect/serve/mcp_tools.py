"""Do what the tools of the MCP server do, without the protocol."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any, Final, Literal

from deepfake_detect.detector import Detector
from deepfake_detect.errors import ImageTooLarge, ImageUnreadable, MissingExtra
from deepfake_detect.inputs.source import open_bytes
from deepfake_detect.predict.look import FaceChoice
from deepfake_detect.provenance.inspector import inspect_metadata
from deepfake_detect.weights.onnx_file import find_weights

MOST_BYTES: Final = 64 * 2**20
"""Bytes of the largest picture that a tool opens."""

MOST_WIDE_PX: Final = 1400
"""Greatest width and height of a drawn explanation, so that it fits what an assistant reads."""


class PictureTools:
    """Check, explain and inspect pictures for an assistant.

    Args:
        model: A packaged name, a folder, an ONNX file or a Hub repository; loaded when it is first needed.
        device: As for `Predictor`.

    Raises:
        DeepfakeDetectError: There is no such model.
    """

    def __init__(self, model: str, *, device: str = "auto") -> None:
        find_weights(model)  # a wrong name is an error now, not in the first call
        self._model, self._device = model, device
        self._loading = threading.Lock()
        self._loaded: Detector | None = None

    def check_image(self, image: str, faces: FaceChoice = "auto", threshold: float | None = None) -> dict[str, Any]:
        """Score a picture; the result is that of `Prediction.to_dict`."""
        return self._detector().predict(_open(image), faces=faces, threshold=threshold).to_dict()

    def explain_image(self, image: str, target: Literal["fake", "real"] | None = None) -> tuple[dict[str, Any], bytes]:
        """Explain a score: `Explanation.to_dict`, and the drawn explanation as PNG."""
        explanation = self._detector().explain(_open(image), target=target)
        drawn, file = explanation.plot(), io.BytesIO()
        drawn.thumbnail((MOST_WIDE_PX, MOST_WIDE_PX))
        drawn.save(file, "PNG")
        return explanation.to_dict(), file.getvalue()

    def inspect_metadata(self, image: str) -> dict[str, Any]:
        """Read what a file says of its origin, as `MetadataFindings.to_dict`."""
        return inspect_metadata(_open(image)).to_dict()

    def _detector(self) -> Detector:
        with self._loading:
            if self._loaded is None:
                self._loaded = Detector.from_pretrained(self._model, device=self._device)
            return self._loaded


def require_mcp() -> None:
    """Check that the extra ``[mcp]`` is installed.

    Raises:
        MissingExtra: It is not.
    """
    try:
        import mcp.server.mcpserver  # noqa: F401
    except ImportError as error:
        raise MissingExtra(f"the MCP server needs mcp 2; run: pip install 'deepfake-detect[mcp]' ({error})") from error


def _open(image: str) -> io.BytesIO:
    """Read a picture into memory, a URL only from a public address."""
    name = image if len(image) < 200 else f"{image[:40]}..."
    if not image or "\0" in image:
        raise ImageUnreadable("image is empty, expected a path, a URL or a data URI")
    is_text = image.startswith(("http://", "https://", "data:"))
    with open_bytes(image if is_text else Path(image).expanduser(), name=name, public_only=True) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ImageTooLarge(f"{name}: more than {MOST_BYTES:,} bytes, the most that is opened; make the file smaller")
    held = io.BytesIO(content)
    held.name = name
    return held
