"""Test the page of a picture: what it says, that nothing in it is fetched or run, and that a case lies beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from deepfake_detect import CaseReport, Detector, InvalidOption
from deepfake_detect.reporting import words
from deepfake_detect.reporting.pictures import OVERVIEW_PX
from tests.provenance.made_files import encode, exif_of, with_segment, xmp
from tests.small_world import PORTRAIT, empty_scene, group, portrait, small_bundle, small_detector

ROOT = Path(__file__).parents[2]
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"
FETCHING = {"src", "srcset", "href", "data", "action", "poster", "background", "formaction"}


class Page(HTMLParser):
    """The tags and attributes of a page, and the text that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._inside = "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("style", "title"):
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector.from_pretrained(small_bundle(tmp_path_factory.mktemp("weights") / "small"), device="cpu")


@pytest.fixture(scope="module")
def report(detector: Detector) -> CaseReport:
    return detector.report(PORTRAIT)


def test_a_page_holds_everything_and_fetches_nothing(report: CaseReport) -> None:
    source = report.to_html(case_file="portrait.json", index_file="index.html")
    page = Page(source)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"}
    links = {(tag, value) for tag, attributes in page.tags for name, value in attributes.items() if name in FETCHING}
    assert {link for link in links if link[0] == "a"} == {("a", "portrait.json"), ("a", "index.html")}
    assert all(tag == "a" or str(value).startswith("data:image/jpeg;base64,") for tag, value in links)
    assert all(
        not name.startswith("on") and name not in ("style", "id") for _, attributes in page.tags for name in attributes
    )
    sheet = source.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in sheet and "@import" not in sheet
    policy = next(tag["content"] for tag in page.named("meta") if tag.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_a_page_can_be_read_by_ear(report: CaseReport) -> None:
    page = Page(report.to_html())
    assert page.named("html") == [{"lang": "en"}] and len(page.named("h1")) == len(page.named("main")) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    assert all("alt" in image for image in page.named("img"))
    assert any("1 face framed" in str(image["alt"]) for image in page.named("img"))
    (ruler,) = page.named("svg")
    assert ruler["role"] == "img" and f"The score is {report.score:.3f}" in str(ruler["aria-label"])
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in page.named("div") if region.get("role"))


def test_a_page_says_what_the_case_says(report: CaseReport, detector: Detector) -> None:
    page, case = Page(report.to_html()), report.case
    assert report.headline in page.text and f"{report.score:.3f}" in page.text
    for finding in case["metadata"]["findings"]:
        assert finding["what"] in page.text and finding["not_proof"] in page.text
    assert "\\x" not in page.text
    for name, score in case["stability"]["scores"].items():
        assert words.DELIVERIES[name] in page.text and f"{score:.3f}" in page.text
    for digest in (case["input"]["sha256"], detector.card.sha256):
        assert digest in page.text
    assert report.explanation is not None
    assert ("Not evidence." in page.text) is not report.explanation.is_evidence
    for reason in report.explanation.reasons:
        assert reason in page.text
    assert all(limit in page.text for limit in words.list_limits(case))


def test_page_and_case_are_saved_and_checked_again(report: CaseReport, detector: Detector, tmp_path: Path) -> None:
    report.save(tmp_path / "a.html")
    case = json.loads((tmp_path / "a.json").read_bytes())
    jsonschema.validate(case, json.loads((ROOT / "docs" / "case.schema.json").read_text("utf-8")))
    assert case == report.to_dict() and case["input"]["name"] == str(PORTRAIT)
    assert hashlib.sha256((tmp_path / "a.json").read_bytes()).hexdigest() in (tmp_path / "a.html").read_text("utf-8")
    bundle = detector._runner.bundle.folder  # type: ignore[union-attr]
    from deepfake_detect import verify

    assert verify(tmp_path / "a.json", PORTRAIT, model=bundle, device="cpu").ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.json"]
    with pytest.raises(InvalidOption, match=r"expected \.html"):
        report.save(tmp_path / "a.pdf")


def test_the_report_says_what_predict_explain_and_stability_say(report: CaseReport, detector: Detector) -> None:
    prediction, stability = detector.predict(PORTRAIT), detector.stability(PORTRAIT)
    assert report.score == pytest.approx(prediction.score, abs=1e-6)
    assert report.prediction.faces[0].box_xyxy == prediction.faces[0].box_xyxy
    assert report.stability is not None and report.stability.labels == stability.labels
    assert report.label == (prediction.label if stability.holds else "uncertain")


@pytest.mark.parametrize("place", ["software", "xmp", "name"])
def test_nothing_that_a_stranger_wrote_becomes_a_tag(place: str, tmp_path: Path) -> None:
    name = f"{SCRIPT.replace('/', '')}\u202egpj.jpg" if place == "name" else "a.jpg"
    photo = tmp_path / name
    photo.write_bytes(encode(Image.fromarray(empty_scene()), exif=exif_of({0x0131: f"Adobe Photoshop {SCRIPT}"})))
    if place == "xmp":
        creator = SCRIPT.replace("<", "&lt;")
        packet = b"http://ns.adobe.com/xap/1.0/\0" + xmp(f'xmp:CreatorTool="Adobe Firefly {creator}"')
        photo.write_bytes(with_segment(encode(Image.fromarray(empty_scene())), 0xE1, packet))
    report = small_detector().report(photo, explain=False, stability=False)
    report.save(tmp_path / "out.html")
    page = Page((tmp_path / "out.html").read_text("utf-8"))
    assert not page.named("script") and len(page.named("img")) == 1
    assert ("<script>alert(1)" in page.text) and "\u202e" not in page.text
    assert ("\\u202egpj" in page.text) is (place == "name")


