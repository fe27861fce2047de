from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepfake_detect.datasets.read import Sample
from deepfake_detect.errors import DatasetError, InvalidOption
from deepfake_detect.evaluation.evaluator import evaluate
from deepfake_detect.evaluation.report import Report
from deepfake_detect.inputs.delivery import ROBUSTNESS
from tests.small_world import empty_scene, group, portrait, small_detector

DETECTOR = small_detector()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Give six portraits in other colours, a picture without a face and one that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    small = np.asarray(Image.fromarray(portrait()).resize((160, 160)))
    found = []
    for place in range(6):
        file = folder / f"{place}.png"
        Image.fromarray(np.roll(small, place, axis=2) // (1 + place // 3)).save(file)
        note = f"difficulty={('easy', 'hard')[place % 2]}; odd;parts="
        found.append(_sample(file, place % 2, group=f"g{place // 2}", split=("train", "test")[place > 2], note=note))
    Image.fromarray(empty_scene()).save(folder / "empty.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return [*found[:4], _sample(folder / "broken.jpg", 1), *found[4:], _sample(folder / "empty.png", 0)]


def _sample(file: Path, label: int, **more: str) -> Sample:
    return Sample(image=file, label=label, source="web", generator=("camera", "gan")[label], **more)


@pytest.fixture(scope="module")
def report(samples: list[Sample]) -> Report:
    return evaluate(DETECTOR, samples, rounds=10)


def test_rows_are_what_predict_says(samples: list[Sample], report: Report) -> None:
    assert len(report.rows) == 8 and report.model == DETECTOR.card.id and report.threshold == DETECTOR.card.threshold
    for sample, row in zip(samples, report.rows, strict=True):
        assert (
            row.name == str(sample.image) and row.image is sample.image and row.label == ("real", "fake")[sample.label]
        )
        assert (row.source, row.generator, row.group, row.split) == (
            "web",
            sample.generator,
            sample.group,
            sample.split,
        )
        if row.predicted != "error":
            alone = DETECTOR.predict(sample.image)
            assert row.predicted == alone.label and row.score == pytest.approx(alone.score, abs=1e-5)
            assert row.logit == pytest.approx(alone.logit, abs=1e-4)
            assert row.box_xyxy == (alone.faces[0].box_xyxy if alone.faces else None)


def test_what_cannot_be_scored_is_named_and_left_out(report: Report) -> None:
    assert report.no_face == 1 and report.unreadable == 1 and report.n == 6
    broken, empty = report.rows[4], report.rows[-1]
    assert broken.predicted == "error" and "broken.jpg" in broken.error and broken.score is None
    assert empty.predicted == "no-face" and empty.error == "" and empty.box_xyxy is None


def test_note_becomes_tags(report: Report) -> None:
    assert report.rows[1].tags == {"difficulty": "hard"} and report.rows[4].tags == {}
    assert set(report.by) == {"source", "generator", "difficulty"}
    assert report.by["difficulty"]["easy"].n == 3


def test_split_keeps_what_is_asked_for(samples: list[Sample]) -> None:
    only = evaluate(DETECTOR, samples, split="test", rounds=5)
    assert len(only.rows) == 3 and {row.split for row in only.rows} == {"test"}
    with pytest.raises(DatasetError, match="none of 8 pictures is of the split 'val'; the data names test, train"):
        evaluate(DETECTOR, samples, split="val")
    with pytest.raises(DatasetError, match="no labelled picture"):
        evaluate(DETECTOR, [])


def test_threshold_in_place_of_the_card(samples: list[Sample]) -> None:
    scored = samples[:4]
    low, high = (evaluate(DETECTOR, scored, threshold=value, rounds=5) for value in (0.0, 1.0))
    assert low.threshold == 0.0 and low.collapsed == "fake" and {row.predicted for row in low.rows} == {"fake"}
    assert high.collapsed == "real" and high.auc == low.auc


def test_uncertain_is_counted(samples: list[Sample]) -> None:
    report = evaluate(small_detector(uncertain=(0.0, 1.0)), samples[:4], rounds=5)
    assert report.uncertain == report.n == 4 and not np.isnan(report.accuracy)


def test_robustness_scores_what_arrives(samples: list[Sample], report: Report) -> None:
    seen = []

    def grey(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.shape)
        return np.full_like(pixels, 128)

    def same(pixels: np.ndarray) -> np.ndarray:
        return pixels

    def never(pixels: np.ndarray) -> np.ndarray:
        raise AssertionError("the pictures as they are have their scores")

    own = evaluate(DETECTOR, samples, robustness={"clean": never, "same": same, "grey": grey}, rounds=10)
    assert list(own.robustness) == ["clean", "same", "grey"]
    assert own.robustness["clean"].auc == own.robustness["same"].auc == own.auc == report.auc
    assert own.robustness["same"].lost_auc == 0 and own.robustness["same"].no_face == 1
    assert own.robustness["grey"].n == 0 and own.robustness["grey"].no_face == 7 and len(seen) == 7


def test_face_may_be_found_only_in_what_arrives(samples: list[Sample]) -> None:
    found = evaluate(DETECTOR, samples, robustness={"better": lambda pixels: portrait()}, rounds=5).robustness["better"]
    assert (found.n, found.no_face) == (7, 0)


def test_box_is_that_of_the_face_with_the_highest_score() -> None:
    left, right = group(2)[:, :210], group(2)[:, 210:]
    highest = set()
    for other in (left // 2, left[:, :, ::-1]):
        picture = np.concatenate([other, right], axis=1)
        row = evaluate(DETECTOR, [Sample(image=picture, label=1)], rounds=5).rows[0]
        faces = DETECTOR.predict(picture).faces
        scores = [face.score for face in faces]
        highest.add(scores.index(row.score))
        assert row.score == max(scores) and row.box_xyxy == faces[scores.index(row.score)].box_xyxy  # type: ignore[type-var]
    assert highest == {0, 1}


def test_deliveries_go_by_name(samples: list[Sample]) -> None:
    own = evaluate(DETECTOR, samples[:4], robustness=["clean", "jpeg30"], rounds=5)
    assert list(own.robustness) == ["clean", "jpeg30"] and own.robustness["jpeg30"].n == 4
    assert "jpeg30" in str(own) and own.plot_robustness().size
    assert list(evaluate(DETECTOR, samples[:2], robustness="jpeg50", rounds=5).robustness) == ["jpeg50"]
    assert list(evaluate(DETECTOR, samples[:2], robustness="all", rounds=5).robustness) == list(ROBUSTNESS)


def test_unknown_delivery_is_refused_by_name(samples: list[Sample]) -> None:
    with pytest.raises(InvalidOption, match="no delivery called 'jpg75'; did you mean 'jpeg75'"):
        evaluate(DETECTOR, samples, robustness=["jpg75"])


def test_table_on_disk_is_read(samples: list[Sample], tmp_path: Path) -> None:
    lines = [f"{sample.image},{('genuine', 'mine')[sample.label]},validation" for sample in samples[:2]]
    (tmp_path / "data.csv").write_text("\n".join(["file,label,split", *lines]))
    report = evaluate(DETECTOR, tmp_path / "data.csv", labels={"mine": "fake"}, split="valid", rounds=5)
    assert (report.real, report.fake) == (1, 1)


def test_bar_is_shown_when_asked_for(samples: list[Sample], capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(DETECTOR, samples[:2], rounds=5, robustness={"same": lambda pixels: pixels}, progress=True)
    assert "evaluate: " in capsys.readouterr().err
    evaluate(DETECTOR, samples[:2], rounds=5)
    assert "evaluate: " not in capsys.readouterr().err  # other tests' threads may still write there
