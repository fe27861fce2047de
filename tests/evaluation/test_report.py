import csv
import json
import math
import re
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepfake_detect.drawing import html
from deepfake_detect.errors import MissingExtra
from deepfake_detect.evaluation.report import Report
from deepfake_detect.evaluation.scored import Row
from deepfake_detect.evaluation.summary import Figures

FACE = np.full((60, 60, 3), 120, np.uint8)
REALS = [0.05, 0.1, 0.2, 0.3, 0.45, 0.8]
FAKES = [0.15, 0.52, 0.7, 0.8, 0.9, 0.99]


def row(label: str, score: float | None, **more: Any) -> Row:
    predicted = more.pop("predicted", "no-face" if score is None else "fake" if score >= 0.5 else "real")
    logit = None if score is None else math.log(score / (1 - score))
    values = {"name": f"{label}/{score}.jpg", "image": FACE, "source": "web", "box_xyxy": (10.0, 10.0, 40.0, 40.0)}
    return Row(**{**values, "label": label, "score": score, "logit": logit, "predicted": predicted, **more})


def rows() -> list[Row]:
    return [
        *(row("real", score, generator="camera", group=f"r{place // 2}") for place, score in enumerate(REALS)),
        *(row("fake", score, generator="gan", tags={"difficulty": "hard"}) for score in FAKES),
        row("real", None, source="phone"),
        row("fake", None, predicted="error", error="cut off <b>", name="<script>.jpg", image="gone.jpg"),
    ]


def report(own: list[Row] | None = None, **more: Any) -> Report:
    values = {"threshold": 0.5, "model": "small@0", "rounds": 20}
    return Report.of_rows(rows() if own is None else own, **{**values, **more})


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data + "\n"


def test_report_has_the_figures_of_all_pictures() -> None:
    own = report()
    assert isinstance(own, Figures) and (own.n, own.real, own.fake) == (12, 6, 6)
    assert (own.no_face, own.unreadable, own.uncertain) == (1, 1, 0)
    assert own.accuracy == pytest.approx(10 / 12) and own.majority == 0.5 and own.collapsed is None
    assert list(own.by) == ["source", "generator", "difficulty"] and list(own.by["source"]) == ["phone", "web"]
    assert own.by["source"]["phone"].no_face == 1 and list(own.generators) == ["gan"]
    assert own.robustness == {} and len(own.rows) == 14


def test_repr_is_one_line() -> None:
    assert repr(report()) == "Report(small@0, n 12, 1 no face, 1 unreadable, AUC 0.819, balanced accuracy 0.833)"
    both = [row("real", 0.1), row("fake", 0.2)]
    assert repr(report(both)) == "Report(small@0, n 2, AUC 1.000, balanced accuracy 0.500, collapsed to real)"
    assert repr(report([])) == "Report(small@0, n 0, AUC -, balanced accuracy -)"


def test_text_says_what_was_measured() -> None:
    text = str(report())
    assert text.startswith(
        "small@0: 12 pictures, 6 real and 6 fake; threshold 0.5; left out: 1 without a face, 1 unread"
    )
    for line in (
        r"AUC +0\.819 \[",
        r"accuracy +0\.833 \[",
        r"always the larger class +0\.500",
        r"By difficulty",
        r"hard \*",
    ):
        assert re.search(line, text), line
    assert "Collapsed" not in text and max(len(line) for line in text.splitlines()) < 160


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ([("real", 0.1), ("fake", 0.2)], "Collapsed: every picture was called real"),
        ([("real", 0.1), ("real", 0.6), ("fake", 0.2), ("fake", 0.9)], 'no better than always answering "real"'),
        ([("fake", 0.2), ("fake", 0.9)], "not both classes"),
        ([("real", 0.1), ("fake", 0.9), ("fake", None)], "1 of 3 pictures could not be scored"),
        ([("real", s) for s in (0.1, 0.3, 0.5, 0.7, 0.9)] + [("fake", s) for s in (0.1, 0.3, 0.5, 0.7, 0.9)], "chance"),
    ],
)
def test_warnings(own: list[tuple[str, float | None]], words: str) -> None:
    assert words in str(report([row(*pair) for pair in own]))
    assert words not in str(report([row("real", s) for s in REALS[:5]] + [row("fake", s) for s in FAKES[1:]]))


def test_json_holds_every_figure_and_no_made_up_ones() -> None:
    own = report(revision="abc")
    values = json.loads(own.to_json())
    assert values == own.to_dict() and values["revision"] == "abc" and values["auc"] == own.auc
    assert values["confusion"] == {"tp": 5, "fp": 1, "tn": 5, "fn": 1}
    assert values["intervals"]["auc"] == [None, None]  # three groups of real pictures are too few
    assert values["intervals"]["recall"] == list(own.intervals["recall"])
    assert values["by"]["source"]["phone"]["auc"] is None and values["by"]["difficulty"]["hard"]["paired"] is True
    assert values["generators"]["gan"]["web"] == {"auc": own.auc, "low": None, "high": None, "fake": 6, "real": 6}
    assert values["false_alarms"] == pytest.approx(1 / 6) and values["by"]["source"]["web"]["missed"] == pytest.approx(
        1 / 6
    )


