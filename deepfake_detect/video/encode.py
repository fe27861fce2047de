"""Write pictures as a video that browsers play: MP4 with H.264, or VP9 where FFmpeg has no encoder for that."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from deepfake_detect.errors import MissingExtra

ENCODERS: Final[dict[str, dict[str, str]]] = {
    "libx264": {"crf": "22", "preset": "veryfast"},
    "libopenh264": {"b": "4M"},
    "libvpx-vp9": {"crf": "34", "b": "0", "deadline": "realtime", "cpu-used": "8"},
}
"""Encoders of FFmpeg in the order in which they are looked for, with their options."""

_CLOCK_HZ = 90_000
_BT709 = 1  # colours of HD video, as FFmpeg numbers primaries, transfer and matrix
_LIMITED = 1  # luma 16 to 235


class VideoWriter:
    """Writes frames with the time of each, so that a variable frame rate stays what it was. Use it in a ``with`` block.

    Args:
        path: Where to write; whatever its ending, it becomes an MP4 file.
        size_hw: Height and width of the frames in pixels, both even.
        fps: Frames per second, about; it only guides the encoder.

    Raises:
        MissingExtra: FFmpeg was built without any of the `ENCODERS`.
    """

    def __init__(self, path: Path, *, size_hw: tuple[int, int], fps: float) -> None:
        import av

        name = find_encoder()
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(min(max(fps, 1.0), 240.0)).limit_denominator(1001)
        stream: Any = self._container.add_stream(name, rate=rate, options=ENCODERS[name])
        stream.height, stream.width = size_hw
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.time_base = Fraction(1, _CLOCK_HZ)
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = _LIMITED
        self._stream, self._last = stream, -1

    def write(self, pixels: npt.NDArray[np.uint8], time_s: float) -> None:
        """Add a frame.

        Args:
            pixels: [H, W, 3] uint8 RGB.
            time_s: From the beginning; later than that of the frame before.
        """
        import av

        frame: Any = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        self._last = max(self._last + 1, round(time_s * _CLOCK_HZ))
        frame.pts, frame.time_base = self._last, Fraction(1, _CLOCK_HZ)
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


def find_encoder() -> str:
    """Return the first of the `ENCODERS` that this FFmpeg has.

    Raises:
        MissingExtra: It has none.
    """
    import av

    known = next((name for name in ENCODERS if name in av.codecs_available), None)
    if known is None:
        raise MissingExtra(
            f"FFmpeg has none of the encoders {', '.join(ENCODERS)}, one of which writes annotated videos; install the "
            "wheel of PyAV: pip install --force-reinstall --only-binary=av av"
        )
    return known
