"""Count the modules that a call of the public API passes, and those that its argument passes.

    python benchmarks/modules_passed.py [--list] [--only predict]

Every call is made twice on the smallest packaged detector, and the second is watched with ``sys.setprofile``, in all of
its threads. *Entered* are the modules of the package of which some function ran; *argument* those of which a function
got the very object that the caller gave; *opened* those that got it or what was opened of it: a picture or its pixels,
or the samples of a data set. Works on any checkout that stands first on ``PYTHONPATH``.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import av
import numpy as np
from PIL import Image

import deepfake_detect
from deepfake_detect import Detector

PACKAGE = Path(deepfake_detect.__file__).parent
EXAMPLES = Path(__file__).parents[1] / "examples"
FORMS = ("Picture", "Taken", "Sample")
"""Classes that an opened picture, a picture that was taken over, or a row of a data set is an instance of."""


class Passage:
    """Notes the modules that are entered, and those that get an argument or what was opened of it.

    Args:
        argument: The object that the caller gives.
    """

    def __init__(self, argument: Any) -> None:
        self.argument = argument
        self.entered: set[str] = set()
        self.held: set[str] = set()
        self.opened: set[str] = set()
        self._pixels: list[np.ndarray] = []  # of opened pictures, kept so that no other object gets their address
        self._modules: dict[CodeType, str | None] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or (module := self._module(frame.f_code)) is None:
            return
        self.entered.add(module)
        names = frame.f_code.co_varnames[: _parameters(frame.f_code)]
        values = [frame.f_locals.get(name) for name in names]
        if any(value is self.argument for value in values):
            self.held.add(module)
        if any(value is self.argument or self._is_opened(value) for value in values):
            self.opened.add(module)

    def _is_opened(self, value: Any) -> bool:
        if isinstance(value, list | tuple) and value:
            value = value[0]
        if type(value).__name__ == "Picture":
            self._pixels.append(value.pixels)
        return type(value).__name__ in FORMS or any(value is pixels for pixels in self._pixels)

    def _module(self, code: CodeType) -> str | None:
        if code not in self._modules:
            path = Path(code.co_filename)
            inside = path.is_relative_to(PACKAGE) and code.co_name != "<module>"
            self._modules[code] = path.relative_to(PACKAGE).with_suffix("").as_posix() if inside else None
        return self._modules[code]


def watch(call: Callable[[], Any], argument: Any) -> Passage:
    """Make a call twice, so that nothing is imported or loaded any more, and watch the second."""
    call()
    passage = Passage(argument)
    threading.setprofile(passage)
    sys.setprofile(passage)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return passage


def calls(folder: Path) -> dict[str, tuple[Callable[[], Any], Any]]:
    """Return the calls, each with its argument."""
    detector = Detector.from_pretrained("meso4-fakefaces", device="cpu", backend="torch")
    picture, film = EXAMPLES / "portrait.jpg", _film(folder / "film.mp4")
    data = [(EXAMPLES / name, label) for name, label in (("portrait.jpg", "real"), ("portrait_fake.jpg", "fake"))] * 4
    return {
        "predict": (lambda: detector.predict(picture), picture),
        "explain": (lambda: detector.explain(picture), picture),
        "predict_video": (lambda: detector.predict_video(film, max_frames=2), film),
        "evaluate": (lambda: detector.evaluate(data), data),
        "fine_tune": (lambda: detector.fine_tune(data, epochs=1, augment="none"), data),
    }


def _parameters(code: CodeType) -> int:
    flags = (inspect.CO_VARARGS, inspect.CO_VARKEYWORDS)
    return code.co_argcount + code.co_kwonlyargcount + sum(bool(code.co_flags & flag) for flag in flags)


def _film(path: Path) -> Path:
    with av.open(str(path), "w") as file, Image.open(EXAMPLES / "portrait.jpg") as image:
        frame = av.VideoFrame.from_image(image.convert("RGB"))
        stream = file.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
        for _ in range(4):
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the modules, too")
    parser.add_argument("--only", help="one of the calls")
    options = parser.parse_args()
    print(f"{'':<16}{'entered':>8}{'argument':>10}{'opened':>8}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DEEPFAKE_DETECT_CACHE"] = folder
        for name, (call, argument) in calls(Path(folder)).items():
            if options.only in (None, name):
                passage = watch(call, argument)
                print(f"{name:<16}{len(passage.entered):>8}{len(passage.held):>10}{len(passage.opened):>8}")
                if options.list:
                    print("    argument:", *sorted(passage.held))
                    print("    opened:  ", *sorted(passage.opened - passage.held))
                    print("    others:  ", *sorted(passage.entered - passage.opened))


if __name__ == "__main__":
    main()