def test_a_picture_without_a_face_says_what_it_shows(detector: Detector) -> None:
    report = detector.report(empty_scene())
    page = Page(report.to_html())
    assert (report.headline, report.label, report.score) == ("No face found", "no-face", None)
    assert report.prediction.content is not None and f": {report.prediction.content.label} (" in page.text
    assert (
        "sha256 of the pixels" in page.text and "Nothing was read: the picture was handed over as pixels" in page.text
    )
    assert not page.named("svg") and "Does the verdict hold?" not in page.text


def test_every_face_of_a_group_is_shown_with_its_number(detector: Detector) -> None:
    report = detector.report(group(3), explain=False, stability=False)
    page = Page(report.to_html())
    assert [f"Face {number}: " in page.text for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert "Of the 3 faces the one with the highest score decides." in page.text and len(page.named("img")) == 4


def test_a_page_stays_small_and_says_that_the_picture_is_reduced(detector: Detector) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    report = detector.report(noise, faces="none", explain=False, stability=False)
    page = report.to_html()
    assert report.pictures.overview.size == (OVERVIEW_PX, 720)
    assert "2000 × 1500 pixels, shown at 960 × 720" in page and len(page) < 1_000_000
    assert "the whole picture, 2000 × 1500 pixels" in page


def test_a_format_without_metadata_is_reported_too(detector: Detector) -> None:
    report = detector.report(encode(Image.fromarray(portrait()), "BMP"), explain=False, stability=False)
    assert report.case["metadata"] is None and report.case["input"]["kind"] == "file"
    assert "in a format without metadata" in report.to_html()


def test_a_detector_without_a_map_says_so(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepfake_detect import LayerNotFound
    from deepfake_detect.reporting import case_report

    def fail(*_: Any, **__: Any) -> None:
        raise LayerNotFound("no layer of it gives a map")

    monkeypatch.setattr(case_report, "explain_image", fail)
    report = detector.report(PORTRAIT, stability=False)
    assert report.explanation is None and "no layer of it gives a map" in report.to_html()


def case_of(**changes: Any) -> dict[str, Any]:
    """Make the part of a case that words are made of."""
    card = {"uncertain": (0.3, 0.8), "calibration": {"method": "platt"}, "metrics": {}, "licence": "unknown"}
    stability = {"holds": True, "interval": [0.9, 0.95], "flips": [], "withdrawn": [], "labels": {"original": "fake"}}
    return {
        "verdict": {"label": "fake", "score": 0.93, "threshold": 0.5, "faces": [{}], "content": None},
        "stability": stability,
        "settings": {"threshold": None},
        "weights": {"card": card},
        **changes,
    }


def test_a_verdict_is_put_into_words_with_its_uncertainty() -> None:
    case = case_of()
    text = " ".join(words.explain_verdict(case))
    assert words.headline(case) == "Called fake"
    assert "calls the picture fake: the score is 0.930" in text and "real up to 0.3, fake from 0.8 on" in text
    assert "about 93 are fake" in text and "between 0.900 and 0.950: the verdict is the same" in text
    assert "does not say how often it is wrong" in text


def test_a_verdict_that_does_not_hold_is_called_uncertain() -> None:
    shaken = {
        **case_of()["stability"],
        "holds": False,
        "flips": ["half"],
        "labels": {"original": "fake", "half": "real"},
    }
    case = case_of(stability=shaken)
    assert words.headline(case) == "Uncertain: called fake, but not in every copy"
    assert "(half the width and height: real). Treat it as uncertain." in " ".join(words.explain_verdict(case))
    uncertain = case_of(verdict={**case["verdict"], "label": "uncertain"}, stability=shaken)
    assert words.headline(uncertain) == "Uncertain"


def test_a_threshold_of_the_caller_and_missing_calibration_are_said() -> None:
    case = case_of(settings={"threshold": 0.9}, stability=None)
    case["verdict"]["threshold"] = 0.9
    case["weights"] = {"card": {**case["weights"]["card"], "calibration": {}}}
    text = " ".join(words.explain_verdict(case))
    assert "says fake from 0.9 on, as it was asked to, and real below" in text and "uncertain" not in text
    assert "is no probability" in text and "about 93" not in text


def test_error_rates_come_from_the_card() -> None:
    figures = {"n": 3088, "false_alarms": 0.1365, "missed": 0.1681}
    case = case_of()
    case["weights"]["card"]["metrics"] = {"test": {"all": figures}}
    text = " ".join(words.explain_verdict(case))
    assert "of its 3,088 test pictures it called 14% of the real ones fake and missed 17% of the fakes" in text
    case["weights"]["card"]["metrics"] = {"test": {"all": {**figures, "missed": None}}}
    assert "does not say how often it is wrong" in " ".join(words.explain_verdict(case))


def test_a_card_of_its_own_threshold_has_no_band(detector: Detector) -> None:
    plain = replace(detector.card, uncertain=None)
    text = Detector(model=detector.model, card=plain, device="cpu").report(PORTRAIT, explain=False, stability=False)
    assert "fake from 0.5" in text.to_html() and "uncertain between" not in text.to_html()
