"""Test the exported file: its numbers, its metadata, and the face finder next to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from deepfake_detect.faces.finder import FaceFinder
from deepfake_detect.predict.preprocess import normalise
from deepfake_detect.weights.onnx_file import read_onnx
from tests.small_world import portrait, small_detector


def test_an_exported_file_answers_as_the_detector(tmp_path: Path) -> None:
    detector = small_detector(temperature=2.0, bias=0.5)
    crops = np.stack(detector.look(portrait()).crops * 3)
    expected = detector.predict(portrait())
    assert expected.logit is not None and expected.score is not None
    inputs = {
        "pixels": normalise(crops, preprocessing=detector.card.preprocessing).transpose(0, 3, 1, 2),
        "crops": crops,
    }
    for kind, batch in inputs.items():
        report = detector.export(tmp_path / f"{kind}.onnx", preprocessing=kind == "crops")
        file = read_onnx(report.path)
        assert (file.input, file.dtype, file.card.temperature) == (kind, "float32", 2.0)
        session = onnxruntime.InferenceSession(file.content, providers=["CPUExecutionProvider"])
        logits, scores = session.run(None, {kind: batch})
        np.testing.assert_allclose(logits, [expected.logit] * 3, atol=1e-5)
        np.testing.assert_allclose(scores, [expected.score] * 3, atol=1e-5)
    assert report.finder is not None and report.finder.read_bytes() == FaceFinder().weights
