import base64
import copy
import dataclasses
import io
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.errors import ImageUnreadable
from deepfake_detect.faces.face import Face
from deepfake_detect.predict.prediction import Prediction

LANDMARKS = np.arange(10, dtype=np.float32).reshape(5, 2)
PIXELS = np.full((600, 800, 3), 90, np.uint8)


def face(**changed: Any) -> Face:
    values = {"box_xyxy": (200.0, 150.0, 400.0, 450.0), "landmarks_xy": LANDMARKS, "confidence": 0.5}
    return Face(**{**values, "score": 0.9734, "logit": 3.6, "label": "fake", **changed})


def prediction(**changed: Any) -> Prediction:
    values: dict[str, Any] = {
        "name": "album/photo.jpg",
        "label": "fake",
        "score": 0.9734,
        "logit": 3.6,
        "threshold": 0.5,
        "faces": (face(),),
        "size_hw": (600, 800),
        "model": "meso4-fakefaces@1",
        "seconds": 0.25,
        "backend": "torch",
        "dtype": "float32",
        "source": PIXELS,
    }
    return Prediction(**{**values, **changed})


def no_face() -> Prediction:
    return prediction(label="no-face", score=None, logit=None, faces=())


def failed() -> Prediction:
    error = ImageUnreadable("photo.jpg: no\nsuch file")
    return prediction(label="error", score=None, logit=None, faces=(), size_hw=None, error=error, source="photo.jpg")


def test_repr_is_one_line() -> None:
    assert repr(prediction()) == "Prediction(fake, score 0.973, 1 face, meso4-fakefaces@1, photo.jpg)"
    assert repr(prediction(name="<array>", faces=(face(), face()))).endswith("2 faces, meso4-fakefaces@1, <array>)")
    assert repr(no_face()) == "Prediction(no-face, no score, 0 faces, meso4-fakefaces@1, photo.jpg)"
    assert repr(failed()) == (
        "Prediction(error, ImageUnreadable: photo.jpg: no such file, 0 faces, meso4-fakefaces@1, photo.jpg)"
    )
    for name in ("C:\\album\\photo.jpg", "https://example.org/photo.jpg"):
        assert repr(prediction(name=name)).endswith(" photo.jpg)")


def test_dict_holds_everything_but_the_picture() -> None:
    assert prediction(revision="abc").to_dict() == {
        "name": "album/photo.jpg",
        "label": "fake",
        "score": 0.9734,
        "logit": 3.6,
        "threshold": 0.5,
        "faces": [
            {
                "box_xyxy": [200.0, 150.0, 400.0, 450.0],
                "landmarks_xy": [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0], [8.0, 9.0]],
                "confidence": 0.5,
                "score": 0.9734,
                "logit": 3.6,
                "label": "fake",
            }
        ],
        "size_hw": [600, 800],
        "model": "meso4-fakefaces@1",
        "revision": "abc",
        "seconds": 0.25,
        "backend": "torch",
        "dtype": "float32",
        "error": None,
    }
    missing = {item.name for item in dataclasses.fields(Prediction)} - set(prediction().to_dict())
    assert missing == {"source", "settings", "content", "fingerprint"}


def test_failure_is_told_in_the_dict() -> None:
    values = failed().to_dict()
    assert values["error"] == {"type": "ImageUnreadable", "message": "photo.jpg: no\nsuch file"}
    assert values["score"] is values["size_hw"] is None and values["faces"] == []


def test_json_takes_numbers_of_numpy_and_any_letters() -> None:
    whole = face(
        box_xyxy=tuple(np.float32([0, 0, 8, 6])), landmarks_xy=np.zeros((0, 2), np.float32), score=np.float32(0.25)
    )
    given = prediction(name="ä.jpg", score=np.float32(0.25), size_hw=tuple(np.array([6, 8])), faces=(whole,))
    values = json.loads(given.to_json())
    assert values == given.to_dict() and values["score"] == 0.25 and values["size_hw"] == [6, 8]
    assert values["faces"][0]["landmarks_xy"] == [] and "ä.jpg" in given.to_json() and "\n" not in given.to_json()
    assert json.loads(given.to_json(indent=2)) == values


