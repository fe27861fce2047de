"""Tests of verdicts under recompression, resizing, cropping and a screenshot."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deepfake_detect import Card, Detector, ImageUnreadable, Preprocessing
from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.evaluation.stability import Stability, measure_stability
from deepfake_detect.faces.face import Face
from deepfake_detect.inputs.delivery import STABILITY
from tests.small_world import PORTRAIT, empty_scene, group, portrait, small_detector

CARD = Card(name="rule", version=3, architecture="meso4", preprocessing=Preprocessing(size_px=64), uncertain=(0.4, 0.6))


class Rule(torch.nn.Module):
    """A model that follows a rule in place of weights."""

    def __init__(self, rule: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.rule(batch)


def ruled(rule: Callable[[torch.Tensor], torch.Tensor], card: Card = CARD) -> Detector:
    return Detector(model=Rule(rule), card=card, device="cpu")


def grain(batch: torch.Tensor) -> torch.Tensor:
    """Mean difference between neighbours: what blur and smaller copies take away."""
    return (batch[..., 1:] - batch[..., :-1]).abs().mean((1, 2, 3))


def result(labels: Mapping[str, str] | None = None, **changed: Any) -> Stability:
    """Give a result by hand: real and 0.2 under every delivery but those that are named."""
    every = {**dict.fromkeys(STABILITY, "real"), **(labels or {})}
    score = {"real": 0.2, "fake": 0.9, "uncertain": 0.5}
    values: dict[str, Any] = {
        "name": "album/photo.jpg",
        "threshold": 0.5,
        "scores": {name: score.get(label) for name, label in every.items()},
        "logits": {name: score.get(label) for name, label in every.items()},
        "labels": every,
        "faces": {name: int(label in score) for name, label in every.items()},
        "model": "rule@3",
        "boxes": dict.fromkeys(every),
        "source": np.full((60, 80, 3), 90, np.uint8),
    }
    return Stability(**{**values, **changed})


@pytest.mark.parametrize(
    ("labels", "label", "flips"),
    [
        ({}, "real", ()),
        ({"half": "fake"}, "uncertain", ("half",)),
        ({"jpeg40": "fake", "webp": "no-face"}, "uncertain", ("jpeg40", "webp")),
        ({"half": "uncertain"}, "uncertain", ()),
        ({"half": "error"}, "real", ()),
        (dict.fromkeys(STABILITY, "fake") | {"crop": "real"}, "uncertain", ("crop",)),
        (dict.fromkeys(STABILITY, "fake") | {"crop": "uncertain"}, "uncertain", ()),
        ({"original": "uncertain", "crop": "fake"}, "uncertain", ()),
        ({"original": "uncertain", "crop": "no-face"}, "uncertain", ("crop",)),
        (dict.fromkeys(STABILITY, "no-face"), "no-face", ()),
        (dict.fromkeys(STABILITY, "no-face") | {"half": "fake"}, "no-face", ("half",)),
        (dict.fromkeys(STABILITY, "no-face") | {"half": "error"}, "no-face", ()),
    ],
)
def test_what_is_a_flip(labels: dict[str, str], label: str, flips: tuple[str, ...]) -> None:
    stability = result(labels)
    assert (stability.label, stability.flips) == (label, flips)


@pytest.mark.parametrize(
    ("labels", "withdrawn", "holds"),
    [
        ({}, (), True),
        ({"crop": "error"}, (), True),
        ({"jpeg60": "uncertain", "crop": "uncertain"}, ("jpeg60", "crop"), False),
        ({"jpeg60": "uncertain", "crop": "fake"}, ("jpeg60",), False),
        (dict.fromkeys(STABILITY, "fake") | {"half": "uncertain"}, ("half",), False),
        (dict.fromkeys(STABILITY, "uncertain"), (), False),
        ({"original": "uncertain"}, (), False),
        (dict.fromkeys(STABILITY, "no-face"), (), False),
    ],
)
def test_a_verdict_that_a_delivery_withdraws_does_not_hold(
    labels: dict[str, str], withdrawn: tuple[str, ...], holds: bool
) -> None:
    stability = result(labels)
    assert (stability.withdrawn, stability.holds) == (withdrawn, holds)
    assert (stability.label in ("real", "fake")) == holds
    assert stability.to_dict()["withdrawn"] == list(withdrawn) and stability.to_dict()["holds"] == holds


def test_interval_is_of_what_was_scored() -> None:
    assert result().interval == (0.2, 0.2)
    assert result({"crop": "fake", "half": "no-face", "webp": "error"}).interval == (0.2, 0.9)
    assert result(dict.fromkeys(STABILITY, "no-face")).interval is None


def test_each_score_is_that_of_the_picture_delivered_by_hand() -> None:
    detector = small_detector(temperature=9.0)
    stability = measure_stability(detector, PORTRAIT)
    assert (
        list(stability.scores)
        == list(stability.logits)
        == list(stability.labels)
        == list(stability.boxes)
        == list(STABILITY)
    )
    for name, change in STABILITY.items():
        alone = detector.predict(PORTRAIT if name == "original" else change(portrait()))
        assert stability.scores[name] == pytest.approx(alone.score, abs=1e-6)
        assert stability.logits[name] == pytest.approx(alone.logit, abs=1e-4)
        assert stability.labels[name] == alone.label
        assert stability.faces[name] == len(alone.faces)
        assert stability.boxes[name] == max(alone.faces, key=lambda face: face.score or 0).box_xyxy
    assert stability.score == stability.scores["original"] == pytest.approx(detector.predict(PORTRAIT).score, abs=1e-6)
    assert len(set(stability.scores.values())) == len(STABILITY)
    assert (stability.name, stability.model) == (str(PORTRAIT), "small@0")


def test_a_detector_that_lives_on_grain_flips() -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    stability = measure_stability(ruled(lambda batch: 40 * (grain(batch) - 0.3)), sharp, faces="none")
    assert {name for name, label in stability.labels.items() if label == "real"} == {"half", "screenshot"}
    assert stability.flips == ("half", "screenshot")
    assert stability.label == "uncertain" and stability.labels["original"] == "fake"
    assert stability.interval == (stability.scores["half"], stability.score)


def test_a_detector_that_does_not_look_never_flips() -> None:
    stability = measure_stability(ruled(lambda batch: 0 * batch.mean((1, 2, 3)) + 2), portrait(), faces="largest")
    expected = pytest.approx(1 / (1 + np.exp(-2)))
    assert stability.interval == (expected, expected)
    assert (stability.label, stability.flips) == ("fake", ())


def test_threshold_is_the_caller_s() -> None:
    detector = ruled(lambda batch: 0 * batch.mean((1, 2, 3)) + 2)
    stability = measure_stability(detector, portrait(), faces="none", threshold=0.95)
    assert (stability.label, stability.threshold) == ("real", 0.95)


def test_without_a_face_nothing_is_made_up() -> None:
    stability = measure_stability(small_detector(), empty_scene())
    assert (stability.label, stability.score, stability.interval, stability.flips) == ("no-face", None, None, ())
    assert set(stability.scores.values()) == {None}
    assert stability.plot().width > 100
    assert "no-face, no score" in repr(stability)


class Colours:
    """A finder of red squares, and after the first picture of green ones, which are no faces."""

    def __init__(self, *, misses: bool = False, patches: bool = False) -> None:
        self.misses, self.patches, self.pictures = misses, patches, 0

    def find(self, pixels: np.ndarray, *, border: bool = True) -> list[Face]:
        first, self.pictures = self.pictures == 0, self.pictures + 1
        red = [] if self.misses and not first else self._square(pixels, 0)
        return ([] if first or not self.patches else self._square(pixels, 1)) + red  # the largest comes first

    def _square(self, pixels: np.ndarray, channel: int) -> list[Face]:
        rest = [pixels[..., other] < 90 for other in range(3) if other != channel]
        rows, columns = np.nonzero((pixels[..., channel] > 150) & rest[0] & rest[1])
        if not rows.size:
            return []
        box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
        return [Face(box_xyxy=box, landmarks_xy=np.zeros((5, 2), np.float32), confidence=1.0)]


def squares(left: int = 90, top: int = 60) -> np.ndarray:
    """Give a grey picture with a red square of 40 px, the face, and a green one of 80 px, a patch of a suit."""
    pixels = np.full((300, 400, 3), 128, np.uint8)
    pixels[150:230, 240:320] = (10, 220, 10)
    pixels[top : top + 40, left : left + 40] = (220, 10, 10)
    return pixels


def green(batch: torch.Tensor) -> torch.Tensor:
    """Call green fake and red real."""
    return 4 * (batch[:, 1] - batch[:, 0]).mean((1, 2))


def followed(pixels: np.ndarray, **finder: bool) -> Stability:
    finds: Any = Colours(**finder)
    return measure_stability(Detector(model=Rule(green), card=CARD, device="cpu", finder=finds), pixels)


@pytest.mark.parametrize("finder", [{}, {"patches": True}, {"patches": True, "misses": True}, {"misses": True}])
def test_one_face_is_followed_whatever_else_a_copy_shows(finder: dict[str, bool]) -> None:
    stability = followed(squares(), **finder)
    assert set(stability.labels.values()) == {"real"} and stability.holds
    low, high = stability.interval or (0, 1)
    assert high - low < 0.03  # the same crop each time: red with a grey border
    for name, change in STABILITY.items():
        delivered = change(squares())
        (face,) = Colours().find(delivered)
        assert stability.boxes[name] == pytest.approx(face.box_xyxy, abs=1.5), name
    missed = tuple(name for name in STABILITY if name != "original" and "misses" in finder)
    assert stability.lost == missed
    assert stability.faces["webp"] == ("misses" not in finder) + ("patches" in finder)
    assert stability.plot().width > 1000


def test_the_largest_face_is_followed_where_a_copy_has_a_larger_patch() -> None:
    finds: Any = Colours(patches=True)
    detector = Detector(model=Rule(green), card=CARD, device="cpu", finder=finds)
    stability = measure_stability(detector, squares(), faces="largest")
    assert stability.holds and stability.label == "real" and not stability.lost


def test_a_face_that_the_crop_cuts_off_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        stability = followed(squares(0, 0), patches=True)
    assert [name for name, label in stability.labels.items() if label == "error"] == ["crop"]
    assert "as crop is left out: the face is cut off" in caplog.text
    assert stability.holds and stability.scores["crop"] is None and stability.boxes["crop"] is None


def test_of_several_faces_the_one_that_decides_is_followed() -> None:
    """Each face of the group has its own brightness; the score tells which one was scored."""
    pixels = group(3).astype(int)
    for number, darker in enumerate((60, 0, 120)):
        pixels[:, 20 + 190 * number : 210 + 190 * number] -= darker
    pixels = pixels.clip(0, 255).astype(np.uint8)
    stability = measure_stability(ruled(lambda batch: 6 * batch.mean((1, 2, 3))), pixels)
    for name, change in STABILITY.items():
        box = stability.boxes[name]
        assert box is not None
        middle = (box[0] + box[2]) / 2 / change(pixels).shape[1]
        assert middle == pytest.approx(0.5, abs=0.06), name  # the brightest, in the middle
        assert stability.faces[name] >= 2


class Stream(io.RawIOBase):
    """A file that can be read once, from its start."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = len(self.content) if size is None or size < 0 else size
        part, self.content = self.content[:size], self.content[size:]
        return part


