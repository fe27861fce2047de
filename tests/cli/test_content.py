"""Test ``predict --content`` and ``--route``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from deepfake_detect import classify_content
from deepfake_detect.cli.main import main
from tests.small_world import PORTRAIT, small_bundle


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Write a picture that shows nothing known."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    assert classify_content(tmp_path / "noise.png").label != "face"
    return tmp_path / "noise.png"


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_content_says_why_there_is_no_score(tmp_path: Path, noise: Path) -> None:
    bundle = small_bundle(tmp_path / "bundle")
    portrait, scene = json.loads(run("predict", PORTRAIT, noise, "--model", bundle, "--content", "--json").stdout)
    assert portrait["content"]["label"] == "face" and portrait["label"] != "no-face"
    assert scene["label"] == "no-face" and scene["content"] == json.loads(classify_content(noise).to_json())
    assert f"({scene['content']['label']} 0." in run("predict", noise, "--model", bundle, "--content").stdout
    assert "content" not in json.loads(run("predict", noise, "--model", bundle, "--json").stdout)[0]


def test_a_route_scores_what_shows_no_face(tmp_path: Path, noise: Path) -> None:
    faces, things = small_bundle(tmp_path / "f", name="faces"), small_bundle(tmp_path / "t", name="things")
    route = f"{classify_content(noise).label}={things}"
    done = run("predict", PORTRAIT, noise, "--model", faces, "--route", route, "--json")
    portrait, scene = json.loads(done.stdout)
    assert portrait["model"].startswith("faces@") and scene["model"].startswith("things@")
    assert scene["score"] is not None and scene["size_hw"] == [200, 200]


def test_a_picture_that_no_detector_scores_has_no_case(tmp_path: Path, noise: Path) -> None:
    faces, route = small_bundle(tmp_path / "f", name="faces"), f"face={small_bundle(tmp_path / 't', name='other')}"
    cases = tmp_path / "cases"
    done = run("predict", noise, PORTRAIT, "--model", faces, "--route", route, "--evidence", cases)
    assert done.exit_code == 0 and done.stdout.splitlines()[0].startswith("no-face")
    (case,) = cases.iterdir()
    assert json.loads(case.read_text("utf-8"))["weights"]["id"].startswith("other@")


def test_the_choice_of_faces_cannot_be_combined_with_a_route() -> None:
    done = run(
        "predict", PORTRAIT, "--model", "meso4-fakefaces", "--faces", "all", "--route", "vehicle=meso4-fakefaces"
    )
    assert done.exit_code == 2 and "--faces cannot be combined with --route" in done.stderr


@pytest.mark.parametrize(
    ("route", "message"),
    [("vehicle", "expected CLASS=M"), ("fish=", "expected CLASS=M"), ("fish=folder", "classes: animal, face")],
)
def test_a_route_without_weights_is_refused(route: str, message: str) -> None:
    done = run("predict", PORTRAIT, "--model", "meso4-fakefaces", "--route", route)
    assert done.exit_code == 2 and message in done.stderr