def test_no_number_is_no_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        prediction(logit=float("nan")).to_json()


@pytest.mark.parametrize("label", ["fake", "real", "uncertain"])
def test_plot_outlines_every_face_in_the_colour_of_its_label(label: str) -> None:
    other = face(box_xyxy=(500.0, 300.0, 600.0, 420.0), label="real", score=0.1)
    image = prediction(faces=(face(label=label), other)).plot()
    pixels = np.asarray(image)
    assert image.size == (800, 600)
    assert pixels[300, 200].tolist() == list(COLOURS[label])
    assert pixels[350, 500].tolist() == list(COLOURS["real"])
    assert (pixels[160:440, 210:390] == 90).all()


def test_plot_tells_the_score() -> None:
    assert not np.array_equal(prediction().plot(), prediction(faces=(face(score=0.5),)).plot())


def test_plot_says_that_there_is_no_face() -> None:
    pixels = np.asarray(no_face().plot())
    assert (pixels[:540] == 90).all() and (pixels[-1] < 90).all() and (pixels == 255).all(axis=2).any()


def test_plot_opens_the_source_once_more(tmp_path: Path) -> None:
    path, exif = tmp_path / "photo.png", Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(path, exif=exif)
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        assert prediction(source=source).plot().size == (600, 800)


def test_plot_without_a_picture_says_why() -> None:
    with pytest.raises(ImageUnreadable, match="no\nsuch file"):
        failed().plot()
    with pytest.raises(ImageUnreadable, match="holds no picture"):
        prediction(source=None).plot()
    with pytest.raises(ImageUnreadable, match=r"gone\.jpg: no such file"):
        prediction(source="gone.jpg").plot()


def test_save_writes_json_or_a_picture_by_the_ending(tmp_path: Path) -> None:
    with pytest.raises(ImageUnreadable, match="no weights, since no detector scored it"):
        prediction().save(tmp_path / "verdict.JSON")
    assert not (tmp_path / "verdict.JSON").exists()
    for name, form in {"a.png": "PNG", "a.jpg": "JPEG", "a.jpeg": "JPEG", "a.webp": "WEBP"}.items():
        prediction().save(str(tmp_path / name))
        with Image.open(tmp_path / name) as image:
            assert image.format == form and image.size == (800, 600)
    with pytest.raises(ValueError, match=r"ends in '.txt', expected .json or one of .png"):
        prediction().save(tmp_path / "a.txt")
    assert not (tmp_path / "a.txt").exists()


def test_notebook_shows_picture_and_words() -> None:
    text = prediction(name="<b>.jpg")._repr_html_()
    found = re.search(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert found is not None and Image.open(io.BytesIO(base64.b64decode(found[1]))).size == (640, 480)
    assert "fake, score 0.973" in text and "&lt;b&gt;.jpg" in text and "<b>" not in text
    png = prediction()._repr_png_()
    assert png is not None and Image.open(io.BytesIO(png)).format == "PNG"


def test_notebook_shows_words_where_there_is_no_picture() -> None:
    assert failed()._repr_png_() is None
    assert failed()._repr_html_().startswith("<p>error, ImageUnreadable")


def test_verdict_is_frozen_and_is_no_boolean_in_disguise() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction().label = "real"  # type: ignore[misc]
    assert "__bool__" not in dir(Prediction) and not hasattr(prediction(), "__dict__")
    assert prediction() != prediction()  # compared by identity: arrays have no truth


def test_verdict_survives_a_copy_and_a_process() -> None:
    for copied in (copy.deepcopy(prediction()), pickle.loads(pickle.dumps(prediction()))):
        assert copied.to_dict() == prediction().to_dict()
    assert pickle.loads(pickle.dumps(failed())).to_dict() == failed().to_dict()