def test_a_file_that_reads_once_is_enough() -> None:
    detector = small_detector()
    detector.revision = "abc"
    stability = measure_stability(detector, Stream(PORTRAIT.read_bytes()))
    assert stability.scores == measure_stability(detector, PORTRAIT).scores
    assert stability.revision == stability.to_dict()["revision"] == "abc"
    stability.plot()


def test_a_bad_picture_raises() -> None:
    with pytest.raises(ImageUnreadable):
        measure_stability(small_detector(), b"no picture")
    with pytest.raises(ValueError, match="faces is 'al'"):
        measure_stability(small_detector(), portrait(), faces="al")  # type: ignore[arg-type]


def test_what_a_format_cannot_hold_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    wide = np.full((3, 17_000, 3), 128, np.uint8)
    with caplog.at_level(logging.WARNING):
        stability = measure_stability(small_detector(), wide, faces="none")
    assert [name for name, label in stability.labels.items() if label == "error"] == ["webp"]
    assert stability.scores["webp"] is None and "webp" not in stability.flips
    assert "as webp is left out: 17000 x 3 pixels, WEBP holds 16383 a side" in caplog.text


def test_json_holds_the_verdict_and_no_pixels() -> None:
    stability = result({"crop": "fake", "half": "no-face"})
    values = json.loads(stability.to_json())
    assert values == stability.to_dict()
    assert values["label"] == "uncertain" and values["interval"] == [0.2, 0.9] and values["flips"] == ["half", "crop"]
    assert values["scores"]["half"] is None and values["score"] == 0.2
    assert set(values) == {
        *("name", "label", "score", "interval", "holds", "flips", "withdrawn", "threshold"),
        *("scores", "logits", "labels", "faces", "lost", "model", "revision"),
    }
    assert json.loads(result(dict.fromkeys(STABILITY, "no-face")).to_json())["interval"] is None


