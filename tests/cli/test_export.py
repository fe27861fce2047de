"""Test that ``deepfake-detect export`` writes a file that ``predict`` then takes."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from deepfake_detect.cli.main import main
from tests.small_world import PORTRAIT, small_bundle


def test_an_exported_file_is_a_model(tmp_path: Path) -> None:
    bundle, file = small_bundle(tmp_path / "bundle"), tmp_path / "model.onnx"
    done = CliRunner().invoke(main, ["export", "--model", str(bundle), "--out", str(file), "--preprocessing", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["input"] == "crops" and file.is_file()
    scores = []
    for model in (bundle, file):
        done = CliRunner().invoke(main, ["predict", str(PORTRAIT), "--model", str(model), "--jsonl"])
        scores.append(round(json.loads(done.stdout)["score"], 4))
    assert scores[0] == scores[1]


def test_int8_without_data_is_wrong_usage(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "bundle")
    done = CliRunner().invoke(
        main, ["export", "--model", str(bundle), "--out", str(tmp_path / "a.onnx"), "--dtype", "int8"]
    )
    assert done.exit_code == 2 and "needs a labelled data set" in done.stderr
