"""Test the exported page in headless Chromium: verdicts, offline use, requests, keyboard, widths, failures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image

import deepfake_detect as dd
from deepfake_detect import Detector
from deepfake_detect.export.site import SiteReport
from tests.export.conftest import Node
from tests.provenance import made_files
from tests.small_world import PORTRAIT, empty_scene, group

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = {name: folder / name for name in ("fake.jpg", "group.png", "turned.jpg", "empty.png", "words.jpg")}
    shutil.copy(PORTRAIT.with_name("portrait_fake.jpg"), paths["fake.jpg"])
    Image.fromarray(group(3)).save(paths["group.png"])
    turned = Image.open(PORTRAIT).transpose(Image.Transpose.ROTATE_90)
    turned.save(paths["turned.jpg"], quality=95, exif=made_files.exif_of({0x0112: 6, 0x0131: "Midjourney"}))
    Image.fromarray(empty_scene()).save(paths["empty.png"])
    paths["words.jpg"].write_text("no picture")
    return paths


@pytest.fixture(scope="module")
def visit(node: Node, chromium: str, site: SiteReport, pictures: dict[str, Path]) -> dict[str, Any]:
    job = {
        "site": str(site.path),
        "chromium": chromium,
        "pictures": [str(path) for path in pictures.values()],
        **dict.fromkeys(("evidence", "usable", "offline", "failures"), True),
    }
    result: dict[str, Any] = node("drive_page.mjs", job)
    return result


def test_the_page_gives_the_verdicts_of_python(
    visit: dict[str, Any], mobile: Detector, pictures: dict[str, Path]
) -> None:
    heads = {"fake": "Fake", "real": "Real", "uncertain": "Uncertain", "no-face": "No face"}
    shown = {result["name"]: result for result in visit["results"]}
    for name in ("fake.jpg", "group.png", "turned.jpg", "empty.png"):
        prediction = mobile.predict(pictures[name])
        words, _, score = shown[name]["verdict"].rpartition(" ")
        if prediction.score is None:
            assert shown[name]["verdict"] == heads[prediction.label]
            continue
        assert words == heads[prediction.label]
        assert float(score) == pytest.approx(prediction.score, abs=0.01 if name.endswith(".jpg") else 0.0025)
        assert len(shown[name]["faces"]) == (len(prediction.faces) if len(prediction.faces) > 1 else 0)
    assert "names the generator Midjourney" in shown["turned.jpg"]["metadata"][0]
    assert shown["words.jpg"]["verdict"].startswith("Could not be scored: the file is no picture")
    taken = [result["name"] for result in visit["taken"]]
    assert {"paste.png", "drop.png"} <= set(taken) and taken[0].startswith("camera")
    assert visit["camera"] == {"open": False, "streams": False}


def test_the_saved_evidence_is_a_case_that_python_confirms(visit: dict[str, Any], pictures: dict[str, Path]) -> None:
    case = visit["evidence"]["case"]
    jsonschema.validate(case, json.loads((ROOT / "docs/case.schema.json").read_text()))
    verification = dd.verify(case, pictures["fake.jpg"], device="cpu", dtype="float32", backend="torch")
    assert verification.ok, str(verification)
    assert visit["evidence"]["file"] == "fake.case.json"


def test_no_request_leaves_the_page(visit: dict[str, Any], site: SiteReport) -> None:
    assert visit["console"] == []
    assert all(url.startswith(f"{visit['origin']}/") for url in visit["requests"])
    assert visit["requests_before_offline"] == []  # once it is loaded, nothing at all
    assert site.size_bytes < 8_000_000


def test_the_page_works_offline_and_then_with_threads(visit: dict[str, Any]) -> None:
    assert [result["verdict"] for result in visit["offline"]] == [visit["results"][0]["verdict"]]
    assert visit["isolated"] is True
    assert "works without a network" in visit["offline_about"]


def test_the_page_is_usable_by_keyboard_screen_reader_and_phone(visit: dict[str, Any]) -> None:
    assert visit["violations"] == {"light": [], "dark": []}
    assert visit["widths"] == {"390": 0, "1400": 0}
    assert visit["keyboard"]["chooses"] is True
    assert {"heat", "save", "remove"} <= set(visit["keyboard"]["reached"])
    assert all(result["picture"] for result in visit["results"][:4])


def test_files_that_do_not_fit_are_named(visit: dict[str, Any]) -> None:
    failures = visit["failures"]
    assert all(message.startswith("The detector cannot be loaded: ") for message in failures.values())
    assert "detector.onnx is damaged or another file: its sha256 is" in failures["damaged"]
    assert "lacks pixels, logit, heat (it has inputs input;" in failures["foreign"]
    assert "/model/finder.onnx cannot be loaded: the server answers 404" in failures["missing"]
    assert 'schema "undefined", expected "deepfake-detect/model@1"' in failures["manifest"]


def test_the_extension_scores_the_picture_that_was_clicked_on(
    node: Node, chromium: str, site: SiteReport, visit: dict[str, Any], pictures: dict[str, Path], tmp_path: Path
) -> None:
    extension = shutil.copytree(ROOT / "examples" / "browser-extension", tmp_path / "extension")
    shutil.copytree(site.path, extension / "site", dirs_exist_ok=True)
    names = ["fake.jpg", "words.jpg"]
    job = {
        "extension": str(extension),
        "chromium": chromium,
        "pictures": str(pictures["fake.jpg"].parent),
        "names": names,
    }
    result = node("drive_extension.mjs", job)
    assert result["verdicts"]["fake.jpg"]["verdict"] == visit["results"][0]["verdict"]
    assert result["verdicts"]["words.jpg"]["verdict"].startswith("Could not be scored: the file is no picture")
    asked = {url for url in result["requests"] if not url.startswith("chrome-extension://")}
    assert asked <= {f"{result['origin']}/{name}" for name in names}  # or from the browser's cache