def test_repr_is_one_line() -> None:
    assert repr(result()) == "Stability(real, score 0.200 [0.200, 0.200], rule@3, photo.jpg)"
    text = repr(result({"crop": "fake", "half": "fake"}))
    assert text == "Stability(uncertain, score 0.200 [0.200, 0.900], real flips under half, crop, rule@3, photo.jpg)"
    text = repr(result({"crop": "uncertain", "half": "fake"}))
    assert "real flips under half, real is withdrawn under crop, rule@3" in text


def test_plot_has_a_tile_for_each_delivery_and_a_dot_for_each_score() -> None:
    image = result({"crop": "fake"}).plot()
    pixels = np.asarray(image)
    strip = [tuple(pixels[225, 20 + 180 * place]) for place in range(8)]  # left end of each caption
    assert strip == [COLOURS["fake" if name == "crop" else "real"] for name in STABILITY]
    level, ends = pixels[image.height - 48], (56, image.width - 56)
    for score, label in ((0.2, "real"), (0.9, "fake")):
        assert tuple(level[round(ends[0] + score * (ends[1] - ends[0]))]) == COLOURS[label]


def test_a_tile_tells_of_another_number_of_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []

    def listen(sections: Any, *, columns: int) -> Image.Image:
        notes.extend(tile.note for tile in sections[0][1])
        return Image.new("RGB", (200, 10))

    monkeypatch.setattr("deepfake_detect.evaluation.stability.draw_gallery", listen)
    counts = {**dict.fromkeys(STABILITY, 2), "half": 3, "crop": 1, "webp": 0}
    result({"crop": "fake", "webp": "no-face"}, faces=counts).plot()
    told = [
        "original",
        "jpeg90",
        "jpeg60",
        "jpeg40",
        "half: 3 faces",
        "webp: flips",
        "crop: flips",
        "screenshot",
    ]
    assert notes == told


def test_plot_shows_what_arrived() -> None:
    halves = np.zeros((100, 100, 3), np.uint8)
    halves[:, 10:90] = 255  # the edges are what a crop to 80 % cuts off
    pixels = np.asarray(result(source=halves).plot())
    edges = [int(pixels[130, 12 + 180 * place + 5, 0]) for place in range(8)]
    assert [name for name, edge in zip(STABILITY, edges, strict=True) if edge > 200] == ["crop"]


def test_save_by_ending(tmp_path: Path) -> None:
    stability = result({"crop": "fake"})
    stability.save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == stability.to_dict()
    stability.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == stability.plot().size
    with pytest.raises(ValueError, match=r"ends in '\.txt', expected \.json or one of \.png"):
        stability.save(tmp_path / "a.txt")


def test_notebooks_show_words_where_the_picture_is_gone() -> None:
    assert result()._repr_html_().startswith('<figure><img src="data:image/png;base64,')
    gone = result(source=None, name="<b>.jpg")
    assert gone._repr_html_().startswith("<p>real, score") and "&lt;b&gt;.jpg" in gone._repr_html_()
    with pytest.raises(ImageUnreadable, match="holds no picture; measure its stability again"):
        gone.plot()