def test_saved_folder_holds_everything(tmp_path: Path) -> None:
    own = report(delivered={"clean": rows(), "blur": rows()})
    target = own.save(tmp_path / "new" / "folder")
    names = {file.name for file in target.parent.iterdir()}
    assert target.name == "report.html" and names == {
        *("report.html", "report.json", "scores.csv", "gallery.png", "curves.png", "sources.png", "robustness.png")
    }
    assert json.loads((target.parent / "report.json").read_text()) == own.to_dict()
    for name in ("curves", "gallery", "sources", "robustness"):
        with Image.open(target.parent / f"{name}.png") as image:
            assert min(image.size) > 250
    table = list(csv.DictReader((target.parent / "scores.csv").read_text("utf-8").splitlines()))
    assert (
        len(table) == 14
        and table[1]["score"] == "0.1"
        and table[1]["predicted"] == "real"
        and table[1]["group"] == "r0"
    )
    assert table[6]["difficulty"] == "hard" and table[12]["score"] == "" and table[13]["error"] == "cut off <b>"


@dataclass(frozen=True)
class Epoch:
    """Figures of an epoch, as a training gives them."""

    epoch: int
    loss: float
    valid_loss: float
    train_accuracy: float
    valid_auc: float


EPOCHS = [Epoch(1, 0.7, 0.65, 0.5, math.nan), Epoch(2, 0.5, 0.6, 0.75, 0.8)]


def test_a_report_of_a_trained_detector_shows_its_training(tmp_path: Path) -> None:
    trained = report(history=EPOCHS)
    assert trained.to_dict()["history"][0] == {
        "epoch": 1, "loss": 0.7, "valid_loss": 0.65, "train_accuracy": 0.5, "valid_auc": None
    }  # fmt: skip
    text = trained.save(tmp_path).read_text("utf-8")
    assert "<h2>Training</h2><img" in text
    with Image.open(tmp_path / "training.png") as image:
        assert image.size == trained.plot_training().size and image.width > 800
    assert "Training" not in report().save(tmp_path / "plain").read_text("utf-8")
    assert not (tmp_path / "plain" / "training.png").exists() and report().to_dict()["history"] == []


def test_page_needs_no_network_and_runs_nothing(tmp_path: Path) -> None:
    text = report(delivered={"blur": rows()}).save(tmp_path).read_text("utf-8")
    page = Page(text)
    assert page.open == [] and {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"} == set()
    pictures = [values for tag, values in page.tags if tag == "img"]
    assert len(pictures) == 4 and all(str(values["src"]).startswith("data:image/") for values in pictures)
    assert not re.search(r"https?://|url\(|@import", text)
    for words in (
        "small@0: report",
        "0.833",
        "By source",
        "Robustness",
        "How to read this",
        "<script>.jpg",
        "cut off <b>",
    ):
        assert words in page.words, words


def test_without_matplotlib_all_but_the_curves_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    own = report()
    text = own.save(tmp_path).read_text("utf-8")
    assert {file.name for file in tmp_path.iterdir()} == {"report.html", "report.json", "scores.csv", "gallery.png"}
    assert "pip install &#x27;deepfake-detect[plots]&#x27;" in text and "By source" in text
    with pytest.raises(MissingExtra, match="plots"):
        own.plot()


def test_notebook_shows_the_same_tables() -> None:
    page = Page(report()._repr_html_())
    assert page.open == [] and "By difficulty" in page.words and "0.833" in page.words


def test_report_of_nothing_is_saved_all_the_same(tmp_path: Path) -> None:
    assert report([row("fake", None)]).save(tmp_path).exists()
    assert report([]).plot().size


def test_gallery_sorts_by_how_sure_the_detector_was(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, list[tuple[str, str]]] = {}
    names: list[str] = []

    def draw(sections: Any, *, columns: int) -> Image.Image:
        shown.update({name: [(tile.caption, tile.note) for tile in tiles] for name, tiles in sections})
        names.extend(tile.name for tile in sections[1][1])
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr("deepfake_detect.evaluation.report.draw_gallery", draw)
    report().gallery(count=2)
    assert names == ["0.15.jpg"]
    assert shown == {
        "Fakes found, the surest": [("fake 0.990", "is fake · gan"), ("fake 0.900", "is fake · gan")],
        "Fakes missed, the surest": [("real 0.150", "is fake · gan")],
        "False alarms, the surest": [("fake 0.800", "is real · web")],
        "Real pictures passed, the surest": [("real 0.050", "is real · web"), ("real 0.100", "is real · web")],
        "Nearest to the threshold": [("fake 0.520", "is fake · gan"), ("real 0.450", "is real · web")],
    }


def test_gallery_is_a_picture_of_faces() -> None:
    assert report().gallery(count=1).size > (500, 500)


def test_figures_are_written_with_what_is_known() -> None:
    assert html.format_figure(0.5, (0.25, 0.75)) == "0.500 [0.250, 0.750]"
    assert html.format_figure(0.5) == "0.500" and html.format_figure(None) == html.format_figure(math.nan) == "-"
    assert html.format_figure(0.5, (math.nan, math.nan)) == "0.500 [?]"


def test_table_of_a_page_is_escaped_and_shaded() -> None:
    text = html.table(["a<b", "n"], [["<i>", "1"], ["x", "2"]], shades={(1, 1): 0.5, (0, 1): 7})
    assert "<i>" not in text and "&lt;i&gt;" in text and "a&lt;b" in text
    assert text.count('class="shade d') == 2 and "shade d50" in text and "shade d100" in text
