"""Test that the script of the page computes what Python computes: byte for byte from given pixels to crops."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from deepfake_detect import Card, Detector, Preprocessing
from deepfake_detect.drawing.heatmap import heat_colours
from deepfake_detect.export import site as site_module
from deepfake_detect.export.site import SiteReport
from deepfake_detect.faces.crop import crop_face
from deepfake_detect.inputs.image import open_image
from deepfake_detect.inputs.resize import resample
from deepfake_detect.predict.preprocess import normalise
from deepfake_detect.predict.verdict import judge
from deepfake_detect.provenance.inspector import inspect_metadata
from deepfake_detect.provenance.tables import trace_tables
from tests.export.conftest import Node
from tests.provenance import made_files
from tests.small_world import PORTRAIT, empty_scene, group

PAGE = Path(site_module.__file__).with_name("page")
MODULE = str(PAGE / "deepfake-detect.js")
PICTURES = [
    *sorted(PORTRAIT.parent.glob("*.jpg")),
    *sorted((Path(__file__).parents[1] / "data/still_wrong").glob("*.jpg")),
]


def test_crops_have_the_bytes_of_python(node: Node) -> None:
    random = np.random.default_rng(0)
    shapes = [(37, 91), (211, 173), (2, 300), (64, 64), (320, 480)]
    pictures = [random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    cases, expected = list[dict[str, Any]](), list[np.ndarray]()
    for number, pixels in enumerate(pictures):
        height, width = pixels.shape[:2]
        for interpolation in ("bilinear", "bicubic", "mipmap"):
            for size_px in (7, 64, 160):
                left, top, right, bottom = random.uniform(0, 0.5, 4) * (width, height, width, height)
                box = (float(left), float(top), float(width - right), float(height - bottom))
                common = {"picture": number, "box": box}
                look = {"margin": 1.3, "size_px": size_px, "interpolation": interpolation}
                cases.append({"verb": "crop", **common, "preprocessing": look})
                expected.append(crop_face(pixels, box, **look))
                cases.append(
                    {"verb": "resample", "picture": number, "size_px": size_px, "interpolation": interpolation}
                )
                expected.append(resample(pixels, size_px=size_px, interpolation=interpolation))
        for scale in (1 / 2, 1 / 3, 0.37, 0.9):
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            cases.append({"verb": "shrink", "picture": number, "width": size[0], "height": size[1]})
            expected.append(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    answers = node("numbers.mjs", {"pictures": list(map(_picture, pictures)), "cases": cases}, before=[MODULE])
    for case, answer, pixels in zip(cases, answers, expected, strict=True):
        found = np.frombuffer(base64.b64decode(answer), np.uint8).reshape(pixels.shape)
        np.testing.assert_array_equal(found, pixels, err_msg=str(case))


def test_numbers_become_a_verdict_as_in_python(node: Node) -> None:
    look = Preprocessing(size_px=4, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    card = Card(
        name="a", version=1, architecture="meso4", preprocessing=look, temperature=1.7, bias=-0.3, uncertain=(0.3, 0.8)
    )
    crop = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    logits = [(-40.0, None), (0.0, None), (3.0, None), (0.0, 0.42), (0.6, 0.5)]
    cases = [{"verb": "normalise", "crops": [_text(crop)], "preprocessing": asdict(look)}]
    cases += [
        {"verb": "judge", "logit": logit, "card": asdict(card), "threshold": threshold} for logit, threshold in logits
    ]
    cases += [{"verb": "colour", "share": share} for share in (0, 0.4, 1)]
    record = {"b": [0.1, -3, 1e-5, 1.25e-07, 123456.789, None, True], "a": {"é\x7f\n": '𝄞 "x"', "": 0.00012}}
    cases += [{"verb": "json", "value": record}]
    normalised, *rest, text = node("numbers.mjs", {"pictures": [], "cases": cases}, before=[MODULE])
    planes = np.frombuffer(base64.b64decode(normalised), np.float32).reshape(1, 3, 4, 4)
    np.testing.assert_array_equal(planes, normalise([crop], preprocessing=look).transpose(0, 3, 1, 2))
    verdicts = [judge(logit, card=card, threshold=threshold) for logit, threshold in logits]
    assert [label for _, label in rest[:5]] == [label for _, label in verdicts]
    np.testing.assert_allclose([score for score, _ in rest[:5]], [score for score, _ in verdicts], rtol=1e-12)
    np.testing.assert_array_equal(rest[5:], heat_colours([0, 0.4, 1]))
    assert text == json.dumps(record, sort_keys=True)


def test_metadata_are_described_as_in_python(node: Node) -> None:
    png = made_files.png_text("parameters", made_files.A1111)
    source = f'ext:DigitalSourceType="{made_files.SOURCE_TYPE}trainedAlgorithmicMedia"'
    exif = made_files.exif_of(
        {0x0131: "Adobe Photoshop 25.0", 0x010F: "Canon", 0x0110: "Canon EOS R5"}, {0x9286: b"ASCII\0\0\0" + b"hello"}
    )
    packed = made_files.png_international("prompt", made_files.COMFY_PROMPT, packed=True)
    files = {
        "png": png,
        "packed": packed,
        "xmp": made_files.jpeg_with_xmp(made_files.xmp(source)),
        "exif": made_files.encode(exif=exif),
        "iptc": made_files.jpeg_with_resources(made_files.resource(0x0404, made_files.iptc_record(65, "Midjourney"))),
        "plain": made_files.encode(format_name="PNG"),
        "webp": made_files.encode(format_name="WEBP", exif=made_files.exif_of({0x0131: "FaceApp"})),
    }
    cases = [{"verb": "metadata", "bytes": _text(data), "traces": trace_tables()} for data in files.values()]
    answers = node("numbers.mjs", {"pictures": [], "cases": cases}, before=[MODULE])
    for name, data, answer in zip(files, files.values(), answers, strict=True):
        expected = inspect_metadata(data).to_dict()
        assert (answer["format"], answer["size_hw"], answer["c2pa"]) == (
            expected["format"],
            expected["size_hw"],
            "absent",
        ), name
        assert answer["findings"], name
        for finding in answer["findings"]:
            assert finding in expected["findings"], name
        strong = [
            f for f in expected["findings"] if f["strength"] in ("strong", "moderate") and f["code"] != "jpeg-encoder"
        ]
        assert all(finding in answer["findings"] for finding in strong), name


def test_scores_are_those_of_python(node: Node, mobile: Detector, site: SiteReport) -> None:
    pictures = [*(open_image(path).pixels for path in PICTURES), group(3), empty_scene()]
    cases: list[dict[str, Any]] = [{"verb": "exports"}, {"verb": "wasm", "folder": str(site.path / "model")}]
    cases += [{"verb": "load", "folder": str(site.path / "model")}]
    cases += [{"verb": "predict", "picture": number} for number in range(len(pictures))]
    cases += [{"verb": "predict", "picture": 0, "options": {"faces": "none", "threshold": 0.4}}]
    job = {"pictures": list(map(_picture, pictures)), "cases": cases}
    exports, no_wasm, name, *answers = node("numbers.mjs", job, before=[str(site.path / "deepfake-detect.js")])
    assert no_wasm[0] == "no-wasm" and "WebAssembly" in no_wasm[1]
    assert name == "mobile-fakefaces"
    declared = re.findall(
        r"^export (?:class|function|const) (\w+)", (PAGE / "deepfake-detect.d.ts").read_text(), re.MULTILINE
    )
    assert sorted(declared) == sorted(exports)
    expected = [mobile.predict(pixels) for pixels in pictures] + [
        mobile.predict(pictures[0], faces="none", threshold=0.4)
    ]
    assert {prediction.label for prediction in expected} >= {"real", "fake", "no-face"}
    for answer, prediction in zip(answers, expected, strict=True):
        assert (answer["label"], answer["size_hw"]) == (prediction.label, list(prediction.size_hw or ()))
        assert len(answer["faces"]) == len(prediction.faces)
        for found, face in zip(answer["faces"], prediction.faces, strict=True):
            np.testing.assert_allclose(found["box_xyxy"], face.box_xyxy, atol=0.02)
            np.testing.assert_allclose(np.reshape(found["landmarks_xy"], (-1, 2)), face.landmarks_xy, atol=0.02)
            assert found["score"] == pytest.approx(face.score, abs=0.002)
    evidence = mobile.predict(pictures[0]).to_case()
    for part in ("input", "weights", "settings"):
        assert {**answers[0]["evidence"][part], "name": ""} == {**evidence[part], "name": ""}


def test_a_picture_that_a_page_cannot_hold_is_refused_before_it_is_decoded(node: Node) -> None:
    huge = made_files.chunk(b"IHDR", (10_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0")
    cases = [{"verb": "open", "bytes": _text(data)} for data in (b"\x89PNG\r\n\x1a\n" + huge, b"")]
    (code, message), (empty, _) = node("numbers.mjs", {"pictures": [], "cases": cases}, before=[MODULE])
    assert code == "image-too-large" and "100 megapixels" in message and "64 megapixels" in message
    assert empty == "image-unreadable"


def _text(data: np.ndarray | bytes) -> str:
    return base64.b64encode(data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()).decode()


def _picture(pixels: np.ndarray) -> dict[str, Any]:
    return {"data": _text(pixels), "width": pixels.shape[1], "height": pixels.shape[0], "channels": 3}
