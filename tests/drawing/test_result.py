"""Test what results have in common: JSON, rows, files, notebooks, and the viewer."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image, ImageShow

from deepfake_detect.drawing.result import DrawnResult, Result, flatten, make_frame, short_name
from deepfake_detect.errors import DeepfakeDetectError, ImageUnreadable, InvalidOption, MissingExtra


class Verdict(DrawnResult):
    _notebook_px: ClassVar[tuple[int, int]] = (60, 60)

    def __init__(self) -> None:
        self.picture: Image.Image | None = Image.new("RGB", (300, 100), "red")

    def to_dict(self) -> dict[str, Any]:
        return {"name": "ä", "scores": {"jpeg": 0.5, "crop": None}, "flips": ["a", "b"], "faces": [{"score": 1.0}]}

    def plot(self) -> Image.Image:
        if self.picture is None:
            raise ImageUnreadable("gone")
        return self.picture.copy()

    def __repr__(self) -> str:
        return "Verdict(a < b (c))"


def test_json_is_one_line_and_refuses_no_number() -> None:
    assert json.loads(Verdict().to_json()) == Verdict().to_dict()
    assert "\n" not in Verdict().to_json() and "ä" in Verdict().to_json()

    class NoNumber(Result):
        def to_dict(self) -> dict[str, Any]:
            return {"score": float("nan")}

    with pytest.raises(ValueError, match="not JSON compliant"):
        NoNumber().to_json()


def test_a_notebook_shows_a_small_plot_above_the_words_or_the_words_alone() -> None:
    verdict = Verdict()
    before, _, rest = verdict._repr_html_().partition("base64,")
    data, _, after = rest.partition('"')
    assert before == '<figure><img src="data:image/png;' and after == "><figcaption>a &lt; b (c)</figcaption></figure>"
    png = verdict._repr_png_()
    assert png is not None and base64.b64decode(data) == png
    assert Image.open(io.BytesIO(png)).size == (60, 20)
    verdict.picture = None
    assert verdict._repr_html_() == "<p>a &lt; b (c)</p>"
    assert verdict._repr_png_() is None


def test_save_writes_json_or_the_plot_and_names_the_endings(tmp_path: Path) -> None:
    Verdict().save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == Verdict().to_dict()
    Verdict().save(tmp_path / "a.PNG")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.PNG")), np.asarray(Verdict().plot()))
    with pytest.raises(InvalidOption, match=r"ends in '.txt', expected .json or one of .png"):
        Verdict().save(tmp_path / "a.txt")


def test_a_frame_has_a_row_for_each_result() -> None:
    frame = Verdict().to_frame()
    assert frame.to_dict("records") == [
        {"name": "ä", "scores.jpeg": 0.5, "scores.crop": None, "flips": "a, b", "faces": 1}
    ]
    assert flatten({}) == {}


def test_without_pandas_the_message_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"pip install 'deepfake-detect\[pandas\]'"):
        make_frame([])


def test_show_takes_the_system_s_viewer_and_says_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(ImageShow, "show", lambda picture: shown.append(picture.size) or True)
    Verdict().show()
    assert shown == [(300, 100)]
    monkeypatch.setattr(ImageShow, "show", lambda picture: False)
    with pytest.raises(DeepfakeDetectError, match=r"no picture viewer.*result\.save"):
        Verdict().show()


def test_show_draws_below_the_cell_of_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    shell = types.SimpleNamespace(kernel=object())
    display = types.SimpleNamespace(display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell, display=display))
    Verdict().show()
    assert [picture.size for picture in shown] == [(300, 100)]


def test_short_names() -> None:
    assert [short_name(name) for name in ("a/b.jpg", "C:\\a\\b.jpg", "http://x/y/", "<bytes>", "/")] == [
        *("b.jpg", "b.jpg", "y", "<bytes>", "/"),
    ]


def test_pandas_is_loaded_only_for_a_frame() -> None:
    code = "import sys, deepfake_detect.drawing.result; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
